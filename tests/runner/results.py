"""What a suite answers: one result a test, and the count of them."""

import dataclasses
import os
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


# What a test may need that a machine need not have. A test that skips says "needs NAME: ..." with a name of this table;
# a skip while the need is met is a failure, and so is a skip for no need.
NEEDS = {
    "gpu": _nvml_answers,
    "no-gpu": lambda: not _nvml_answers(),
    "root": lambda: os.geteuid() == 0,
    "no-root": lambda: os.geteuid() != 0,
    "mount": _can_mount,
    "aarch64": lambda: os.uname().machine == "aarch64",
    "aarch64-compiler": _tool("aarch64-linux-gnu-gcc"),
    "promtool": _tool("promtool"),
    "strace": _tool("strace"),
    "clang-16": _tool("clang-16"),
    "torch": lambda: _can_import("torch"),
    "ml_dtypes": lambda: _can_import("ml_dtypes"),
    "long": lambda: os.environ.get("THOLE_TEST_LONG") == "1",
    # Never met: a block of a document that only shows something.
    "reader": lambda: False,
}


def _can_import(module):
    python = os.path.join(os.environ.get("THOLE_CACHE", ""), "python/bin/python")
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


_probed = {}


def judge_skip(detail):
    """What a skip counts as: (outcome, detail)."""
    text = detail.strip()
    if not text.startswith("needs "):
        return FAILED, f'skipped without saying what it needs ("needs NAME: why"): {detail.strip()}'
    name = text[len("needs ") :].split(":", 1)[0].split()[0]
    if name not in NEEDS:
        return FAILED, f"skipped for a need that tests/runner/results.py does not know: {text}"
    if name not in _probed:
        _probed[name] = NEEDS[name]()
    if _probed[name]:
        return FAILED, f"skipped, although what it needs is there: {text}"
    return SKIPPED, text
