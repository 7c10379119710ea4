"""Nodes that do not belong together do not become one cluster."""
import subprocess
import sys

import pytest
from cluster import PATIENCE, SMALL_POOL, Cluster


@pytest.fixture(scope="module")
def head():
    cluster = Cluster(SMALL_POOL, 1)
    yield cluster
    cluster.stop()


def test_another_version_is_refused(head):
    program = "import sys, thole; thole.__version__ = '9.9.9'; from thole.ray.command import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, "start", "--pool", SMALL_POOL], env=head.environment, text=True,
                          capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 69 and "runs Thole 0.1.0, this node has 9.9.9" in done.stderr, done.stderr
    assert len(head.known()["nodes"]) == 1


def test_a_name_twice_is_refused(head):
    done = head.program("start", "--pool", SMALL_POOL, "--node", "bench-0", check=False)
    assert done.returncode == 65 and "NodeBad" in done.stderr


def test_stop_ends_what_it_started_and_forgets_it(head):
    assert head.program("stop").stdout.startswith("stopped bench-0")
    again = head.program("stop", check=False)
    assert again.returncode == 66
    assert head.program("pool", check=False).returncode == 66
