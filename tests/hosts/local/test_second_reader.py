"""A checkpoint of the digits job, read by a program that shares no code with us: the parameters have the job's own digest."""
import json
import os
import pathlib
import subprocess
import sys

import pytest
from platform_tools import ROOT, Host

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("cryptography", reason="cryptography is not installed")
DIGITS = ROOT / "samples" / "digits"
READER = ROOT / "tests" / "peer" / "read_checkpoint.py"
PARAMETERS = "state/parameters"


def read(key, folder, *options):
    done = subprocess.run([sys.executable, READER, key, folder, *options], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout.strip()


def test_it_finds_the_parameters_that_the_job_reports(tmp_path):
    host = Host(tmp_path)
    job = tmp_path / "digits.yaml"
    text = (DIGITS / "job.yaml").read_text()
    assert "workdir: ." in text
    job.write_text(text.replace("workdir: .", f"workdir: {DIGITS}", 1))
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    done = host("--json", "-q", "run", job, "--pool", DIGITS / "pool.yaml", timeout=300, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    digest = json.loads(done.stdout)["result"]["digest"]

    (key,) = host.state.rglob("digits.key")
    steps = sorted((m.parent for m in host.state.rglob("MANIFEST.thole")), key=lambda folder: folder.parent.name)
    last = steps[-1]
    assert len(steps) == 3 and last.parent.name == f"step-{200:020}" and len(list(last.glob("part-*.thole"))) == 4

    checks = {"the digest that the job reports": read(key, last, "--tensor", PARAMETERS) == (0, digest)}
    for folder in steps[:-1]:  # earlier steps have other parameters
        code, other = read(key, folder, "--tensor", PARAMETERS)
        checks[f"another one in {folder.parent.name}"] = code == 0 and len(other) == 64 and other != digest
    part = last / "part-00000.thole"
    whole = part.read_bytes()
    part.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    checks["nothing in a part with a changed byte"] = read(key, last, "--tensor", PARAMETERS)[0] != 0
    part.write_bytes(whole)
    checks["the same again"] = read(key, last, "--tensor", PARAMETERS) == (0, digest)
    good = sum(checks.values())
    print(f"\nthe second reader found: {good} of {len(checks)}; digest {digest}")
    assert good == len(checks), [what for what, right in checks.items() if not right]
