#!/usr/bin/env python3
"""What Thole costs a Slurm, and how long a killed rank takes to come back: on clusters of four nodes, side by side.

Rounds of the compared clusters alternate, and the median of the pairs counts, since a machine is never quiet. THOLE_ROUNDS says how
many rounds (31), THOLE_KILLS how many ranks are killed (24); 0 leaves that figure out.
"""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = ROOT / "tests/hosts/slurm"
sys.path.insert(0, str(HOST))
from cluster import Cluster  # noqa: E402

ROUNDS = int(os.environ.get("THOLE_ROUNDS", "31"))
EACH = 200  # submissions of a round
KILLS = int(os.environ.get("THOLE_KILLS", "24"))


def say(**line):
    print(json.dumps(line), flush=True)


def compile_c(folder, name, *options):
    target = folder / name
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", target, HOST / f"{name.split('.')[0]}.c", *options], check=True)
    return target


def make(clusters, name, **options):
    folder = tempfile.mkdtemp(prefix="thole-slurm.", dir="/tmp")
    os.chmod(folder, 0o755)
    clusters[name] = Cluster(folder)
    clusters[name].up(extra="MaxJobCount=50000\n", debug="error", **options)


def submissions(clusters, program):
    """Submissions a second, the same shards by our options and by hand."""
    seconds = {"ours": [], "none": []}
    for round_ in range(ROUNDS):
        for name in ("ours", "none") if round_ % 2 else ("none", "ours"):
            seconds[name].append(float(clusters[name].out(program, EACH, "thole" if name == "ours" else "shards")))
    ours, none = (EACH / statistics.median(seconds[name]) for name in ("ours", "none"))
    ratio = statistics.median(n / o for o, n in zip(seconds["ours"], seconds["none"]))
    say(id="slurm.submissions", ours=round(ours), unit="1/s", peer=round(none), limit=None, ratio=round(ratio, 3),
        goal="ratio >= 0.95")
    say(id="slurm.submitted", ours=ROUNDS * EACH, unit="jobs", peer=None, limit=None, ratio=None, goal=None)


def starts(clusters):
    """`srun true` with us (and a vGPU), with an empty plugin, and with none."""
    seconds = {name: [] for name in ("ours", "empty", "none")}
    for round_ in range(ROUNDS + 1):
        names = list(seconds)
        for name in names[round_ % 3:] + names[:round_ % 3]:
            asked = ["--thole-vgpu-memory=1Gi"] if name == "ours" else ["--gres=shard:1"]
            begun = time.monotonic()
            clusters[name].run("srun", "-n1", "--mem=10", *asked, "true")
            seconds[name].append(time.monotonic() - begun)
    ours, empty, none = (statistics.median(found[1:]) * 1e3 for found in seconds.values())
    added = statistics.median(o - e for o, e in zip(seconds["ours"][1:], seconds["empty"][1:])) * 1e3
    say(id="slurm.srun", ours=round(ours, 1), unit="ms", peer=round(empty, 1), limit=round(none, 1), ratio=round(ours / empty, 3), goal=None)
    say(id="slurm.srun-added", ours=round(added, 1), unit="ms", peer=None, limit=None, ratio=None, goal="<= 10")


def stepd_memory(cluster, *options):
    """Pages of a step's slurmstepd that are its own, in KiB."""
    step = subprocess.Popen([*cluster.enter(), "srun", "-n1", "--mem=10", *options, "sleep", "60"], stdin=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        def own():
            for pid in cluster.pids("slurmstepd"):
                if re.search(rb"\[\d+\.0\]", cluster.command_line(pid)) and cluster.pids("sleep 60"):
                    try:
                        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                    except OSError:
                        return 0
                    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+)", text, re.M))
            return 0
        return cluster.wait_for(own, "the step")
    finally:
        cluster.run("sh", "-c", "squeue -h -o %A | xargs -r scancel", check=False)
        step.wait(60)


def memory(clusters):
    found = {name: statistics.median(stepd_memory(clusters[name], *(["--thole-vgpu-memory=1Gi"] if name == "ours" else []))
                                     for _ in range(5)) for name in ("ours", "empty", "none")}
    say(id="slurm.stepd-memory", ours=found["ours"], unit="KiB", peer=found["empty"], limit=found["none"],
        ratio=round(found["ours"] / found["empty"], 3), goal=None)


