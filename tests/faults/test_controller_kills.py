"""The controller is killed at every write, sync and rename that it makes, one after the other; then `thole resume` must
bring the job to the end that an undisturbed run has.

strace sends SIGKILL at the K-th call of a kind (of the controller only: its ranks are not traced). The call itself is then
not made; a kill before a call is also a kill after the one before it, so every place between two of them is met. Where the
job was not yet on record, resume says so, and `thole run` does it all: counted apart.

THOLE_FAULTS=all tries every place; else every THOLE_FAULTS_STEP-th (5) of each kind of call.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hosts" / "local"))
from platform_tools import Host, environment, processes_of  # noqa: E402
from test_processes import chain  # noqa: E402

CALLS = ("write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "mkdir", "unlink", "unlinkat", "ftruncate", "openat")
STEPS = 6


def strace(host, job, *how):
    return subprocess.run(["strace", "-o", str(host.folder / "trace"), "-e", f"trace={','.join(CALLS)}", *how,
                           *host.arguments("--json", "run", job, "--pool", host.pool, "--no-metrics-page", "-q")],
                          capture_output=True, text=True, timeout=120, env=environment(), cwd=host.folder)


def every_place(trace):
    """(call, K) of each call that changes something; of openat those that make files."""
    counts, places = collections.Counter(), []
    for line in trace:
        found = re.match(r"(\w+)\(", line)
        if not found:
            continue
        counts[found.group(1)] += 1
        if found.group(1) != "openat" or "O_CREAT" in line:
            places.append((found.group(1), counts[found.group(1)]))
    return places


def job_of(host):
    return host.fake("--steps", STEPS, "--every", 2, "--pace", 0.002)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_place_at_which_the_controller_can_die(tmp_path):
    (tmp_path / "count").mkdir()
    host = Host(tmp_path / "count")
    done = strace(host, job_of(host))
    assert done.returncode == 0, done.stderr
    places = every_place((host.folder / "trace").read_text().splitlines())
    total = len(places)
    if os.environ.get("THOLE_FAULTS") != "all":
        pace = int(os.environ.get("THOLE_FAULTS_STEP", "5"))
        places = [p for call in CALLS for p in [q for q in places if q[0] == call][::pace]]
    outcome, killed = collections.Counter(), 0
    for call, k in places:
        folder = tmp_path / f"{call}-{k}"
        folder.mkdir()
        host = Host(folder)
        job = job_of(host)
        # The number of calls varies a little with timing; one that was not reached is counted apart.
        first = strace(host, job, "-e", f"inject={call}:signal=SIGKILL:when={k}")
        if first.returncode == 0:
            outcome["ended before the place was reached"] += 1
            assert json.loads(first.stdout)["result"]["digest"] == chain(STEPS)
            continue
        killed += 1
        again = host("--json", "resume", "fake")
        if again.returncode == 66:
            outcome["was not on record: run again"] += 1
            again = host("--json", "run", job, "--pool", host.pool)
        else:
            outcome["resumed"] += 1
        assert again.returncode == 0, (call, k, again.stdout, again.stderr)
        end = json.loads(again.stdout)
        assert end["phase"] == "done" and end["result"]["digest"] == chain(STEPS), (call, k)
        gpus = json.loads(host("--json", "pool", "--pool", host.pool).stdout)["gpus"]
        assert all(g["holders"] == 0 for g in gpus), (call, k, "a gang was left in the ledger")
        assert not processes_of(str(host.state)), (call, k, "a process was left")
        shutil.rmtree(folder)
    print(f"\ncontroller killed at {killed} of {len(places)} places tried (of {total}); "
          + "; ".join(f"{what}: {n}" for what, n in sorted(outcome.items())))
    assert outcome["resumed"] > 0 and killed > 0
