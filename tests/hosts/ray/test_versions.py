"""Nodes that do not belong together do not become one cluster."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from cluster import PATIENCE, ROOT, SMALL_POOL, Cluster, free_port, until


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
    for words in (["ray", "start"], ["--on", "ray", "start"]):  # by the command of all platforms
        again = subprocess.run([os.environ["THOLE_COMMAND"], *words, "--pool", SMALL_POOL, "--node", "bench-0"], env=head.environment, text=True,
                               capture_output=True, timeout=PATIENCE, check=False)
        assert (again.returncode, again.stderr) == (done.returncode, done.stderr), words


def test_stop_ends_what_it_started_and_forgets_it(head):
    assert head.program("stop").stdout.startswith("stopped bench-0")
    again = head.program("stop", check=False)
    assert again.returncode == 66
    assert head.program("pool", check=False).returncode == 66


def test_a_head_without_thole_is_refused(tmp_path):
    """A head that plain `ray start` has made: its cluster has nobody to plan on, and this node does not join it."""
    port, log, short = free_port(), tmp_path / "head.log", tempfile.mkdtemp(prefix="thole-plain-")  # Ray's sockets have room for no more
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")}, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                   "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with open(log, "w", encoding="utf-8") as out:
        plain = subprocess.Popen([pathlib.Path(sys.executable).parent / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
                                  f"--port={port}", "--include-dashboard=false", "--num-cpus=1", f"--temp-dir={short}"],
                                 env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: "Ray runtime started" in log.read_text() or plain.poll() is not None, what="the head")
        assert plain.poll() is None, log.read_text()
        done = subprocess.run([sys.executable, "-m", "thole.ray", "--state", str(tmp_path / "state"), "start", "--pool", SMALL_POOL,
                               "--address", f"127.0.0.1:{port}"], env=environment, text=True, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 77 and "AbiUnsupported" in done.stderr and "start its head with `thole ray start` too" in done.stderr, done.stderr
    finally:
        if plain.poll() is None:
            os.killpg(plain.pid, signal.SIGKILL)
        plain.wait()
        shutil.rmtree(short)


def test_up_and_down(tmp_path):
    """The scripts beside these tests: a cluster to try things on."""
    folder, scripts = tmp_path / "up", ROOT / "tests/hosts/ray"
    for bad in ([], [str(folder), "0"], [str(folder), "x"]):
        done = subprocess.run([scripts / "up", *bad], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "usage" in done.stderr and not folder.exists()
    subprocess.run([scripts / "up", folder, "2"], check=True, timeout=PATIENCE)
    pool = subprocess.run(["bash", "-c", f". {folder}/environment && thole-ray pool"], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "bench-0" in pool.stdout and "bench-1" in pool.stdout, pool.stdout
    subprocess.run([scripts / "down", folder], check=True, timeout=PATIENCE)
    assert not folder.exists()
