"""Keeps a worker of an attempt that is over from changing a run's files: from the moment the next attempt begins it is refused.

The file `.attempt` in the folder of a run holds a token; each attempt writes one of its own, and a process of it compares before it
begins a file, again before the file is there, and before it moves or deletes one. What it has asked for already it still does: a file
whose last bytes are on their way to the disk comes. It lies in a folder that Ray Train has not registered, unless the names of a run's
checkpoints are chosen by hand; and where the next attempt writes the same file, the core's own fence of that file refuses it.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, Optional

NAME = ".attempt"


@dataclass(frozen=True)
class Fence:
    folder: str  # what it guards, in the filesystem
    token: str


_of_this_process: Dict[str, Fence] = {}  # by the folder of the filesystem


def guard(root: str, folder: str, token: str) -> None:
    """From here on this process changes what lies below `folder` as a part of the attempt with that token, or not at all."""
    _of_this_process[os.path.realpath(root)] = Fence(folder, token)


def fence_of(root: str, path: str, whole: bool = False) -> Optional[Fence]:
    """What guards a path in this process, if anything does. `whole`: or something below the path."""
    fence = _of_this_process.get(os.path.realpath(root))
    if fence is None:
        return None
    inside = path == fence.folder or path.startswith(fence.folder + "/")
    around = whole and (path == "" or fence.folder.startswith(path + "/"))
    return fence if inside or around else None
