"""Both packages are typed: a type checker finds nothing in them, and finds a user's mistakes."""
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("mypy", reason="needs mypy: sdk/setup/install tests")
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = [ROOT / "sdk/python/thole", ROOT / "adapters/ray/thole/ray"]

USER = """\
import thole
import thole.ray

@thole.ray.vgpu(memory="8Gi", share=0.25)
def embed(batch: list[str]) -> int:
    return len(batch)

with thole.ray.gang(thole.ray.Role(8, memory="11Gi", share=0.5), thole.ray.Role(4, gpus=1), timeout=60) as gang:
    options: dict[str, object] = gang.options(0)
    members: int = len(gang)
files = thole.ray.checkpoint_filesystem("/data/train", key="/keys/train.key")
policy = thole.ray.RecoveryPolicy(max_same_cause=2)
with thole.join() as run:
    run.step(1)
    rank: int = run.rank
"""
MISTAKES = {'memory="8Gi"': "memory=8", "timeout=60": 'timeout="60"', "run.step(1)": 'run.step("1")', "len(gang)": "gang.size",
            "thole.ray.Role(4, gpus=1)": "4", "rank: int": "rank: str", '"/data/train", key': "1, key",
            "max_same_cause=2": 'max_same_cause="2"', "ray.RecoveryPolicy": "ray.RecoveryPolice"}


def check(folder, *paths):
    return subprocess.run([sys.executable, "-m", "mypy", "--config-file", HERE / "mypy.ini", "--cache-dir", folder / "cache", *paths], text=True, cwd=ROOT,
                          env={**os.environ, "MYPYPATH": f"{ROOT}/sdk/python:{ROOT}/adapters/ray"}, capture_output=True, timeout=300, check=False)


def test_types(tmp_path):
    done = check(tmp_path, *PACKAGES)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.strip())
    (tmp_path / "user.py").write_text(USER)
    done = check(tmp_path, tmp_path / "user.py")
    assert done.returncode == 0, done.stdout
    for right, wrong in MISTAKES.items():
        assert USER.count(right) == 1
        (tmp_path / "user.py").write_text(USER.replace(right, wrong))
        done = check(tmp_path, tmp_path / "user.py")
        assert done.returncode == 1 and "Found 1 error in 1 file" in done.stdout, (wrong, done.stdout)
    print(f"a type checker finds {len(MISTAKES)} of {len(MISTAKES)} mistakes")
