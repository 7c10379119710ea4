"""What is remembered of a job, without a cluster: order, fences, restarts and a full disk."""
import errno
import json
import os
import types

import pytest
from thole import _abi
from thole.errors import TholeError
from thole.ray import progress as progress_module
from thole.ray import state
from thole.ray.history import Incident
from thole.ray.progress import Progress, at_first, leave_open


def gang(members=2):
    """As much of one as Progress reads."""
    grant = types.SimpleNamespace(uuid="GPU-0", kind=_abi.THOLE_KIND_VGPU, memory_mib=1024, share_milli=250, flags=_abi.THOLE_GPU_SIMULATED)
    placements = [types.SimpleNamespace(role=0, member=i, first_rank=i, ranks=1, grants=(grant,)) for i in range(members)]
    return types.SimpleNamespace(placements=placements, roles=["trainer"], node_name=lambda i: "bench-0")


@pytest.fixture
def progress(tmp_path):
    folder = tmp_path / "jobs" / "digits"
    state.write_json(folder / "state.json", at_first("digits", folder))
    return Progress(folder)


def on_disk(progress):
    return json.loads((progress.folder / "state.json").read_text())


def part(step, rank, committed, seconds=0.1):
    return {"rank": rank, "at": 1.0, "checkpoint": {"step": step, "committed": committed, "bytes": 10, "file_bytes": 12, "seconds": seconds}}


def test_only_the_attempt_that_goes_on_is_heard(progress):
    said = [{"rank": 0, "step": 5, "at": 1.0}, {"rank": 0, "line": "x", "at": 1.0}, part(5, 0, True)]
    assert not progress.hear(0, 0, said) and not progress.hear(0, 1, said)  # before there is one
    progress.begin(gang(), 1)
    assert on_disk(progress)["attempts"] == 1 and progress.hear(0, 1, said)
    progress.over()
    progress.begin(gang(), 2)
    assert not progress.hear(0, 1, [{"rank": 0, "step": 99, "at": 1.0}])
    assert progress.now()["steps"] == {"newest": 5, "run": 5}
    assert Progress(progress.folder).hear(0, 2, said) is False  # one that was started again has no attempt yet


@pytest.mark.parametrize("order", [[(0, False), (1, True)], [(1, True), (0, False)]])
def test_parts_in_any_order(progress, order):
    progress.begin(gang(), 1)
    for rank, committed in order:
        progress.hear(rank, 1, [part(20, rank, committed, seconds=0.1 + rank)])
    progress.note()
    now = on_disk(progress)
    assert (now["checkpointsCommitted"], now["checkpointBytes"]) == (1, 20)
    assert now["checkpoints"] == [{"step": 20, "attempt": 1, "parts": 2, "committed": True, "bytes": 20, "fileBytes": 24, "seconds": 1.1}]


def test_a_recovery_is_timed_from_the_incident_to_the_next_attempts_step(progress):
    progress.begin(gang(), 1)
    progress.hear(0, 1, [{"rank": 0, "step": 30, "at": 1.0}, part(20, 0, True)])
    progress.over()
    history = progress.incident(Incident("signal", 1, 9, "was killed"), 1)
    assert (history[-1].attempt, history[-1].safe_step) == (1, 20)
    again = Progress(progress.folder)  # the controller was killed here
    again.begin(gang(), 2)
    noticed = again.now()["incidents"][0]["noticed"]
    again.hear(0, 2, [{"rank": 0, "restored": {"step": 20}, "at": noticed + 1}, {"rank": 0, "step": 21, "at": noticed + 2.5}])
    incident = on_disk(again)["incidents"][0] if again.note() is None else None
    assert (incident["recoverySeconds"], incident["restoredStep"]) == (2.5, 20)
    assert again.now()["steps"] == {"newest": 30, "run": 31}


def test_a_thousand_ranks(progress, monkeypatch):
    """Each one's part of a checkpoint costs no write of the whole state, and its log no open file."""
    writes, ranks = [], 1000
    monkeypatch.setattr(progress_module, "_SAVE_SECONDS", 3600)
    write = state.write_json
    monkeypatch.setattr(state, "write_json", lambda path, data: (writes.append(path), write(path, data)))
    progress.begin(gang(ranks), 1)
    del writes[:]
    files = len(os.listdir("/proc/self/fd"))
    for rank in range(ranks):
        progress.hear(rank, 1, [{"rank": rank, "line": "first", "at": 1.0}, part(20, rank, rank == ranks - 1)])
    assert len(writes) == 1 and on_disk(progress)["checkpointsCommitted"] == 1  # once it is whole, at once
    progress.hear(0, 1, [{"rank": 0, "line": "second", "at": 1.0}, {"rank": 0, "result": {"loss": 1}, "at": 1.0}])
    assert len(writes) == 2 and on_disk(progress)["result"] == {"loss": 1}
    assert len(os.listdir("/proc/self/fd")) - files <= 64
    progress.over()
    assert len(os.listdir("/proc/self/fd")) == files
    logs = progress.folder / "attempts" / "1"
    assert len(list(logs.iterdir())) == ranks and (logs / "rank-0.log").read_text() == "first\nsecond\n"


