#!/usr/bin/env python3
"""How long a job takes to train again on Ray after it has lost something: digits on three nodes of one GPU, on this machine, and in
turn a rank, a worker of Ray and a raylet killed; and raylets again where Ray is told to look after its nodes more often.

From the SIGKILL until a restored attempt has done its next train step. Every round is a job of its own, killed at a step of its own,
whose digest has to be that of the local run. THOLE_ROUNDS says how many (21, and a third of it again for the last), THOLE_SEED which (7).
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
# A raylet that is dead is one for the GCS after five looks, three seconds apart; here after three, a second apart.
WATCHED = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


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


def rounds(kinds, number, choice, digest, environment=None):
    """Seconds of each round, by kind, on a cluster of their own."""
    from cluster import SMALL_POOL, Cluster

    seconds = {kind: [] for kind in kinds}
    cluster = Cluster(SMALL_POOL, 3, environment=environment)
    try:
        cluster.connect()
        for i in range(number):
            kind = kinds[i % len(kinds)]
            seconds[kind].append(one_round(cluster, kind, choice, digest))
            print(f"kill {i + 1} of {number}: {kind}, {seconds[kind][-1]:.2f} s", file=sys.stderr, flush=True)
    finally:
        import ray

        ray.shutdown()
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
    return seconds


def say(name, found, more="", most=False):
    if found:
        print(json.dumps({"id": name, "ours": round(max(found) if most else statistics.median(found), 2), "unit": "s", "peer": None, "limit": None, "ratio": None,
                          "goal": None, "note": f"{'the longest' if most else 'p50'} of {len(found)} kills{more}; {len(found)} of {len(found)} digests are the local run's; "
                          "nodes and GPUs simulated on one machine"}), flush=True)


def main():
    in_rays_python()
    from cluster import DIGITS

    choice = random.Random(int(os.environ.get("THOLE_SEED", "7")))
    digest = local_digest(DIGITS)
    seconds = rounds(KINDS, ROUNDS, choice, digest)
    say("ray.recovery", sum(seconds.values(), []))
    say("ray.recovery.max", sum(seconds.values(), []), most=True)
    for kind, found in seconds.items():
        say(f"ray.recovery.{kind}", found)
        say(f"ray.recovery.{kind}.max", found, most=True)
    watched = rounds(("raylet",), -(-ROUNDS // len(KINDS)), choice, digest, WATCHED)["raylet"]
    how = ", " + " ".join(f"{k}={v}" for k, v in WATCHED.items())
    say("ray.recovery.raylet_watched", watched, how)
    say("ray.recovery.raylet_watched.max", watched, how, most=True)


if __name__ == "__main__":
    main()
