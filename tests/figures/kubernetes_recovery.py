#!/usr/bin/env python3
"""How long a job takes to train again on Kubernetes after it has lost something: digits on two real kubelets; five times in seven a
pod deleted, and once each a rank's process killed and all that runs in a pod's container killed.

From the kill until rank 0 of the next attempt says after which step it goes on. THOLE_KILLS says how many (28, of which 20 are pods).
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

KILLS = int(os.environ.get("THOLE_KILLS", "28"))
KINDS = ("pod", "rank", "pod", "container", "pod", "pod", "pod")
SPACE = "recovery"


def goes_on(cluster, attempt):
    try:
        return "goes on after step" in cluster.api.logs(f"digits-{attempt}-trainer-0", "main", SPACE)
    except Refused:
        return False  # it has not begun


def kill(cluster, kind, attempt, rank):
    pid = installation.rank_pid(cluster, SPACE, rank)
    begun = time.monotonic()
    if kind == "pod":
        cluster.api.delete("pods", f"digits-{attempt}-trainer-{rank}", SPACE)
    else:
        os.kill(pid if kind == "rank" else installation.first_process(cluster, SPACE, rank), signal.SIGKILL)
    return begun


def one_round(cluster, kind, rank, step):
    """Seconds from the kill until the next attempt goes on, and the step of a checkpoint that was there before it."""
    step = installation.wait_for_checkpoint(cluster, SPACE, step + 20)
    attempt = installation.status(cluster, SPACE)["attempt"]
    begun = kill(cluster, kind, attempt, rank)
    wait_for(lambda: goes_on(cluster, attempt + 1), f"attempt {attempt + 1} to go on", 120, every=0.1,
             said=lambda: json.dumps(installation.status(cluster, SPACE), indent=1) + cluster.kubectl("logs", "-n", SPACE, f"digits-{attempt + 1}-trainer-0", check=False).stdout)
    seconds = time.monotonic() - begun
    incident = installation.status(cluster, SPACE)["incidents"][-1]
    if incident["rank"] != rank or (incident["kind"] != "Signal" if kind != "pod" else "was deleted" not in incident["message"]):
        raise RuntimeError(f"{kind} of rank {rank}: {incident}")
    return seconds, step


def say(name, found, most=False):
    if found:
        print(json.dumps({"id": name, "ours": round(max(found) if most else statistics.median(found), 1), "unit": "s", "peer": None, "limit": None, "ratio": None,
                          "goal": None, "note": f"{'the longest' if most else 'p50'} of {len(found)} kills; {len(found)} of {len(found)} blamed on the rank that was lost"}),
              flush=True)


def main():
    if reason := missing():
        sys.exit(f"kubernetes: {reason}")
    folder = tempfile.mkdtemp(prefix="thole-k8s.", dir="/tmp")
    programs = pathlib.Path(tempfile.mkdtemp(prefix="thole-programs.", dir="/tmp"))
    subprocess.run([ROOT / "adapters/kubernetes/setup/build", programs], check=True)
    cluster = Cluster(folder)
    choice = random.Random(7)
    seconds = {kind: [] for kind in KINDS}
    try:
        cluster.up(nodes=2, gates=NO_GATES)
        installation.install(cluster, installation.images(programs))
        installation.make_store(cluster, SPACE, os.environ["THOLE_COMMAND"])
        text = (installation.DIGITS / "job.yaml").read_text().replace("[python3, train.py]", '[python3, train.py, --steps, "1000000"]')
        cluster.kubectl("apply", "-n", SPACE, "-f", "-", given=text)
        step = 0
        for i in range(KILLS):
            kind = KINDS[i % len(KINDS)]
            took, step = one_round(cluster, kind, choice.randrange(4), step)
            seconds[kind].append(took)
            print(f"kill {i + 1} of {KILLS}: {kind}, {took:.1f} s", file=sys.stderr, flush=True)
        say("kubernetes.recovery", sum(seconds.values(), []))
        say("kubernetes.recovery.max", sum(seconds.values(), []), most=True)
        for kind, found in seconds.items():
            say(f"kubernetes.recovery.{kind}", found)
            say(f"kubernetes.recovery.{kind}.max", found, most=True)
    finally:
        cluster.down()
        subprocess.run(["rm", "-rf", programs], check=False)


if __name__ == "__main__":
    main()
