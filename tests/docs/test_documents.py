"""Every command block of the documents runs, and every link leads somewhere.

A block that begins with ```sh is run by bash from the root of the checkout, in a HOME and a TMPDIR of its own, with
the built `thole` in PATH. ```sh no-run: REASON is not run and counts as skipped. Other blocks show text, or another language.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md") if p.exists()] + sorted(
    (ROOT / "docs").rglob("*.md")) + sorted((ROOT / "samples").rglob("*.md"))
BLOCK = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.M | re.S)


def blocks():
    for document in DOCUMENTS:
        name = str(document.relative_to(ROOT))
        group = []
        for found in BLOCK.finditer(document.read_text()):
            if found.group(1) in ("sh", "bash", "shell", "console"):
                group.append((found.group(1), found.group(2).strip(), found.group(3)))
        if group:
            yield pytest.param(group, id=name)


@pytest.mark.parametrize("group", blocks())
def test_commands(group, tmp_path):
    """The blocks of one document, in order, in one shell, so that a later one may use what an earlier one made."""
    runnable, shown = [], []
    for language, mark, text in group:
        assert language == "sh", f"```{language}: command blocks are marked sh, so that they are run"
        assert mark == "" or re.match(r"no-run: \S", mark), f"```sh {mark}: either nothing, or no-run: REASON"
        (shown if mark else runnable).append(text)
    if not runnable:
        pytest.skip(f"needs reader: {len(shown)} blocks are only shown")
    home = tmp_path / "home"
    home.mkdir()
    environment = dict(os.environ, HOME=str(home), TMPDIR=str(tmp_path), XDG_STATE_HOME=str(home / "state"), NO_COLOR="1")

    script = "set -euo pipefail\n" + "\n".join(runnable)
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800,
                          stdin=subprocess.DEVNULL, errors="replace", check=False)
    print(f"{len(runnable)} of {len(group)} blocks run")
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(document):
    broken = []
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not re.match(r"[a-z]+:", target) and not (document.parent / target).exists():
            broken.append(target)
    assert not broken
