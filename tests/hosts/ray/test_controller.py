"""The controller of a job is killed, at whatever moment: the job goes on where it was, and what was asked of it is not lost."""
import json
import subprocess
import sys
import threading

import incidents
import pytest
from cluster import DIGITS, PATIENCE, ROOT, kill, until
from running import Running, check_ledger_is_empty


def job_file(folder, *changes):
    """The digits job with other words in it."""
    text = open(DIGITS, encoding="utf-8").read().replace("workdir: .", f"workdir: {ROOT}/samples/digits")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "job.yaml").write_text(text)
    return str(folder / "job.yaml")


LONG = ("[python3, train.py]", "[python3, train.py, --steps, \"20000\"]")


def occupied():
    """All GPUs, held by somebody else."""
    import thole.ray

    return thole.ray.gang(thole.ray.Role(4, gpus=1, cpu="0.1", host_memory="1Mi"), timeout=30)


class Waiting(Running):
    """A job that waits for room."""

    def _run(self, job):
        self.done = self._small.program("submit", job, "--queue", "100", "--wait", "--json", check=False)

    def until_it_waits(self):
        until(lambda: self._small.job("digits")["message"].startswith("waits: "), what="the wait for room")
        return self


def test_it_is_killed_while_the_ranks_train(small, local):
    import time

    running = Running(small)
    before, _ = running.at_step(50)
    pid, killed = running.controllers_pid(), time.time()
    kill(pid)
    ended = running.end()
    first = ended["incidents"][0]
    assert ended["result"]["digest"] == local and ended["run"] == before["run"]
    assert ended["attempts"] == 2 and len(ended["incidents"]) == 1, ended["incidents"]
    assert (first["kind"], first["attempt"], first["decision"]) == ("signal", 1, "RestartAfterIncident"), first
    assert first["restoredStep"] >= 20 and ended["steps"]["run"] < 2 * ended["steps"]["newest"]
    assert "goes on after step" in small.program("logs", "digits", "--rank", "0").stdout
    incidents.record("ray", "controller killed", ended["result"]["digest"], first["noticed"] + first["recoverySeconds"] - killed)
    check_ledger_is_empty(small)


def test_it_is_killed_before_it_starts_again_what_was_lost(small, local, tmp_path):
    """While it waits before the next attempt: the incident is there once, and the decision is the same."""
    running = Running(small, job_file(tmp_path, ("recovery:", "recovery:\n    minDelay: 5s")))
    _, members = running.at_step(50)
    kill(members[0]["pid"])
    until(lambda: small.job("digits")["phase"] == "recovering" and small.job("digits")["incidents"][0]["decision"], what="the decision")
    kill(running.controllers_pid())
    ended = running.end()
    assert ended["result"]["digest"] == local and ended["attempts"] == 2 and len(ended["incidents"]) == 1, ended["incidents"]
    assert ended["incidents"][0]["recoverySeconds"] >= 5
    check_ledger_is_empty(small)


def test_it_is_killed_while_the_job_waits_for_room(small, local):
    """Nothing was lost: the job is placed when there is room, and has its first attempt."""
    with occupied():
        running = Waiting(small).until_it_waits()
        pid = running.controllers_pid()
        kill(pid)
        assert until(lambda: running.controllers_pid() != pid, what="another controller")
    ended = running.end()
    assert ended["result"]["digest"] == local and ended["attempts"] == 1 and not ended["incidents"]
    check_ledger_is_empty(small)


def test_a_cancel_that_nobody_hears_is_not_lost(small, tmp_path):
    running = Running(small, job_file(tmp_path, LONG))
    running.at_step(20)
    kill(running.controllers_pid())
    done = json.loads(small.program("cancel", "digits", "--json").stdout)
    assert (done["phase"], done["exitCode"], done["running"]) == ("stopped", 75, False)
    running._thread.join(PATIENCE)
    assert running.done.returncode == 75
    check_ledger_is_empty(small)


def test_a_cancel_that_was_answered_outlives_who_heard_it(small, tmp_path):
    import ray

    running = Running(small, job_file(tmp_path, LONG, ("gracePeriod: 10s", "gracePeriod: 1h")))
    _, members = running.at_step(20)
    subprocess.run(["kill", "-STOP", *(str(m["pid"]) for m in members)], check=True)  # no rank hears of it
    ray.get(running.controller.cancel.remote())
    kill(running.controllers_pid())
    running._thread.join(PATIENCE)
    assert running.done.returncode == 75 and json.loads(running.done.stdout)["phase"] == "stopped"
    check_ledger_is_empty(small)


def test_cancel_while_the_job_waits_for_room(small):
    with occupied():
        running = Waiting(small).until_it_waits()
        done = json.loads(small.program("cancel", "digits", "--json", timeout=20).stdout)
        assert done["phase"] == "stopped" and done["attempts"] == 0
        running._thread.join(PATIENCE)
        assert running.done.returncode == 75
    check_ledger_is_empty(small)


