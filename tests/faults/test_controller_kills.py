"""The controller is killed at every write, sync and rename that it makes, one after the other; then `thole resume` must
bring the job to the end that an undisturbed run has.

Only the controller is traced, not its ranks. Where the
job was not yet on record, resume says so, and `thole run` does it all: counted apart.

"""
import collections
import json
import shutil
import subprocess

from places import chosen, every_place, killed_at, needs_strace, traced
from platform_tools import Host, environment, processes_of
from test_processes import chain

STEPS = 6


def strace(host, job, *how):
    return subprocess.run(["strace", *traced(host.folder / "trace"), *how,
                           *host.arguments("--json", "run", job, "--pool", host.pool, "--no-metrics-page", "-q")],
                          capture_output=True, text=True, timeout=120, env=environment(), cwd=host.folder)


def job_of(host):
    return host.fake("--steps", STEPS, "--every", 2, "--pace", 0.002)


@needs_strace
def test_every_place_at_which_the_controller_can_die(tmp_path):
    (tmp_path / "count").mkdir()
    host = Host(tmp_path / "count")
    done = strace(host, job_of(host))
    assert done.returncode == 0, done.stderr
    places = every_place(host.folder / "trace")
    total = len(places)
    places = chosen(places)
    outcome, killed = collections.Counter(), 0
    for call, k in places:
        folder = tmp_path / f"{call}-{k}"
        folder.mkdir()
        host = Host(folder)
        job = job_of(host)
        # The number of calls varies a little with timing; one that was not reached is counted apart.
        first = strace(host, job, *killed_at(call, k))
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
