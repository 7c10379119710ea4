"""The state folder is bounded: jobs, attempts, runs, logs and ledgers are forgotten as docs/reference/state.md says."""
import json
import pathlib
import sys

from platform_tools import HERE, job_file
from test_processes import chain


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_logs_of_old_attempts_are_forgotten_and_their_counters_are_not(host):
    script = host.folder / "rank.py"
    script.write_text(
        "import os, sys, thole\n"
        "with thole.join() as run:\n"
        "    thole.metrics.counter('test_attempts', 'Attempts.').add()\n"
        "    sys.exit(3 if run.attempt < 6 else 0)\n")
    job = job_file(host.folder, [sys.executable, script], members=1, recovery={"maxWithoutProgress": 100, "maxSameCause": 100})
    code, end, said = host.run(job, "--keep-attempts", 2)
    assert code == 0 and end["attempts"] == 6, said
    attempts = host.state / "jobs" / "fake" / "attempts"
    assert names(attempts) == ["1", "2", "3", "4", "5", "6"]
    for n in range(1, 7):
        logs = [name for name in names(attempts / str(n)) if not name.endswith(".metrics")]
        assert bool(logs) == (n > 4), (n, logs)
    assert 'test_attempts_total 6' in pathlib.Path(end["metrics"]).read_text()
    assert host("logs", "fake", "--attempt", 1).stdout == "" and len(end["incidents"]) == 5


def saving(host, name="fake", **spec):
    return job_file(host.folder, [sys.executable, HERE / "saving_rank.py", "--steps", 2, "--every", 2], members=1, name=name,
                    checkpoint={"interval": 2, "keep": 1}, **spec)


def test_checkpoints_of_old_runs_are_forgotten_and_nobody_elses(host):
    store = host.state / "stores" / "checkpoints"
    assert host.run(saving(host, "fake-2"), "--keep-runs", 2)[0] == 0  # its name begins as ours does
    other, = names(store)
    runs = []
    for n in range(4):
        code, end, said = host.run(saving(host), "--keep-runs", 2)
        assert code == 0, said
        runs.append(f"fake-{end['run']}")
        assert names(store) == sorted([other, *runs[-2:]])
        assert ("deleted" in said) == (n >= 2)
    # A run that no state knows of, since its job was forgotten, is the oldest.
    lost = store / "fake-00000000-0000-4000-8000-000000000001"
    lost.mkdir()
    code, end, said = host.run(saving(host), "--keep-runs", 3)
    assert code == 0 and names(store) == sorted([other, *runs[-2:], f"fake-{end['run']}"]), said
    assert json.loads(host("--json", "ckpt", "ls", "fake").stdout)["checkpoints"][0]["state"] == "committed"


def test_a_store_of_ones_own_is_never_cleared(host):
    own = host.folder / "own"
    job = saving(host, platforms={"local": {"stores": {"checkpoints": str(own)}}})
    for _ in range(3):
        assert host.run(job, "--keep-runs", 1)[0] == 0
    assert len(names(own)) == 3


def test_jobs_beyond_the_newest_are_forgotten_with_their_folders(host):
    for n in range(4):
        assert host.run(host.fake("--steps", 1, name=f"job-{n}", save=False), "--keep-jobs", 2)[0] == 0
    assert names(host.state / "jobs") == ["job-2", "job-3"]
    assert [j["job"] for j in json.loads(host("--json", "status").stdout)["jobs"]] == ["job-2", "job-3"]


def test_a_state_of_the_version_before_the_list_of_runs(host):
    assert host.run(saving(host))[0] == 0
    file = host.state / "jobs" / "fake" / "state.json"
    state = json.loads(file.read_text())
    assert state.pop("runs") == [state["run"]]
    file.write_text(json.dumps(state))
    first = f"fake-{state['run']}"
    code, end, said = host.run(saving(host), "--keep-runs", 1)
    assert code == 0 and end["result"]["digest"] == chain(2), said
    assert first not in names(host.state / "stores" / "checkpoints")


def test_the_controllers_log_is_bounded(host):
    """A job that says much: a line for each checkpoint."""
    folder = host.state / "jobs" / "fake"
    code, _, said = host.run(host.fake("--steps", 3000, "--every", 1, "--pace", 0), "-v")
    assert code == 0, said
    assert sum(p.stat().st_size for p in folder.glob("controller*.log")) <= 3 << 20
