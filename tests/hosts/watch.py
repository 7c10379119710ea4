"""What the tests of all platforms wait for and look for."""
from __future__ import annotations

import os
import pathlib
import time
from typing import Any, Callable


def wait_for(seen: Callable[[], Any], what: str, seconds: float, said: Callable[[], str] = lambda: "", every: float = 0.05) -> Any:
    """Until `seen()` answers something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = seen()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}\n{said()}")
        time.sleep(every)


def processes_left(folder: Any) -> list[int]:
    """Processes whose environment or command line still names the folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(folder).encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
