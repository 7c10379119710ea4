"""Where things are on a machine of the cluster: one private folder, given with --state or THOLE_RAY_STATE.

    cluster.json          the cluster that `thole ray start` started or joined here: address, processes
    cluster               locked by who starts or stops nodes
    jobs/NAME/state.json  all that is remembered of a job, as `status --json` prints it
    jobs/NAME/job.json    the job in canonical form, and what its names are bound to
    jobs/NAME/controller  locked by the process that runs the job, for as long as that process lives
    jobs/NAME/attempts/N/rank-R.log
    keys/NAME.key         keys that nobody bound; stores/STORE/JOB-RUN: stores that nobody bound
"""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from thole.errors import TholeError

STATE = "THOLE_RAY_STATE"


def folder(given: str = "") -> Path:
    """The state folder, made if it is missing. One that others may write to, or that is theirs, is refused."""
    text = given or os.environ.get(STATE, "")
    if not text:
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        text = os.path.join(base, "thole", "ray")
    path = Path(text).absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise TholeError("THOLE_DENIED", "StateUnwritable", f"{path} cannot be made: {error.strerror}; choose another with "
                         "--state", error.errno or 0) from None
    if found.st_uid != os.getuid():
        raise TholeError("THOLE_DENIED", "StateNotPrivate", f"{path} belongs to another user: choose another with --state")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise TholeError("THOLE_DENIED", "StateNotPrivate", f"others may write to {path}: chmod 700 it")
    return path


def write_json(path: Path, data: Any) -> None:
    """Replaced as a whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(json.dumps(data))  # in one piece: `dump` and an indent take several times as long
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def read_json(path: Path) -> Optional[Dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def job_folder(state: Path, name: str) -> Path:
    return state / "jobs" / name


@contextlib.contextmanager
def held(path: Path, seconds: float = -1.0) -> Iterator[None]:
    """Holds the lock of a file; the kernel gives it back when this process ends, however it ends. Raises BlockingIOError if it
    is not had within `seconds`; without them it waits."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if 0 <= seconds and time.monotonic() >= until:
                    raise
            time.sleep(0.05)  # not a wait in the kernel: who only looks holds it for a moment
        yield


def is_held(path: Path) -> bool:
    """Whether a process that lives holds the lock of the file."""
    try:
        with open(path, "r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