def test_a_stopped_job_goes_on(small, local):
    running = Running(small)
    running.at_step(50)
    stopped = json.loads(small.program("cancel", "digits", "--json").stdout)
    running._thread.join(PATIENCE)
    ended = json.loads(small.program("resume", "digits", "--wait", "--json").stdout)
    assert stopped["phase"] == "stopped" and "digest" not in stopped["result"]
    assert ended["result"]["digest"] == local and ended["attempts"] == 2 and ended["run"] == stopped["run"]
    again = small.program("resume", "digits", check=False)
    assert again.returncode == 65 and "is done" in again.stderr
    check_ledger_is_empty(small)


def test_an_ended_job_does_not_begin_again(small):
    """A controller that was killed after it had written down the end: the next one reads it, and leaves."""
    from thole.ray import documents, submission
    from thole.ray.progress import at_first
    from thole.ray.state import write_json

    folder = small.folder / "jobs" / "ended"
    job = documents.read(open(DIGITS, encoding="utf-8").read()).text
    write_json(folder / "job.json", {"job": job, "bindings": {"stores": {}, "keys": {}, "wait": 0}})
    write_json(folder / "state.json", {**at_first("ended", folder), "running": False, "phase": "failed"})
    before = (folder / "state.json").read_bytes()
    submission._start(folder, "ended")
    until(lambda: submission._actor("ended") is None, what="the controller's end")
    assert (folder / "state.json").read_bytes() == before


def test_two_submits_of_one_name(small, local):
    answers = []
    both = [threading.Thread(target=lambda: answers.append(small.program("submit", DIGITS, "--wait", "--json", check=False))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(PATIENCE)
    codes = sorted(a.returncode for a in answers)
    assert codes == [0, 69], [a.stderr for a in answers]
    good, refused = sorted(answers, key=lambda a: a.returncode)
    assert json.loads(good.stdout)["result"]["digest"] == local and "JobExists" in refused.stderr
    check_ledger_is_empty(small)


def test_a_key_that_is_gone_before_the_start(small, tmp_path):
    import os

    key = tmp_path / "digits.key"
    subprocess.run([os.environ["THOLE_COMMAND"], "key", "new", "--file", key], check=True, stdout=subprocess.DEVNULL)
    done = []
    with occupied():
        thread = threading.Thread(target=lambda: done.append(small.program(
            "submit", DIGITS, "--queue", "100", "--wait", "--json", "--key", f"digits={key}", check=False)))
        thread.start()
        until(lambda: small.job("digits")["message"].startswith("waits: ") if (small.folder / "jobs/digits/state.json").exists() else False,
              what="the wait for room")
        key.unlink()
    thread.join(PATIENCE)
    ended = json.loads(done[0].stdout)
    assert done[0].returncode == 66 and ended["reason"] == "KeyMissing" and str(key) in ended["message"]
    check_ledger_is_empty(small)


def test_a_submission_that_is_killed_halfway(small, local):
    """Between the job's folder and its controller: the next one says so, and both ways out lead out."""
    from thole.ray import submission
    from thole.ray.progress import at_first
    from thole.ray.state import write_json

    folder = small.folder / "jobs" / "digits"
    assert submission._leaves(small.folder, "digits")
    write_json(folder / "state.json", at_first("digits", folder))
    again = small.program("submit", DIGITS, check=False)
    assert again.returncode == 69 and "JobInterrupted" in again.stderr, again.stderr
    assert json.loads(small.program("cancel", "digits", "--json").stdout)["reason"] == "JobInterrupted"
    assert json.loads(small.program("submit", DIGITS, "--wait", "--json").stdout)["result"]["digest"] == local


def test_a_job_is_given_up_without_a_cluster(tmp_path):
    from thole.ray.progress import at_first
    from thole.ray.state import write_json

    folder = tmp_path / "state/jobs/digits"
    write_json(folder / "state.json", at_first("digits", folder))
    (tmp_path / "state").chmod(0o700)
    done = subprocess.run([sys.executable, "-m", "thole.ray", "--state", str(tmp_path / "state"), "--address", "127.0.0.1:1", "--json",
                           "cancel", "digits"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["reason"] == "JobInterrupted", done.stderr
    assert not json.loads((folder / "state.json").read_text())["running"]


@pytest.mark.parametrize("mode, reason", [(0o777, "StateNotPrivate"), (None, "StateNotPrivate")])
def test_a_state_folder_that_is_not_ours(tmp_path, mode, reason):
    import os

    folder = tmp_path / "state"
    folder.mkdir()
    if mode is None:
        if os.getuid():
            pytest.skip("needs root: another user's folder is made by chown")
        folder.chmod(0o700)
        os.chown(folder, 65534, 65534)
    else:
        folder.chmod(mode)
    done = subprocess.run([sys.executable, "-m", "thole.ray", "--state", str(folder), "status"], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 77 and reason in done.stderr, done.stderr
