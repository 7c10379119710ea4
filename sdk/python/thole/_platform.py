"""The rank's end of the platform's socket: what it says, and the request to stop (docs/reference/job-environment.md).

Nothing here may hold the training up: writes never wait, and what the platform does not read in time is dropped or
replaced by what is newer. A platform that goes away is noticed once; the rank goes on.
"""
from __future__ import annotations

import json
import math
import os
import select
import socket
import sys
import threading
import time
from typing import Any, Callable, Mapping, Optional

PROTOCOL = 1
LONGEST_LINE = 65536
_ALIVE_SECONDS = 0.5
_MOST_PENDING = 1 << 20

Stop = Callable[[str, float], None]


def plain(value: Any) -> Any:
    """A JSON scalar: numpy's and JAX's scalars as Python's, a number that JSON does not have as text."""
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} is no JSON scalar: report numbers, texts, bools or None")


def encoded(message: Mapping[str, Any]) -> bytes:
    line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > LONGEST_LINE:
        raise ValueError(f"a message of {len(line)} bytes: at most {LONGEST_LINE} fit")
    return line


class Platform:
    """A connection, and the thread that keeps it alive and reads from it."""

    def __init__(self, path: str, rank: int, attempt: int, stop: Stop) -> None:
        self._stop = stop
        self._socket: Optional[socket.socket] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._step: Optional[bytes] = None  # the newest that could not be sent
        self._ended = threading.Event()
        self.send({"hello": {"protocol": PROTOCOL, "rank": rank, "attempt": attempt, "pid": os.getpid()}})
        self._thread = threading.Thread(target=self._live, name="thole-platform", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def send(self, message: Mapping[str, Any]) -> None:
        line = encoded(message)
        with self._lock:
            if len(self._pending) + len(line) <= _MOST_PENDING:
                self._pending += line
                self._write()

    def send_step(self, step: int) -> None:
        line = encoded({"step": step})
        with self._lock:
            if self._pending:
                self._step = line  # the platform is slow: it wants the newest, not all
            else:
                self._pending += line
                self._write()

    def close(self, seconds: float = 2.0) -> None:
        """Waits until what was said is out, but not for ever."""
        until = time.monotonic() + seconds
        while self._socket is not None and time.monotonic() < until:
            with self._lock:
                self._write()
                if not self._pending:
                    break
            select.select([], [self._socket], [], 0.05)
        self._ended.set()
        with self._lock:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RD)  # wakes the thread
        self._thread.join(seconds)
        self._drop()

    def forget(self) -> None:
        """In a forked child: the connection, the thread and the lock are the parent's."""
        if self._socket is not None:
            os.close(self._socket.detach())
            self._socket = None
        self._lock = threading.Lock()
        self._ended.set()

    def _write(self) -> None:
        """Sends what it can without waiting. [with the lock]"""
        if self._step is not None and not self._pending:
            self._pending += self._step
            self._step = None
        while self._pending and self._socket is not None:
            try:
                sent = self._socket.send(self._pending, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._lost()
                return
            del self._pending[:sent]
            if self._step is not None and not self._pending:
                self._pending += self._step
                self._step = None

    def _lost(self) -> None:
        if self._socket is not None and not self._ended.is_set():
            print("thole: the platform has gone; this rank goes on alone", file=sys.stderr, flush=True)
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._pending.clear()

    def _live(self) -> None:
        heard, next_alive = bytearray(), time.monotonic() + _ALIVE_SECONDS
        while not self._ended.is_set():
            connection = self._socket
            if connection is None:
                return
            try:
                ready, _, _ = select.select([connection], [], [], max(0.0, next_alive - time.monotonic()))
                if ready:
                    data = connection.recv(4096)
                    if not data:
                        raise ConnectionResetError
                    heard += data
            except (BlockingIOError, InterruptedError):
                continue
            except (OSError, ValueError):  # ValueError: closed meanwhile
                with self._lock:
                    self._lost()
                return
            self._hear(heard)
            if time.monotonic() >= next_alive:
                next_alive = time.monotonic() + _ALIVE_SECONDS
                self.send({"alive": True})

    def _hear(self, heard: bytearray) -> None:
        while b"\n" in heard:
            line, _, rest = bytes(heard).partition(b"\n")
            heard[:] = rest
            try:
                message = json.loads(line)
                stop = message["stop"] if isinstance(message, dict) and "stop" in message else None
                if stop is not None:
                    self._stop(str(stop.get("reason", "")), float(stop.get("grace", 30.0)))
            except (ValueError, TypeError, AttributeError):
                continue  # what a newer platform says and this package does not know
        if len(heard) > LONGEST_LINE:
            heard.clear()
