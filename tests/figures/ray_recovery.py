#!/usr/bin/env python3
"""How long a job takes to train again on Ray after it has lost something: digits on three nodes of one GPU, on this machine, and in
turn a rank, a worker of Ray and a raylet killed.

From the SIGKILL until a restored attempt has done its next train step. Every round is a job of its own, killed at a step of its own,
whose digest has to be that of the local run. THOLE_ROUNDS says how many (21), THOLE_SEED which (7).
"""
from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from ray_costs import in_rays_python

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("THOLE_ROUNDS") or os.environ.get("THOLE_KILLS") or "21")
KINDS = ("rank", "worker", "raylet")


def local_digest(job):
    """What the job ends with where nothing is killed."""
    with tempfile.TemporaryDirectory(prefix="thole-figure.") as state:
        done = subprocess.run([os.environ["THOLE_COMMAND"], "-q", "--json", "--state", state, "run", job, "--pool", ROOT / "samples/digits/pool.yaml",
                               "--no-metrics-page"], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["result"]["digest"]


def child_of(pid):
    return int(subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True).stdout.split()[0])


def one_round(cluster, kind, choice, digest):
    """Seconds from the kill to the next train step of the attempt after it."""
    from cluster import kill
    from running import Running

    running = Running(cluster)
    before, members = running.at_step(choice.randrange(30, 90))
    head = next(n["name"] for n in cluster.known()["nodes"] if n["head"])
    victim = choice.choice([i for i, m in enumerate(before["gang"]) if kind != "raylet" or m["node"] != head])
    pid = members[victim]["pid"]
    pid = {"rank": lambda: child_of(pid), "worker": lambda: pid, "raylet": lambda: cluster.raylet_of(before["gang"][victim]["node"])}[kind]()
    killed = time.time()
    kill(pid)
    ended = running.end()
    if ended["result"]["digest"] != digest or ended["attempts"] != 2:
        raise RuntimeError(f"{kind}: {ended['attempts']} attempts, digest {ended['result']['digest']}, not {digest}")
    if kind == "raylet":
        cluster.start()
    incident = ended["incidents"][0]
    return incident["noticed"] + incident["recoverySeconds"] - killed


def main():
    in_rays_python()
    from cluster import DIGITS, SMALL_POOL, Cluster

    choice = random.Random(int(os.environ.get("THOLE_SEED", "7")))
    digest = local_digest(DIGITS)
    seconds = {kind: [] for kind in KINDS}
    cluster = Cluster(SMALL_POOL, 3)
    try:
        cluster.connect()
        for number in range(ROUNDS):
            kind = KINDS[number % len(KINDS)]
            seconds[kind].append(one_round(cluster, kind, choice, digest))
            print(f"kill {number + 1} of {ROUNDS}: {kind}, {seconds[kind][-1]:.2f} s", file=sys.stderr, flush=True)
    finally:
        import ray

        ray.shutdown()
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
    for kind, found in [("all", sum(seconds.values(), [])), *seconds.items()]:
        if found:
            name = "ray.recovery" if kind == "all" else f"ray.recovery.{kind}"
            print(json.dumps({"id": name, "ours": round(statistics.median(found), 2), "unit": "s", "peer": None, "limit": None, "ratio": None,
                              "goal": None, "note": f"p50 of {len(found)} kills, max {max(found):.2f}; {len(found)} of {len(found)} digests are the "
                              "local run's; nodes and GPUs simulated on one machine"}), flush=True)


if __name__ == "__main__":
    main()
