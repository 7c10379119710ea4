"""What a member leaves behind when it is killed."""
import os
import subprocess
import sys
import tempfile

from thole.ray import rank

DIES = "import os; from thole.ray import rank; print(rank._folder(), flush=True); os.kill(os.getpid(), 9)"


def test_the_folder_of_a_killed_member_goes_with_the_next_one(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / "thole-rank-notes"
    foreign.mkdir()
    died = subprocess.run([sys.executable, "-c", DIES], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False)
    left = died.stdout.strip()
    assert died.returncode == -9 and os.path.isdir(left), died.stderr
    first, second = rank._folder(), rank._folder()  # this process lives: its folders stay
    assert sorted(tmp_path.iterdir()) == sorted([foreign, first, second])
