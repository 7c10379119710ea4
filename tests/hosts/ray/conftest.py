import json
import os
import pathlib
import subprocess
import sys

import pytest

# Ray reads them when it is imported, whichever test is the first to do so: without them it looks for 127.0.0.1 elsewhere, and hangs.
os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
sys.path[:0] = [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "faults"))
from cluster import DIGITS, PATIENCE, ROOT, SMALL_POOL, Cluster  # noqa: E402


def _connected(pool, nodes, ray_options=()):
    cluster = Cluster(pool, nodes, ray_options=ray_options)
    try:
        cluster.connect()
        yield cluster
    finally:
        import ray

        ray.shutdown()
        cluster.stop()


@pytest.fixture(scope="module")
def small():
    """samples/ray/pool.yaml by `up`: a head and three nodes of one GPU each, of which two are needed for digits; the others stand by."""
    cluster, scripts = Cluster(SMALL_POOL, 0), pathlib.Path(__file__).resolve().parent
    try:
        subprocess.run([scripts / "up", cluster.folder, "4"], env={**cluster.environment, "THOLE_RAY_PROGRAMS": str(pathlib.Path(sys.executable).parent)},
                       check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)
        cluster.connect()
        yield cluster
    finally:
        import ray

        ray.shutdown()
        subprocess.run([scripts / "down", cluster.folder], check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Two nodes of four GPUs of 24 GiB; plain Ray is told of as many of its own, to show it beside."""
    pool = tmp_path_factory.mktemp("pool") / "pool.yaml"
    pool.write_text("apiVersion: thole.dev/v1alpha1\nkind: NodePool\nmetadata: {name: wide}\nspec:\n  simulated: true\n"
                    "  nodes: [{name: wide, count: 2}]\n  gpus: {count: 4, memory: 24Gi, contextMemory: 512Mi}\n"
                    "  cpu: 16\n  memory: 16Gi\n")
    yield from _connected(str(pool), 2, ["--num-gpus=4", "--object-store-memory=100000000"])


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """The digest of `thole run` on this machine."""
    state = tmp_path_factory.mktemp("local")
    done = subprocess.run([os.environ["THOLE_COMMAND"], "--state", str(state), "--json", "run", DIGITS, "--pool",
                           str(ROOT / "samples/digits/pool.yaml"), "--no-metrics-page"], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["result"]["digest"]
