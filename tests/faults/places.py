"""Every place at which a process changes something on disk, and how to kill it there, by strace.

strace sends SIGKILL at the K-th call of a kind, and the call itself is then not made. A kill before a call is also a kill
after the one before it, so every place between two of them is met.

All places are tried; THOLE_FAULTS_STEP=N tries every N-th of each kind of call.
"""
import collections
import os
import re
import shutil

import pytest

CALLS = ("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat",
         "mkdir", "mkdirat", "unlink", "unlinkat", "ftruncate", "fallocate", "openat")

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def traced(file):
    return ["-o", str(file), "-e", f"trace={','.join(CALLS)}"]


def killed_at(call, k):
    return ["-e", f"inject={call}:signal=SIGKILL:when={k}"]


def every_place(file):
    """(call, K) of each call in a trace that changes something; of openat those that make files."""
    counts, places = collections.Counter(), []
    for line in file.read_text(errors="replace").splitlines():
        found = re.match(r"(\w+)\(", line)
        if not found:
            continue
        counts[found.group(1)] += 1
        if found.group(1) != "openat" or "O_CREAT" in line:
            places.append((found.group(1), counts[found.group(1)]))
    return places


def chosen(places):
    pace = int(os.environ.get("THOLE_FAULTS_STEP", "1"))
    return [p for call in CALLS for p in [q for q in places if q[0] == call][::pace]]