def test_time_counts_only_while_members_run(progress, monkeypatch):
    """Neither the wait for room before, nor the days between a cancel and a resume, nor what another attempt waits for."""
    clock = [1000.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    clock[0] += 500
    progress.note(message="waits")
    assert progress.ran() == 0
    for attempt, seconds in ((1, 7), (2, 5)):
        progress.begin(gang(), attempt)
        clock[0] += seconds / 2
        progress.hear(0, attempt, [{"rank": 0, "step": 1, "at": 1.0}])
        clock[0] += seconds / 2
        progress.over()
        clock[0] += 90000
        progress.note(phase="stopped")
    assert on_disk(progress)["seconds"] == progress.ran() == 12
    again = Progress(progress.folder)  # of a controller that was killed counts what it had written down
    clock[0] += 90000
    again.begin(gang(), 3)
    clock[0] += 1
    assert again.now()["seconds"] == 13  # as the metrics tell it, also while the ranks say nothing
    clock[0] += 2
    assert again.ran() == 15
    again.note()
    assert Progress(progress.folder).ran() == 15


def test_a_stop_and_a_resume_are_no_recovery(progress):
    progress.begin(gang(), 1)
    progress.over()
    progress.incident(Incident("signal", 1, 9, "was killed"), 1)
    progress.note(phase="stopped", running=False)
    now = progress.now()
    leave_open(now)
    state.write_json(progress.folder / "state.json", now)
    again = Progress(progress.folder)
    again.begin(gang(), 2)
    again.hear(0, 2, [{"rank": 0, "restored": {"step": 20}, "at": 1.0}, {"rank": 0, "step": 21, "at": now["incidents"][0]["noticed"] + 90000}])
    left = again.now()["incidents"][0]
    assert (left["recoverySeconds"], left["restoredStep"]) == (None, 20)
    again.over()
    again.incident(Incident("signal", 1, 9, "was killed"), 2)  # the next one is timed
    again.begin(gang(), 3)
    again.hear(0, 3, [{"rank": 0, "step": 2, "at": again.now()["incidents"][1]["noticed"] + 2}])
    assert [i["recoverySeconds"] for i in again.now()["incidents"]] == [None, 2.0]


def test_a_full_disk_stops_no_rank_and_starts_none(progress, monkeypatch):
    progress.begin(gang(), 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = on_disk(progress)
    monkeypatch.setattr(state, "write_json", full)
    assert progress.hear(0, 1, [part(20, 0, True)])
    progress.over()
    with pytest.raises(TholeError, match="No space left") as raised:
        progress.begin(gang(), 2)
    assert raised.value.reason == "StateUnwritable" and on_disk(progress) == before
    assert not progress.hear(0, 2, [])  # it has not begun


def test_unicode_and_lines_without_end(progress):
    progress.begin(gang(), 1)
    progress.hear(1, 1, [{"rank": 1, "line": "schön \N{SNOWMAN} \udcff".encode("utf-8", "replace").decode(), "at": 1.0},
                         {"rank": 1, "result": {"größe": "\N{SNOWMAN}"}, "at": 1.0}])
    progress.over()
    assert "\N{SNOWMAN}" in (progress.folder / "attempts/1/rank-1.log").read_text(encoding="utf-8")
    assert on_disk(progress)["result"] == {"größe": "\N{SNOWMAN}"}


@pytest.mark.parametrize("nonsense", [{"checkpoint": 5}, {"checkpoint": {}}, {"step": "5"}, {"result": [1]}, {"restored": None}, {"restored": {"step": "x"}},
                                      {"line": None}, {"hello": 1}, {"checkpoint": {"step": {}, "committed": True}}])
def test_nonsense_counts_for_nothing(progress, nonsense):
    progress.begin(gang(), 1)
    assert progress.hear(0, 1, [{"rank": 0, "at": 1.0, **nonsense}, {"rank": 0, "step": 3, "at": 2.0}])
    now = progress.now()
    assert now["steps"]["newest"] == 3 and not now["checkpoints"] and not now["result"]


def test_a_lock_ends_with_its_holder(tmp_path):
    assert not state.is_held(tmp_path / "none")
    with state.held(tmp_path / "lock"):
        assert state.is_held(tmp_path / "lock")
        with pytest.raises(BlockingIOError):
            with state.held(tmp_path / "lock", 0.1):
                raise AssertionError("two hold it")
    assert not state.is_held(tmp_path / "lock")
