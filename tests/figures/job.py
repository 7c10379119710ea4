#!/usr/bin/env python3
"""job: what `thole run` costs over the same four processes by hand, and how soon it notices and recovers.

  overhead    seconds of the digits job under `thole run`, against the same four processes started here, in one run
  start       from the start of the command to the start of the job's processes
  detection   from a SIGKILL to the rank's being named        } over kills at random ranks and steps, every run
  recovery    from there to the next new train step           } ending with the digest of the unbroken one

THOLE_KILLS says how many kills (20), THOLE_SEED which (7), THOLE_ROUNDS how many rounds of the overhead (3).
"""
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "samples" / "digits"
RANKS = 4


def thole():
    found = os.environ.get("THOLE_BIN") or os.environ.get("THOLE_COMMAND") or shutil.which("thole")
    if not found:
        sys.exit("job.py: set THOLE_BIN, or put thole on PATH")
    return found


def library_of(command):
    """The library that the command uses, so that both sides use the same one."""
    linked = subprocess.run(["ldd", command], capture_output=True, text=True, check=True).stdout
    return next(line.split()[2] for line in linked.splitlines() if "libthole" in line)


def environment():
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**{k: v for k, v in os.environ.items() if not k.startswith("THOLE_")}, "PATH": path,
            "PYTHONPATH": f"{ROOT / 'sdk' / 'python'}:{os.environ.get('PYTHONPATH', '')}"}


def run(state, *options):
    begun = time.time()
    done = subprocess.run([thole(), "-q", "--json", "--state", state, "run", str(DIGITS / "job.yaml"), "--pool",
                           str(DIGITS / "pool.yaml"), *options], capture_output=True, text=True, env=environment())
    seconds = time.time() - begun
    if done.returncode != 0:
        sys.exit(f"job.py: thole run failed with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return seconds, begun, json.loads(done.stdout)


def by_hand(folder, store):
    """The same four processes, with what the script needs to save as often and as encrypted as it does under thole."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    begun = time.time()
    env = {**environment(), "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **store}
    ranks = [subprocess.Popen(["python3", "train.py"], cwd=DIGITS, env={**env, "RANK": str(r), "LOCAL_RANK": str(r)},
                              stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, f"stderr-{r}"), "wb")) for r in range(RANKS)]
    codes = [r.wait() for r in ranks]
    if any(codes):
        sys.exit(f"job.py: the processes by hand ended with {codes}\n{open(os.path.join(folder, 'stderr-0')).read()}")
    return time.time() - begun


def figure(name, ours, unit, peer=None, ratio=None, goal=None):
    print(json.dumps({"id": f"job.{name}", "ours": ours, "unit": unit, "peer": peer, "limit": None, "ratio": ratio,
                      "goal": goal}), flush=True)


def main():
    folder = tempfile.mkdtemp(prefix="thole-figure-")
    state = os.path.join(folder, "state")
    library = {"THOLE_LIBRARY": library_of(thole())}
    _, _, unbroken = run(state)
    digest = unbroken["result"]["digest"]

    ours, hand, starts = [], [], []
    for n in range(int(os.environ.get("THOLE_ROUNDS", "3"))):
        store = {"THOLE_STORE": os.path.join(folder, f"store-{n}"), "THOLE_KEY": unbroken["key"], "THOLE_ATTEMPT": "1",
                 "THOLE_RUN": f"00000000-0000-4000-8000-{n:012d}", "THOLE_CHECKPOINT_INTERVAL": "20", **library}
        hand.append(by_hand(folder, store))
        seconds, begun, _ = run(state)
        ours.append(seconds)
        first = os.stat(os.path.join(state, "jobs", "digits", "attempts", "1", "record-0")).st_mtime
        starts.append(first - begun)
    ratio = statistics.median(ours) / statistics.median(hand)
    figure("run.seconds", statistics.median(ours), "s", peer=statistics.median(hand), ratio=ratio, goal="ratio <= 1.03")
    figure("start", statistics.median(starts), "s", goal="<= 1")

    choose = random.Random(int(os.environ.get("THOLE_SEED", "7")))
    kills = int(os.environ.get("THOLE_KILLS", "20"))
    detection, recovery, equal, named = [], [], 0, 0
    for _ in range(kills):
        rank, step = choose.randrange(RANKS), choose.randrange(1, 196)
        _, _, end = run(state, "--inject", f"kill:rank={rank},step={step}")
        equal += end["result"]["digest"] == digest
        incident = end["incidents"][0]
        named += incident["rank"] == rank
        if incident["detectionSeconds"] is not None:
            detection.append(incident["detectionSeconds"])
        if incident["recoverySeconds"] is not None:
            recovery.append(incident["recoverySeconds"])
    figure("kills.equal_digests", equal, f"of {kills}", goal=f"== {kills}")
    figure("kills.right_rank_named", named, f"of {kills}", goal=f"== {kills}")
    for name, values, goal in (("detection", detection, "<= 1"), ("recovery", recovery, None)):
        if values:
            figure(f"{name}.p50", statistics.median(values), "s")
            figure(f"{name}.max", max(values), "s", goal=goal)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
