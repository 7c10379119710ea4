"""Submitting and giving up without a cluster: in Ray's place is as much of it as is asked."""
import contextlib
import types

import pytest
import ray
from cluster import DIGITS
from thole.errors import TholeError
from thole.ray import documents, state, submission
from thole.ray.progress import at_first


class Rays:
    """A controller's handle, and what was done with it."""

    def __init__(self, monkeypatch, answer):
        self.killed, self.asked = [], []
        made = types.SimpleNamespace(status=types.SimpleNamespace(remote=lambda: "asked"))
        options = types.SimpleNamespace(remote=lambda folder: made)
        monkeypatch.setattr(ray, "remote", lambda _: types.SimpleNamespace(options=lambda **_: options))
        monkeypatch.setattr(ray, "cluster_resources", dict)
        monkeypatch.setattr(ray, "get", lambda ref, timeout=None: self.asked.append(timeout) or answer())
        monkeypatch.setattr(ray, "kill", lambda actor, no_restart: self.killed.append((actor is made, no_restart)))
        monkeypatch.setattr(submission, "_actor", lambda name: None)


def raises(error):
    def answer():
        raise error

    return answer


def submit(folder):
    submission.submit(documents.read(open(DIGITS, encoding="utf-8").read(), "TrainingJob"), folder, stores={}, keys={}, queue=1.0)


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "jobs" / "digits"
    state.write_json(folder / "state.json", at_first("digits", folder))
    return folder


@pytest.mark.parametrize("error, seen", [(ray.exceptions.GetTimeoutError("nothing"), TholeError), (ray.exceptions.RayActorError(), TholeError),
                                         (KeyboardInterrupt(), KeyboardInterrupt)])
def test_no_controller_is_left_of_a_submission_that_failed(tmp_path, monkeypatch, error, seen):
    rays = Rays(monkeypatch, raises(error))
    with pytest.raises(seen):
        submit(tmp_path)
    assert rays.killed == [(True, True)] and rays.asked[0] > 0 and not (tmp_path / "jobs" / "digits").exists()


def test_a_controller_that_cannot_be_ended_keeps_its_folder(tmp_path, monkeypatch):
    controller = tmp_path / "jobs" / "digits" / "controller"
    with contextlib.ExitStack() as stack:

        def answer():
            stack.enter_context(state.held(controller))
            raise KeyboardInterrupt

        Rays(monkeypatch, answer)
        monkeypatch.setattr(submission, "_APPEAR_SECONDS", 0.2)
        with pytest.raises(KeyboardInterrupt):
            submit(tmp_path)
        assert controller.with_name("state.json").exists()


def test_a_job_is_not_given_up_under_a_controller(tmp_path, job, monkeypatch):
    monkeypatch.setattr(submission, "_LOCK_SECONDS", 0.1)
    before = (job / "state.json").read_bytes()
    with state.held(job / "controller"):
        with pytest.raises(BlockingIOError):
            submission.give_up(tmp_path, "digits")
        assert (job / "state.json").read_bytes() == before
    assert submission.give_up(tmp_path, "digits")["phase"] == "stopped"
    ended = (job / "state.json").read_bytes()
    with state.held(job / "controller"):  # one that lingers after the end
        assert not submission.give_up(tmp_path, "digits")["running"]
    assert (job / "state.json").read_bytes() == ended != before


def test_a_controller_that_comes_up_meanwhile_is_asked(tmp_path, job, monkeypatch):
    called = []
    actor = types.SimpleNamespace(cancel=types.SimpleNamespace(remote=lambda: called.append("cancel")),
                                  wait=types.SimpleNamespace(remote=lambda _: called.append("wait")))
    found = iter([None, actor])
    monkeypatch.setattr(submission, "_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(submission, "_actor", lambda name: next(found))
    monkeypatch.setattr(ray, "get", lambda ref: ref)
    with state.held(job / "controller"):
        submission.cancel(tmp_path, "digits")
    assert called == ["cancel", "wait"]
    monkeypatch.setattr(submission, "_actor", lambda name: None)
    monkeypatch.setattr(submission, "_APPEAR_SECONDS", 0.2)
    with state.held(job / "controller"), pytest.raises(TholeError, match="--address"):
        submission.cancel(tmp_path, "digits")
