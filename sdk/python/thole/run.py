"""Joining a run: who this rank is, how far it is, and whether it should stop."""
from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Mapping, Optional, Type

from . import _platform, allocation
from .checkpoint import Checkpoints, Sealed

EXIT_STOPPED = 75  # the exit code of a rank that was asked to stop and has saved its state

_joined: Optional["Run"] = None


def _number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ValueError(f"{name} is {text!r}: it must be a number of at least {least}")
    return value


def join() -> "Run":
    """The run that this process is a rank of, out of its environment; the same one again in the same process.

    Where no platform has set anything, it is a run of one rank that reports to nobody and has no store, so that the same
    script runs by hand.
    """
    global _joined
    if _joined is None:
        _joined = Run()
    return _joined


class Run:
    """A rank's view of its run. As a context manager it tells the platform of an exception that leaves the block."""

    def __init__(self) -> None:
        self.rank, self.world_size = _number("RANK", 0), _number("WORLD_SIZE", 1, 1)
        if self.rank >= self.world_size:
            raise ValueError(f"RANK is {self.rank} and WORLD_SIZE {self.world_size}: ranks count from 0")
        self.local_rank, self.local_world_size = _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1, 1)
        self.node_rank, self.attempt = _number("NODE_RANK", 0), _number("THOLE_ATTEMPT", 1, 1)
        self.name = os.environ.get("THOLE_JOB", "")
        self.checkpoint_interval = _number("THOLE_CHECKPOINT_INTERVAL", 0)
        self.stop_reason = ""
        self.stop_deadline: Optional[float] = None  # on time.monotonic(): after it the process is killed
        self._asked = False
        self._failed = False
        self._platform = self._connect()
        self.checkpoint = Checkpoints.from_environment(self.rank, self.world_size, self.attempt, _number("THOLE_CHECKPOINT_KEEP", 0),
                                                       self._tell)
        if self._platform is not None:
            self._watch()
        elif "THOLE_ATTEMPT" in os.environ:
            self._heed_sigterm()  # a platform without a socket: SIGTERM is all that it can say

    @property
    def allocation(self) -> Optional[allocation.Allocation]:
        """What this rank's member was given, such as the memory cap that a framework should keep to; None without a platform."""
        return allocation.read()

    # --- Training. --------------------------------------------------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """The platform has asked this rank to save and leave. Ranks hear of it at slightly different times: all must
        leave after the same step, so agree on it with a collective before acting."""
        return self._asked

    def step(self, done: int) -> None:
        """Says that `done` train steps are done since the beginning of the run, those before a restart included."""
        if self._platform is not None:
            self._platform.send_step(int(done))

    def save_due(self, done: int) -> bool:
        """After `done` steps it is time for a checkpoint, as the job's interval has it."""
        return self.checkpoint is not None and self.checkpoint_interval > 0 and done % self.checkpoint_interval == 0

    def save(self, step: int, tree: Any) -> Optional[Sealed]:
        """Saves this rank's part (Checkpoints.save). None where the job has no store."""
        return self.checkpoint.save(step, tree) if self.checkpoint is not None else None

    def restore(self, like: Any = None) -> Any:
        """The newest checkpoint (Checkpoints.restore); None if there is none, or no store."""
        return self.checkpoint.restore(like) if self.checkpoint is not None else None

    def report(self, **result: Any) -> None:
        """What the script wants to be known at its end: numbers, texts, bools."""
        self._tell({"result": {name: _platform.plain(value) for name, value in result.items()}})

    # --- The block. -------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if error is not None and not isinstance(error, SystemExit):
            self._report_failure(type(error), error, trace)
        self.close()

    def close(self) -> None:
        """Leaves: what was said is sent, and the thread ends."""
        if self._platform is not None:
            self._platform.close()
            self._platform = None

    # --- The platform. ----------------------------------------------------------------------------------------------

    def _connect(self) -> Optional[_platform.Platform]:
        path = os.environ.get("THOLE_SOCKET")
        if not path:
            return None
        try:
            return _platform.Platform(path, self.rank, self.attempt, self._stop)
        except OSError as error:
            print(f"thole: the platform's socket {path} cannot be used ({error}); this rank goes on without it",
                  file=sys.stderr, flush=True)
            return None

    def _watch(self) -> None:
        """What the platform would else not hear of: an exception, SIGTERM, the end. And forks are kept out."""
        previous = sys.excepthook

        def hook(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
            self._report_failure(kind, error, trace)
            previous(kind, error, trace)

        sys.excepthook = hook
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._after_fork_in_child)
        self._heed_sigterm()

    def _heed_sigterm(self) -> None:
        """A script that has its own handler keeps it."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, lambda number, frame: self._stop("SIGTERM", 30.0))

    def _after_fork_in_child(self) -> None:
        if self._platform is not None:
            self._platform.forget()
            self._platform = None
            if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _tell(self, message: Mapping[str, Any]) -> None:
        if self._platform is not None:
            self._platform.send(message)

    def _stop(self, reason: str, grace: float) -> None:
        # Called from the thread that reads the socket and from a signal handler: no lock, and the first one counts.
        if not self._asked:
            self.stop_reason, self.stop_deadline = reason, time.monotonic() + grace
            self._asked = True

    def _report_failure(self, kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
        if self._failed or self._platform is None:
            return
        self._failed = True
        lines = [line[:500] for entry in traceback.format_exception(kind, error, trace) for line in entry.splitlines()]
        self._tell({"failure": {"type": kind.__name__, "message": str(error)[:4000], "place": _place(trace),
                                "traceback": lines[-20:]}})


def _place(trace: Optional[TracebackType]) -> str:
    """The innermost line that is not of an installed package: where the person who wrote the script looks first."""
    frames = traceback.extract_tb(trace)
    installed = (sys.prefix + os.sep, sys.base_prefix + os.sep, str(Path(__file__).parent) + os.sep, "<")
    own = [f for f in frames if not f.filename.startswith(installed)]
    at = (own or list(frames))[-1:]
    return f"{os.path.basename(at[0].filename)}:{at[0].lineno}" if at else ""