class Digits:
    """The digits sample, with more steps, so that it can be killed more often."""

    def __init__(self, cluster, steps):
        self.cluster = cluster
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "sdk/python"), "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment.pop("THOLE_LIBRARY", None)
        shutil.copytree(ROOT / "samples/digits", cluster.work / "digits", ignore=shutil.ignore_patterns("__pycache__"))
        self.job = cluster.work / "digits/job.yaml"
        self.job.write_text(self.job.read_text().replace("[python3, train.py]", f"[python3, train.py, --steps, '{steps}']"))

    def command(self, *arguments):
        return subprocess.run([os.environ["THOLE_COMMAND"], "--state", self.cluster.work / "local", *arguments], capture_output=True,
                              text=True, check=True, env=self.environment).stdout

    def slurm(self, *arguments):
        return self.cluster.run(os.environ["THOLE_COMMAND"], "--on", "slurm", "--state", self.cluster.work / "state", *arguments,
                                check=False, env=self.environment).stdout


def recoveries(cluster):
    """From the kill of a random rank to the first line of the next attempt's, and the digest at the end."""
    steps = 25 * (KILLS + 1)
    digits = Digits(cluster, steps)
    wanted = json.loads(digits.command("--json", "run", digits.job, "--pool", ROOT / "samples/digits/pool.yaml"))["result"]["digest"]
    digits.slurm("submit", digits.job)
    dice, took = random.Random(1), []
    for kill in range(KILLS):
        cluster.wait_for(lambda: f"step {25 * (kill + 1)}:" in digits.slurm("logs", "digits", "--rank", "0"), f"kill {kill}")
        ranks = [p for p in cluster.pids("train.py") if b"python" in cluster.command_line(p).split(b"\0")[0]]
        os.kill(dice.choice(ranks), signal.SIGKILL)
        begun = time.monotonic()
        attempt = str(kill + 2)
        cluster.wait_for(lambda: "goes on after" in digits.slurm("logs", "digits", "--rank", "0", "--attempt", attempt), "the next attempt")
        took.append(time.monotonic() - begun)
    cluster.wait_end("1", seconds=600)
    found = re.findall(r"digest (\w+)", digits.slurm("logs", "digits", "--rank", "0"))
    same = found == [wanted]
    say(id="slurm.recovery-p50", ours=round(statistics.median(took), 2), unit="s", peer=None, limit=None, ratio=None, goal=None)
    say(id="slurm.recovery-max", ours=round(max(took), 2), unit="s", peer=None, limit=None, ratio=None, goal=None)
    say(id="slurm.recovery-kills", ours=len(took), unit="kills", peer=None, limit=None, ratio=None, goal=None)
    say(id="slurm.recovery-equal", ours=int(same), unit="digest", peer=None, limit=None, ratio=None, goal="== 1")


def main():
    if os.geteuid() != 0 or not shutil.which("slurmctld", path=os.environ["PATH"] + ":/usr/sbin"):
        sys.exit("needs root and Slurm: sdk/setup/install slurm")
    library = os.environ["THOLE_LIBRARY"]
    clusters = {}
    with tempfile.TemporaryDirectory(prefix="thole-figure.") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        subprocess.run([ROOT / "adapters/slurm/setup/build", folder / "plugins"], check=True)
        empty = compile_c(folder, "empty_spank.so", "-fPIC", "-shared")
        program = compile_c(folder, "submissions", "-lslurm")
        try:
            make(clusters, "ours", plugins=folder / "plugins", library=library)
            make(clusters, "empty", plugstack=f"required {empty}\n")
            make(clusters, "none")
            starts(clusters)
            memory(clusters)
            submissions(clusters, program)
            for one in ("ours", "empty", "none"):
                clusters[one].down()
            if KILLS:
                make(clusters, "kills", plugins=folder / "plugins", library=library)
                recoveries(clusters["kills"])
        finally:
            for cluster in clusters.values():
                cluster.down()


if __name__ == "__main__":
    main()
