"""A rank that was stopped, declared hung, replaced, and then goes on: it must not be able to publish anything.

The platform ends what descends from it. So rank 1 of the first attempt is played by a process that does not: this test
starts it, with the environment that the platform gave.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from platform_tools import HERE, job_file, wait_for_line
from test_processes import chain, left

STEPS, HANG = 20, 2


def wait_for_file(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
    return json.loads(path.read_text())


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def checkpoints(host):
    return json.loads(host("--json", "ckpt", "ls", "fake").stdout)["checkpoints"]


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(pathlib.Path(folder).rglob("*")) if p.is_file()}


def test_a_rank_that_was_replaced_and_goes_on_cannot_publish(host):
    outside = host.folder / "outside"
    job = job_file(host.folder, [sys.executable, HERE / "saving_rank.py", "--steps", STEPS, "--every", 3, "--alone",
                                 "--pace", 0.2, f"--outside=1,{outside}"],
                   checkpoint={"interval": 3, "keep": 3}, recovery={"hangTimeout": f"{HANG}s"})
    platform = host.start("--json", "run", job, "--pool", host.pool, "--inject", "stop:rank=1,step=8")
    how = wait_for_file(outside)
    escaped = subprocess.Popen(how["command"], env={**how["environment"], "THOLE_OUTSIDE": "1"}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        said, rest = platform.communicate(timeout=120)
        end = json.loads(said)
        assert platform.returncode == 0 and end["result"]["digest"] == chain(STEPS), rest
        incident, = end["incidents"]
        assert (incident["kind"], incident["rank"], end["attempts"]) == ("hang", 1, 2)
        assert HANG <= incident["detectionSeconds"] <= HANG + 2
        assert state_of(escaped.pid) == "T", "it has outlived its attempt, stopped"
        assert everything(end["store"])
        before, kept = checkpoints(host), everything(end["store"])
        assert (before[0]["step"], before[0]["attempt"], before[0]["state"]) == (STEPS, 2, "committed")

        escaped.send_signal(signal.SIGCONT)
        text, _ = escaped.communicate(timeout=60)
        assert escaped.returncode == 1 and "AttemptFenced" in text, text
        assert checkpoints(host) == before and everything(end["store"]) == kept
        print(f"\nhang noticed after {incident['detectionSeconds']:.1f} s (timeout {HANG} s); the stopped rank went on and was "
              f"refused: {[l for l in text.splitlines() if 'AttemptFenced' in l][-1]}")
    finally:
        escaped.kill()
        platform.kill()
    assert not left(host)


def test_it_cannot_publish_while_its_successor_runs_either(host):
    """The same, but it goes on while the second attempt has saved nothing yet: its fence is enough."""
    outside = host.folder / "outside"
    job = job_file(host.folder, [sys.executable, HERE / "saving_rank.py", "--steps", 9, "--every", 3, "--alone",
                                 "--pace", 0.7, f"--outside=1,{outside}"],
                   checkpoint={"interval": 3, "keep": 3}, recovery={"hangTimeout": f"{HANG}s"})
    platform = host.start("--json", "run", job, "--pool", host.pool, "--inject", "stop:rank=1,step=2")
    how = wait_for_file(outside)
    escaped = subprocess.Popen(how["command"], env={**how["environment"], "THOLE_OUTSIDE": "1"}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        wait_for_line(platform, "attempt 2:")
        escaped.send_signal(signal.SIGCONT)
        text, _ = escaped.communicate(timeout=60)
        assert escaped.returncode == 1 and "AttemptFenced" in text, text
        said, rest = platform.communicate(timeout=120)
        end = json.loads(said)
        assert platform.returncode == 0 and end["result"]["digest"] == chain(9), rest
        assert {c["attempt"] for c in checkpoints(host) if c["state"] == "committed"} == {2}
    finally:
        escaped.kill()
        platform.kill()
    assert not left(host)
