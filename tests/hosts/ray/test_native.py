"""`platforms.ray` of a job file, and the fields that Ray has no use for: honoured, remarked or refused, never left out silently."""
import os
import subprocess
import sys
import uuid

import pytest
from cluster import DIGITS, PATIENCE, ROOT
from running import Running
from thole.checkpoint import Checkpoints


def job(folder, native="", role="", spec=""):
    text = open(DIGITS, encoding="utf-8").read().replace("workdir: .", f"workdir: {ROOT}/samples/digits{role}")
    text = text.replace("gracePeriod:", f"{spec}gracePeriod:")
    (folder / "job.yaml").write_text(text + (f"  platforms: {{ray: {{runtimeEnv: {native}}}}}\n" if native else ""))
    return str(folder / "job.yaml")


def submit_nowhere(folder, path):
    """Files are read before a cluster is asked."""
    return subprocess.run([sys.executable, "-m", "thole.ray", "--state", str(folder / "none"), "submit", path], capture_output=True,
                          text=True, timeout=PATIENCE, check=False, env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"})


@pytest.mark.parametrize("native, reason, says", [
    ("{working_dir: /x}", "NativeOverrides", "roles[].workdir"),
    ("{image_uri: x}", "NativeOverrides", "roles[].image"),
    ("{excludes: [x]}", "NativeOverrides", "working_dir"),
    ("{thole: {}}", "NativeOverrides", "made by Thole"),
    ("{env_vars: {RANK: '3'}}", "NativeOverrides", "RANK"),
    ("{env_vars: {MODE: 3}}", "FieldWrongType", "in quotes"),
    ("{worker_process_setup_hook: a.b}", "FieldBad", "not the job's command"),
    ("{nsight: default}", "FieldBad", "nsight"),
    ("{pip: 3}", "FieldBad", "runtimeEnv"),
    ("{pip: [einops], conda: base}", "FieldBad", "conda")])
def test_refused(tmp_path, native, reason, says):
    done = submit_nowhere(tmp_path, job(tmp_path, native))
    assert done.returncode == 65 and f"{reason}: " in done.stderr and says in done.stderr, done.stderr


def test_what_has_no_effect_is_said(tmp_path):
    done = submit_nowhere(tmp_path, job(tmp_path, role="\n      image: pytorch\n      sharedMemory: 1Gi", spec="queue: night\n  priority: 3\n  "))
    assert done.returncode == 66, done.stderr  # there is no cluster
    for field in ("roles[0].image", "roles[0].sharedMemory", "queue", "priority"):
        assert f"spec.{field} has no effect on Ray: " in done.stderr, done.stderr


def test_variables_reach_the_command_and_old_checkpoints_go(small, local, tmp_path):
    """env_vars, below the role's own env; and at most `keep` checkpoints are left of the ten that were committed."""
    native = "{env_vars: {THE_MODE: fast, THE_ROLE: native}}"
    path = job(tmp_path, native, role="\n      env: {THE_ROLE: yes-it-is}").replace("//", "/")
    text = open(path, encoding="utf-8").read().replace("[python3, train.py]", "[sh, -c, 'echo mode $THE_MODE $THE_ROLE; exec python3 train.py']")
    (tmp_path / "job.yaml").write_text(text)
    ended = Running(small, path).end()
    assert ended["result"]["digest"] == local
    assert "mode fast yes-it-is" in small.program("logs", "digits", "--rank", "3").stdout
    steps = sorted(i.step for i in Checkpoints(ended["store"], run=uuid.UUID(ended["run"]), key=ended["key"]).list())
    assert steps == [160, 180, 200] and ended["checkpointsCommitted"] == 10
