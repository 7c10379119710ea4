"""What a member leaves behind when it is killed."""
import os
import subprocess
import sys
import tempfile
import time
import types

import pytest
from cluster import until
from thole.ray import rank

DIES = """
import os, subprocess
from thole.ray import rank
folder = rank._folder()
left = subprocess.Popen(["sleep", "600"], env={"THOLE_SOCKET": f"{folder}/ranks"}, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(folder, left.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_folder_of_a_killed_member_goes_with_the_next_one(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / "thole-rank-notes"
    foreign.mkdir()
    died = subprocess.run([sys.executable, "-c", DIES], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False)
    left, rank_of_it = died.stdout.split()
    assert died.returncode == -9 and os.path.isdir(left) and os.path.exists(f"/proc/{rank_of_it}"), died.stderr
    first, second = rank._folder(), rank._folder()  # this process lives: its folders stay
    assert sorted(tmp_path.iterdir()) == sorted([foreign, first, second])
    until(lambda: _is_gone(int(rank_of_it)), what="the end of what the killed member's command had started")


def _is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def test_a_command_with_a_slash_is_below_the_jobs_folder(tmp_path):
    assert os.path.normpath(rank._program("./train.sh", str(tmp_path), "/bin")) == str(tmp_path / "train.sh")
    assert rank._program("/bin/true", str(tmp_path), "") == "/bin/true" and rank._program("sh", str(tmp_path), "/bin") == "/bin/sh"
    with pytest.raises(FileNotFoundError):
        rank._program("no-such-program", str(tmp_path), "/bin")


class Controller:
    """What a member tells, in order."""

    def __init__(self):
        self.told = []
        self.heard = types.SimpleNamespace(remote=lambda index, attempt, said: self.told.extend(said))


@pytest.mark.parametrize("command, code", [
    (["sh", "-c", "sleep 600 & echo begun; exit 3"], 3),  # what it leaves holds its output open
    (["sh", "-c", "setsid sleep 5 & echo begun; kill -9 $$"], -9),
    ([sys.executable, "-c", "import json, os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['THOLE_SOCKET']);"
      "s.sendall(b''.join(json.dumps(m).encode() + b'\\n' for m in [{'hello': {'protocol': 1, 'rank': 0}}, {'result': {'digest': 'x'}}]));"
      "print('begun', flush=True); os._exit(0)"], 0)])
def test_the_end_of_a_command_and_its_last_words(monkeypatch, tmp_path, command, code):
    import ray

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ray, "get", lambda call, timeout=None: True)
    member, controller = rank.Member(), Controller()
    monkeypatch.setattr(member, "_environment", lambda spec: {**os.environ, "THOLE_SOCKET": str(member._folder / "ranks")})
    begun = time.monotonic()
    ended = member.run({"index": 0, "attempt": 1, "command": command, "workdir": str(tmp_path)}, controller)
    assert ended["started"] and ended["code"] == code and time.monotonic() - begun < 4
    assert any(m.get("line") == "begun" for m in controller.told)
    assert code != 0 or any("result" in m for m in controller.told), controller.told
