"""Members that are slow to come up, without any: how long they are waited for, and what ends the wait."""
import threading
import types

import pytest
import ray
from thole.errors import TholeError
from thole.ray import attempt as attempt_module

MEMBERS = 3


class Clock:
    def __init__(self):
        self.now, self.at = 0.0, {}

    def wait(self, asked, num_returns, timeout):
        """Nobody comes up; what is to happen by then happens."""
        self.now += timeout
        for at, happens in self.at.items():
            if self.now >= at:
                happens()
        return [], asked


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(ray, "wait", made.wait)
    monkeypatch.setattr(attempt_module.time, "monotonic", lambda: made.now)
    monkeypatch.setattr(attempt_module.Attempt, "_lost_of", lambda *_: None)
    return made


def starting(clock, start_timeout, **spec):
    controller = types.SimpleNamespace(spec={"recovery": {"startTimeout": start_timeout}, **spec}, cancelled=threading.Event(),
                                       progress=types.SimpleNamespace(ran=lambda: clock.now))
    made = attempt_module.Attempt(controller, None, 1)
    made._actors = [types.SimpleNamespace(where=types.SimpleNamespace(remote=object)) for _ in range(MEMBERS)]
    return controller, made


@pytest.mark.parametrize("start_timeout, seconds", [("2s", 120 + MEMBERS), ("10m", 600)])
def test_members_have_the_start_timeout(clock, start_timeout, seconds):
    _, made = starting(clock, start_timeout)
    with pytest.raises(TholeError, match=f"within {seconds} s"):
        made._where()
    assert clock.now == seconds


def test_a_cancel_ends_the_wait(clock):
    controller, made = starting(clock, "10m")
    clock.at[40] = controller.cancelled.set
    assert made._where() == {"how": "stopped"} and clock.now == 40


def test_the_time_limit_ends_the_wait(clock):
    _, made = starting(clock, "10m", timeLimit="30s")
    assert made._where() == {"how": "time"} and clock.now == 31
