"""A rank is killed at every write, sync and rename that it makes for its checkpoints, one after the other; the platform
must bring the job to the end that an undisturbed run has, with a checkpoint that verifies.

Two ranks seal in turn, so that the first is met where it finds a part missing, and the second where it commits.
"""
import collections
import json
import shutil
import sys

import pytest
from places import chosen, every_place, killed_at, needs_strace, traced
from platform_tools import HERE, Host, job_file, processes_of
from test_processes import chain

STEPS = 4


def job_of(host, rank, *how):
    trace = f"{rank},{' '.join([*traced(host.folder / 'trace'), *how])}"
    return job_file(host.folder, [sys.executable, HERE / "saving_rank.py", "--steps", STEPS, "--every", 2, "--in-turn",
                                  f"--trace={trace}"], checkpoint={"interval": 2, "keep": 1})


@needs_strace
@pytest.mark.parametrize("rank", (0, 1))
def test_every_place_at_which_a_seal_can_die(tmp_path, rank):
    (tmp_path / "count").mkdir()
    host = Host(tmp_path / "count")
    code, end, said = host.run(job_of(host, rank))
    assert code == 0 and not end["incidents"], said
    places = every_place(host.folder / "trace")
    total = len(places)
    outcome, killed, tried = collections.Counter(), 0, chosen(places)
    for call, k in tried:
        folder = tmp_path / f"{call}-{k}"
        folder.mkdir()
        host = Host(folder)
        code, end, said = host.run(job_of(host, rank, *killed_at(call, k)), "--no-metrics-page")
        assert code == 0 and end["result"]["digest"] == chain(STEPS), (call, k, said)
        if not end["incidents"]:
            outcome["ended before the place was reached"] += 1
        else:
            killed += 1
            incident, = end["incidents"]
            assert (incident["kind"], incident["rank"], incident["code"]) == ("signal", rank, 9), (call, k, incident)
            outcome[f"went on after step {incident['restoredStep']}"] += 1
        newest = json.loads(host("--json", "ckpt", "ls", "fake").stdout)["checkpoints"][0]
        assert (newest["state"], newest["step"]) == ("committed", STEPS), (call, k, newest)
        checked = host("--json", "ckpt", "verify", "fake")
        assert checked.returncode == 0 and json.loads(checked.stdout)["parts"] == 2, (call, k, checked.stderr)
        assert not processes_of(str(host.state)), (call, k, "a process was left")
        shutil.rmtree(folder)
    print(f"\nrank {rank} killed at {killed} of {len(tried)} places tried (of {total}); "
          + "; ".join(f"{what}: {n}" for what, n in sorted(outcome.items())))
    assert killed > total // 2
