"""docs/guide/kubernetes.md, word for word: every block in its order, in one shell, in a home of its own."""
from __future__ import annotations

import os
import pathlib
import re
import subprocess
import tempfile

import pytest
from cluster import Cluster, processes_left
from installed import ROOT

GUIDE = ROOT / "docs/guide/kubernetes.md"


@pytest.fixture
def home():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="thole-guide.", dir="/tmp"))
    yield folder
    Cluster(folder / "cluster").down()
    subprocess.run(["rm", "-rf", folder], check=True)


def go(name):
    """Where Go keeps what it has compiled: a home of one's own would be an empty one."""
    path = subprocess.run([ROOT / "adapters/kubernetes/setup/go"], capture_output=True, text=True, check=True, timeout=600).stdout.strip()
    return subprocess.run([path, "env", name], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_word_for_word(home, local_digest):
    blocks = re.findall(r"^```sh[^\n]*\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    # Nothing of the tests' own: the guide's commands say what they need. What was built and fetched before is kept.
    plain = {k: v for k, v in os.environ.items() if k not in ("THOLE_LIBRARY", "THOLE_COMMAND", "THOLE_ROOT", "THOLE_TEST_BUILD", "PYTHONPATH", "THOLE_KUBERNETES_PROGRAMS")}
    environment = {**plain, "HOME": str(home), "NO_COLOR": "1", "GOMODCACHE": go("GOMODCACHE"), "GOCACHE": go("GOCACHE")}
    environment.setdefault("THOLE_CACHE", str(pathlib.Path("~/.cache/thole").expanduser()))
    script = "set -euo pipefail\n" + "".join(f"echo '--- block {n} of {len(blocks)}'\n{text}" for n, text in enumerate(blocks, 1))
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
    assert re.search(rf"^0\| digest {local_digest} ", done.stdout, re.M), done.stdout[-5000:]
    assert not processes_left(home)
    print(f"{len(blocks)} of {len(blocks)} blocks; digest {local_digest} = {local_digest}")
