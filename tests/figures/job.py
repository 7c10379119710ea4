#!/usr/bin/env python3
"""job: what `thole run` costs over the same four processes by hand, and how soon it notices and recovers.

  run.seconds  the digits job under `thole run`, and (peer) the same four processes started here with the same environment,
               library, key and saves, but no platform. Both are warmed up once and then run in pairs, whose order
               alternates, so that neither has the warmer caches or the quieter machine. ratio: the median of the pairs'
  start        from the start of the command to the start of the first of the job's processes
  detection    from a SIGKILL to the rank's being named        } over kills at random ranks and steps, every run
  recovery     from there to the next new train step           } ending with the digest of the unbroken one

THOLE_PAIRS says how many pairs (7), THOLE_STEPS how many train steps each of their runs has (400: long beside the start
of Python and JAX, which varies more than the platform costs), THOLE_KILLS how many kills (20), THOLE_SEED which (7).
All checkpoints of those runs are kept, since by hand there is nobody who would delete old ones.
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
# What a rank finds under thole and by hand alike; of what only the platform sets, the script's own part is the store.
STORE = ("THOLE_KEY", "THOLE_CHECKPOINT_INTERVAL", "THOLE_LIBRARY", "THOLE_ATTEMPT")


def thole():
    found = os.environ.get("THOLE_BIN") or os.environ.get("THOLE_COMMAND") or shutil.which("thole")
    if not found:
        sys.exit("job.py: set THOLE_BIN, or put thole on PATH")
    return found


def environment():
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**{k: v for k, v in os.environ.items() if not k.startswith("THOLE_")}, "PATH": path,
            "PYTHONPATH": f"{ROOT / 'sdk' / 'python'}:{os.environ.get('PYTHONPATH', '')}"}


def run(state, *options, job=DIGITS / "job.yaml"):
    begun = time.time()
    done = subprocess.run([thole(), "-q", "--json", "--state", state, "run", str(job), "--pool",
                           str(DIGITS / "pool.yaml"), *options], capture_output=True, text=True, env=environment())
    seconds = time.time() - begun
    if done.returncode != 0:
        sys.exit(f"job.py: thole run failed with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return seconds, begun, json.loads(done.stdout)


class LongerJob:
    """The digits job with more train steps, as thole runs it and by hand."""

    def __init__(self, folder, steps):
        self.folder, self.steps = pathlib.Path(folder), steps
        self.file = self.folder / "job.yaml"
        text = (DIGITS / "job.yaml").read_text()
        for old, new in (("keep: 3", "keep: 1000"), ("workdir: .", f"workdir: {DIGITS}"),
                         ("[python3, train.py]", f"[python3, train.py, --steps, '{steps}']")):
            assert old in text, f"samples/digits/job.yaml has no {old} any more"
            text = text.replace(old, new, 1)
        self.file.write_text(text)
        self.state = str(self.folder / "state")
        self.hands = 0
        self.same = {}  # what both are given

    def by_thole(self):
        return run(self.state, job=self.file)

    def learn_environment(self, end):
        """The store's variables of a run under thole, for those by hand."""
        linked = subprocess.run(["ldd", thole()], capture_output=True, text=True, check=True).stdout
        library = next(line.split()[2] for line in linked.splitlines() if "libthole" in line)
        self.same = dict(zip(STORE, (end["key"], "20", library, "1")))

    def by_hand(self):
        self.hands += 1
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
        begun = time.time()
        shared = {**environment(), **self.same, "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1",
                  "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": "", "THOLE_JOB": "digits",
                  "THOLE_STORE": str(self.folder / f"store-{self.hands}"), "THOLE_RUN": f"00000000-0000-4000-8000-{self.hands:012d}"}
        ranks = []
        for r in range(RANKS):
            own = {"RANK": str(r), "LOCAL_RANK": str(r), "NODE_RANK": str(r), "THOLE_METRICS": str(self.folder / f"{self.hands}-{r}.metrics")}
            with open(self.folder / f"log-{r}", "wb") as log:
                ranks.append(subprocess.Popen(["python3", "train.py", "--steps", str(self.steps)], cwd=DIGITS, env={**shared, **own},
                                              stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                              start_new_session=True))  # as under thole: the kernel shares cores out by session
        codes = [r.wait() for r in ranks]
        if any(codes):
            sys.exit(f"job.py: the processes by hand ended with {codes}\n{(self.folder / 'log-0').read_text()}")
        return time.time() - begun


def figure(name, ours, unit, peer=None, ratio=None, goal=None):
    print(json.dumps({"id": f"job.{name}", "ours": ours, "unit": unit, "peer": peer, "limit": None, "ratio": ratio,
                      "goal": goal}), flush=True)


def overhead(folder):
    job = LongerJob(folder, int(os.environ.get("THOLE_STEPS", "400")))
    job.learn_environment(job.by_thole()[2])
    job.by_hand()
    ours, hand = [], []
    for pair in range(int(os.environ.get("THOLE_PAIRS", "7"))):
        for which in ("thole", "hand") if pair % 2 == 0 else ("hand", "thole"):
            (ours if which == "thole" else hand).append(job.by_thole()[0] if which == "thole" else job.by_hand())
        print(f"job: pair {pair + 1}: thole {ours[-1]:.2f} s, by hand {hand[-1]:.2f} s, ratio {ours[-1] / hand[-1]:.3f}",
              file=sys.stderr, flush=True)
    ratio = statistics.median(o / h for o, h in zip(ours, hand))
    figure("run.seconds", statistics.median(ours), "s", peer=statistics.median(hand), ratio=ratio, goal="ratio <= 1.03")


def start(state):
    """The record of a rank is written just before its process is started."""
    starts = []
    for _ in range(3):
        _, begun, _ = run(state)
        first = os.stat(os.path.join(state, "jobs", "digits", "attempts", "1", "record-0")).st_mtime
        starts.append(first - begun)
    figure("start", statistics.median(starts), "s", goal="<= 1")


def kills(state, digest):
    choose = random.Random(int(os.environ.get("THOLE_SEED", "7")))
    wanted = int(os.environ.get("THOLE_KILLS", "20"))
    detection, recovery, equal, named = [], [], 0, 0
    for n in range(wanted):
        rank, step = choose.randrange(RANKS), choose.randrange(1, 196)
        _, _, end = run(state, "--inject", f"kill:rank={rank},step={step}")
        equal += end["result"]["digest"] == digest
        incident = end["incidents"][0]
        named += incident["rank"] == rank
        print(f"job: kill {n + 1}: rank {rank} at step {step}: noticed after {incident['detectionSeconds']} s, went on after "
              f"{incident['recoverySeconds']} s", file=sys.stderr, flush=True)
        if incident["detectionSeconds"] is not None:
            detection.append(incident["detectionSeconds"])
        if incident["recoverySeconds"] is not None:
            recovery.append(incident["recoverySeconds"])
    figure("kills.equal_digests", equal, f"of {wanted}", goal=f"== {wanted}")
    figure("kills.right_rank_named", named, f"of {wanted}", goal=f"== {wanted}")
    for name, values, goal in (("detection", detection, "<= 1"), ("recovery", recovery, None)):
        if values:
            figure(f"{name}.p50", statistics.median(values), "s")
            figure(f"{name}.max", max(values), "s", goal=goal)


def main():
    folder = tempfile.mkdtemp(prefix="thole-figure-")
    try:
        overhead(folder)
        state = os.path.join(folder, "state")
        _, _, unbroken = run(state)
        start(state)
        kills(state, unbroken["result"]["digest"])
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
