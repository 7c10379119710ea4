"""`thole ray ...` and `thole --on ray ...`: the words of the README and of every platform, with the samples as they are."""
import json
import os
import subprocess
import tempfile

import pytest
from cluster import PATIENCE, ROOT, Cluster, until

POOL = str(ROOT / "samples/digits/pool.yaml")


@pytest.fixture
def cluster():
    made = Cluster(POOL, 0)
    yield made
    made.stop()


def thole(cluster, *words, check=True, **more):
    done = subprocess.run([os.environ["THOLE_COMMAND"], *words], env={**cluster.environment, **more}, cwd=ROOT, text=True, capture_output=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def test_the_samples_as_they_are(cluster, local):
    """A head and a second node of one pool, and a third that joins from a folder of its own, by the head's address."""
    head = json.loads(thole(cluster, "ray", "start", "--json", "--pool", POOL, "--port", str(cluster.port)).stdout)
    second = json.loads(thole(cluster, "ray", "start", "--json", "--pool", POOL).stdout)
    assert (head["head"], second["head"], head["gpus"], second["gpus"]) == (True, False, 2, 2) and head["node"] != second["node"]
    with tempfile.TemporaryDirectory(prefix="thole-other.", dir="/tmp") as other:
        third = json.loads(thole(cluster, "ray", "start", "--json", "--pool", POOL, "--address", head["address"], THOLE_RAY_STATE=other).stdout)
        try:
            pool = json.loads(thole(cluster, "--on", "ray", "pool", "--json").stdout)
            assert {g["node"] for g in pool["gpus"]} == {head["node"], second["node"], third["node"]} and len(pool["gpus"]) == 6
        finally:
            thole(cluster, "ray", "stop", THOLE_RAY_STATE=other)
    assert json.loads(thole(cluster, "explain", "--on", "ray", "--json", "samples/digits/job.yaml").stdout)["fits"] == 1
    thole(cluster, "submit", "--on", "ray", "samples/digits/job.yaml")
    followed = thole(cluster, "logs", "--on", "ray", "-f", "digits")
    assert all(f"{rank}| " in followed.stdout + followed.stderr for rank in range(4)), followed.stderr
    ended = json.loads(thole(cluster, "status", "--on", "ray", "--json", "digits").stdout)
    assert ended["phase"] == "done" and ended["result"]["digest"] == local, ended
    longer = (ROOT / "samples/digits/job.yaml").read_text().replace("[python3, train.py]", '[python3, train.py, --steps, "20000"]').replace("name: digits", "name: longer", 1)
    (cluster.folder / "job.yaml").write_text(longer.replace("workdir: .", f"workdir: {ROOT}/samples/digits"))
    thole(cluster, "submit", "--on", "ray", str(cluster.folder / "job.yaml"))
    until(lambda: json.loads(thole(cluster, "status", "--on", "ray", "--json", "longer").stdout)["steps"]["newest"] >= 20, what="step 20")
    stopped = thole(cluster, "cancel", "--on", "ray", "longer", "--json")
    assert json.loads(stopped.stdout)["phase"] == "stopped"
    print(f"three nodes, one of them of another folder; digest {local} = {local}")
