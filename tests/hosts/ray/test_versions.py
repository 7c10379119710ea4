"""Nodes that do not belong together do not become one cluster."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from cluster import DIGITS, PATIENCE, ROOT, SMALL_POOL, Cluster, free_port, until
from watch import processes_left


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


# As if another package were installed there; and as if the node had joined by itself, without asking what the cluster runs.
OTHER = """
import sys, thole
thole.__version__ = '9.9.9'
from thole.ray import cluster
cluster._names_of_cluster = lambda known: ['bench-0']
from thole.ray.command import main
sys.exit(main(sys.argv[1:]))
"""
CALLS = """
import sys, ray, thole.ray
ray.init(log_to_driver=False)
refused = 0

def call():
    pass

for place in (lambda: thole.ray.vgpu(memory='1Gi')(call).remote(), lambda: thole.ray.gang(thole.ray.Role(2, memory='20Gi'), timeout=5).__enter__()):
    try:
        place()
    except thole.TholeError as refusal:
        print(refusal)
        refused += refusal.reason == 'AbiUnsupported'
print(f'{refused} of 2 were refused')
"""


def test_two_versions_on_two_nodes_place_nothing():
    """A node of another version that is in the cluster all the same: no call and no gang is placed, and its name is said."""
    cluster = Cluster(SMALL_POOL, 1)
    try:
        done = subprocess.run([sys.executable, "-c", OTHER, "start", "--json", "--pool", SMALL_POOL, "--port", str(cluster.port)], env=cluster.environment,
                              text=True, capture_output=True, timeout=PATIENCE, check=False, cwd=ROOT)
        assert done.returncode == 0 and len(cluster.known()["nodes"]) == 2, done.stderr
        said = subprocess.run(["bash", "-c", 'eval "$("$0" -m thole.ray environment)"; exec "$0" -c "$1"', sys.executable, CALLS], env=cluster.environment, text=True,
                              capture_output=True, timeout=PATIENCE, check=False)
        assert "2 of 2 were refused" in said.stdout and said.stdout.count("node bench-1 runs Thole 9.9.9, this program 0.1.0") == 2, said.stdout + said.stderr
        print(said.stdout.splitlines()[-1])
    finally:
        cluster.stop()


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


def test_up_and_down(tmp_path, local):
    """The scripts beside these tests: a head and three nodes, on which the digits job goes over two; nothing is left afterwards."""
    folder, scripts = tmp_path / "up", ROOT / "tests/hosts/ray"
    for bad in ([], [str(folder), "0"], [str(folder), "x"]):
        done = subprocess.run([scripts / "up", *bad], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "usage" in done.stderr and not folder.exists()
    subprocess.run([scripts / "up", folder], check=True, timeout=PATIENCE)
    try:
        def inside(words):
            return subprocess.run(["bash", "-c", f". {folder}/environment && {words}"], capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

        pool = json.loads(inside("thole-ray pool --json"))
        assert len({g["node"] for g in pool["gpus"]}) == 4, pool
        ended = json.loads(inside(f"thole-ray submit {DIGITS} --wait --json"))
        assert ended["result"]["digest"] == local and len({m["node"] for m in ended["gang"]}) == 2, ended
    finally:
        subprocess.run([scripts / "down", folder], check=True, timeout=PATIENCE)
    assert not folder.exists() and not processes_left(folder)
    print(f"a head and three nodes; digest {local} = {local}")
