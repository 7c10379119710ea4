"""What a suite answers: one result a test, and the count of them."""

import dataclasses
import glob
import os
import re
import shutil
import subprocess

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclasses.dataclass
class Result:
    name: str
    outcome: str
    detail: str = ""  # why it failed, or what a skip needs


class Suite:
    """The results of one suite, in the order in which they came."""

    def __init__(self, name):
        self.name = name
        self.results = []
        self.seconds = 0.0

    def add(self, name, outcome, detail=""):
        if outcome == SKIPPED:
            outcome, detail = judge_skip(detail)
        self.results.append(Result(name, outcome, detail))

    def check(self, name, problems):
        """A test that found these problems: none of them means that it passed."""
        problems = list(problems)
        self.add(name, FAILED if problems else PASSED, "\n".join(problems))

    def count(self, outcome):
        return sum(r.outcome == outcome for r in self.results)


def _nvml_answers():
    try:
        import ctypes

        return ctypes.CDLL("libnvidia-ml.so.1").nvmlInit_v2() == 0
    except (OSError, AttributeError):
        return False


def _tool(name):
    return lambda: shutil.which(name) is not None


def _can_mount():
    done = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return done.returncode == 0


# What a test may need that a machine need not have: (what a skip says, whether the need is met). A skip while the need is
# met is a failure, and so is a skip that says nothing of this list. `needs NAME: why` is the form for new tests.
NEEDS = [
    ("needs gpu", _nvml_answers),
    ("needs no-gpu", lambda: not _nvml_answers()),
    ("needs root:|only root", lambda: os.geteuid() == 0),
    ("needs no-root", lambda: os.geteuid() != 0),
    ("needs mount|mounting needs root", _can_mount),
    ("needs promtool|promtool is not", _tool("promtool")),
    ("needs strace|strace is not", _tool("strace")),
    ("castxml is not", _tool("castxml")),
    ("no C compiler", _tool("cc")),
    ("torch", lambda: _can_import("torch")),
    ("jax", lambda: _can_import("jax")),
    ("setuptools", lambda: _can_import("wheel")),
    ("THOLE_DATA", lambda: "THOLE_DATA" in os.environ),
    ("needs long|THOLE_TEST_HUGE", lambda: os.environ.get("THOLE_TEST_LONG") == "1"),
    # nvml.h is a package that sdk/setup/install brings, and every other part is built: no skip for one of them.
    ("nvml.h", lambda: True),
    ("needs slurm", _tool("slurmctld")),
    ("needs kubernetes", lambda: os.geteuid() == 0 and bool(glob.glob(os.path.join(os.environ.get("THOLE_CACHE", ""), "kubernetes/ready-*")))),
    # Never met: the older Ray of --long has it not.
    ("needs ray with RocksDB", lambda: False),
    ("needs ray:", lambda: bool(glob.glob(os.path.join(os.environ.get("THOLE_CACHE", ""), "ray-*/ready-*")))),
    ("needs redis-server", _tool("redis-server")),
    ("needs library", lambda: True),
    ("needs chroot", _tool("mmdebstrap")),
    # Never met: a test of this machine's own Slurm, run with the Slurm of a chroot.
    ("needs own-slurm", lambda: False),
    # Never met: a block of a document that shows what happens elsewhere.
    ("needs reader", lambda: False),
]


def _can_import(module):
    python = os.path.join(os.environ.get("THOLE_CACHE", ""), "python/bin/python")
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


_probed = {}


def judge_skip(detail):
    """What a skip counts as: (outcome, detail)."""
    text = detail.strip()
    for words, met in NEEDS:
        if re.search(words, text):
            if words not in _probed:
                _probed[words] = met()
            if _probed[words]:
                return FAILED, f"skipped, although what it needs is there: {text}"
            return SKIPPED, text
    return FAILED, f"skipped for a need that tests/runner/results.py does not know: {text}"
