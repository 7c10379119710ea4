#!/usr/bin/env python3
"""How long a killed rank takes to come back on Kubernetes: digits on two real kubelets, a rank killed again and again.

From the SIGKILL until rank 0 of the next attempt says after which step it goes on. THOLE_KILLS says how many (20).
"""
from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/hosts/kubernetes"))
import installed as installation  # noqa: E402
from client import Refused  # noqa: E402
from cluster import Cluster, missing, wait_for  # noqa: E402
from conftest import NO_GATES  # noqa: E402

KILLS = int(os.environ.get("THOLE_KILLS", "20"))
SPACE = "recovery"


def goes_on(cluster, attempt):
    try:
        return "goes on after step" in cluster.api.logs(f"digits-{attempt}-trainer-0", "main", SPACE)
    except Refused:
        return False  # it has not begun


def main():
    if reason := missing():
        sys.exit(f"kubernetes: {reason}")
    folder = tempfile.mkdtemp(prefix="thole-k8s.", dir="/tmp")
    programs = pathlib.Path(tempfile.mkdtemp(prefix="thole-programs.", dir="/tmp"))
    subprocess.run([ROOT / "adapters/kubernetes/setup/build", programs], check=True)
    cluster = Cluster(folder)
    choice = random.Random(7)
    seconds = []
    try:
        cluster.up(nodes=2, gates=NO_GATES)
        installation.install(cluster, installation.images(programs))
        installation.make_store(cluster, SPACE, os.environ["THOLE_COMMAND"])
        text = (installation.DIGITS / "job.yaml").read_text().replace("[python3, train.py]", '[python3, train.py, --steps, "1000000"]')
        cluster.kubectl("apply", "-n", SPACE, "-f", "-", given=text)
        step = 0
        for _ in range(KILLS):
            step = installation.wait_for_checkpoint(cluster, SPACE, step + 20)
            rank = choice.randrange(4)
            pid = installation.rank_pid(cluster, SPACE, rank)
            attempt = installation.status(cluster, SPACE)["attempt"]
            begun = time.time()
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: goes_on(cluster, attempt + 1), f"attempt {attempt + 1} to go on", 120, every=0.1,
                     said=lambda: json.dumps(installation.status(cluster, SPACE), indent=1) + cluster.kubectl("logs", "-n", SPACE, f"digits-{attempt + 1}-trainer-0", check=False).stdout)
            seconds.append(time.time() - begun)
            incident = installation.status(cluster, SPACE)["incidents"][-1]
            assert (incident["rank"], incident["kind"]) == (rank, "Signal"), incident
        seconds.sort()
        print(json.dumps({"id": "kubernetes.recovery", "ours": round(statistics.median(seconds), 1), "unit": "s", "peer": None, "limit": None, "ratio": None,
                          "goal": None, "note": f"p50 of {len(seconds)} kills of {KILLS}, max {seconds[-1]:.1f}; {KILLS} of {KILLS} blamed on the rank that was killed"}), flush=True)
    finally:
        cluster.down()
        subprocess.run(["rm", "-rf", programs], check=False)


if __name__ == "__main__":
    main()
