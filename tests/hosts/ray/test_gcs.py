"""The GCS is killed: with a store of its own the head goes on where it was, and so do its jobs; without one it is said clearly."""
import inspect
import json
import os
import pathlib
import subprocess
import sys
import time

import incidents
import pytest
import redisserver
from cluster import DIGITS, PATIENCE, ROOT, SMALL_POOL, Cluster, kill, until
from ray._private.node import Node
from running import Running


def gcs_of(cluster):
    return next(pid for pid, _, program in cluster.processes() if program.endswith(b"gcs/gcs_server"))


def left_of(cluster):
    """Processes that the cluster's nodes and members have left behind: their environment names its folder."""
    found = []
    for process in pathlib.Path("/proc").iterdir():
        try:
            if process.name.isdigit() and int(process.name) != os.getpid() and str(cluster.folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ")[:100])
        except OSError:
            continue
    return found


@pytest.fixture
def store(request, tmp_path):
    if request.param == "folder":
        if not hasattr(Node, "_is_rocksdb_gcs"):
            pytest.skip("needs ray with RocksDB: 2.60 has it")
        yield str(tmp_path / "gcs")
        return
    if os.environ.get("THOLE_TEST_LONG") != "1":
        pytest.skip("needs long: with a folder it is the same, and it takes two minutes")
    if redisserver.program() is None:
        pytest.skip("needs redis-server: apt-get install redis-server")
    server = redisserver.Redis(tmp_path)
    yield f"redis://127.0.0.1:{server.port}"
    server.stop()


def disconnect():
    import ray

    ray.shutdown()


@pytest.mark.parametrize("store", ["folder", "redis"], indirect=True)
def test_a_head_with_a_store_is_started_again(local, store, request):
    cluster = Cluster(SMALL_POOL, 0)
    try:
        cluster.start("--gcs-store", store)
        cluster.start()
        cluster.start()
        cluster.connect()
        running = Running(cluster)
        before, _ = running.at_step(50)
        disconnect()
        killed = time.time()
        kill(gcs_of(cluster))
        made = cluster.start()  # the same words as for every node: it is the head that is missing
        assert made["head"] and made["node"] == "bench-0"
        ended = running.end()
        assert ended["result"]["digest"] == local and ended["run"] == before["run"] and ended["attempts"] == 2, ended
        first = ended["incidents"][0]
        # The ranks train on while the head is away: where they have come to the end meanwhile, nothing is left to be done again.
        seconds = None if first["recoverySeconds"] is None else first["noticed"] + first["recoverySeconds"] - killed
        incidents.record("ray", f"GCS killed, store in a {request.node.callspec.params['store']}", ended["result"]["digest"], seconds)
        again = cluster.program("start", "--pool", SMALL_POOL, "--gcs-store", "/elsewhere", check=False)
        assert again.returncode == 65 and "belongs to the head" in again.stderr
    finally:
        disconnect()
        cluster.stop()
    until(lambda: not left_of(cluster), what="the end of every process")


def test_a_head_without_a_store_is_lost(local):
    cluster = Cluster(SMALL_POOL, 2)
    try:
        cluster.connect()
        running = Running(cluster, patience=10)
        before, _ = running.at_step(50)
        disconnect()
        kill(gcs_of(cluster))
        running._thread.join(PATIENCE)
        assert running.done.returncode == 69 and "JobInterrupted" in running.done.stderr, running.done
        until(lambda: not [words for words in left_of(cluster) if b"train.py" in words], what="the end of the ranks")  # by themselves
        lost = cluster.program("start", "--pool", SMALL_POOL, check=False)
        assert lost.returncode == 69 and "without --gcs-store" in lost.stderr and "thole-ray resume" in lost.stderr, lost.stderr
        cluster.stop()
        until(lambda: not left_of(cluster), what="the end of every process")
        assert cluster.job("digits")["running"]  # nobody has written down an end
        cluster.start()
        cluster.start()
        refused = cluster.program("submit", DIGITS, check=False)
        assert refused.returncode == 69 and "JobInterrupted" in refused.stderr and "resume" in refused.stderr
        ended = json.loads(cluster.program("resume", "digits", "--wait", "--json").stdout)
        assert ended["result"]["digest"] == local and ended["run"] == before["run"] and ended["attempts"] == 2
        [lost] = ended["incidents"]
        # The ranks train on without the head until their node ends; on a fast machine to the last step, after which nothing is to go on.
        assert lost["safeStep"] >= 20 and (lost["restoredStep"] is None or lost["restoredStep"] >= lost["safeStep"]), lost
    finally:
        disconnect()
        cluster.stop()
    until(lambda: not left_of(cluster), what="the end of every process")


def test_names_of_rays_own():
    """What of this is not public, by name."""
    from ray._private import services, utils

    assert "ray_current_cluster" in inspect.getsource(services) and "get_ray_address_file(temp_dir)" in inspect.getsource(utils.read_ray_address)
    assert "RAY_REDIS_ADDRESS" in inspect.getsource(Node)
    assert not hasattr(Node, "_is_rocksdb_gcs") or "gcs_storage_path" in inspect.getsource(Node)


def test_a_start_that_is_killed_halfway_can_be_stopped():
    cluster = Cluster(SMALL_POOL, 0)
    starting = subprocess.Popen([sys.executable, "-m", "thole.ray", "start", "--pool", SMALL_POOL, "--port", str(cluster.port)],
                                env=cluster.environment, cwd=ROOT)
    until(lambda: (cluster.folder / "cluster.json").exists(), what="the node's name in the file")
    starting.kill()
    starting.wait()
    assert cluster.program("stop").stdout == "stopped bench-0\n"
    until(lambda: not left_of(cluster), what="the end of every process")


@pytest.mark.parametrize("store, reason", [("redis://:secret@127.0.0.1:1", "RAY_REDIS_PASSWORD"), ("http://127.0.0.1", "redis://HOST:PORT")])
def test_a_store_that_cannot_be(tmp_path, store, reason):
    cluster = Cluster(SMALL_POOL, 0)
    done = cluster.program("start", "--pool", SMALL_POOL, "--gcs-store", store, check=False)
    assert done.returncode == 65 and reason in done.stderr and "secret" not in done.stderr
