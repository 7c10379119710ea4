"""docs/guide/ray.md, word for word: every block in its order, in one shell, with a state folder of its own; each of Python a program."""
import os
import pathlib
import re
import subprocess
import sys

from cluster import ROOT

GUIDE = ROOT / "docs/guide/ray.md"


def test_word_for_word(local):
    blocks = re.findall(r"^```(sh|python)[^\n]*\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    assert blocks[-1] == ("sh", "thole-ray stop\n")
    script = "set -euo pipefail\ntrap 'thole-ray stop >/dev/null 2>&1 || true' ERR\n" + "".join(
        f"echo '--- block {n} of {len(blocks)}'\n" + (text if language == "sh" else f"python3 - <<'PROGRAM'\n{text}PROGRAM\n")
        for n, (language, text) in enumerate(blocks, 1))
    state = pathlib.Path("/tmp") / f"thole-guide.{os.getpid()}"  # a socket's path in it must be short
    state.mkdir(mode=0o700)
    # Nothing of the tests' own: the guide's commands say what they need. What was built and fetched before is kept.
    ours = ("THOLE_LIBRARY", "THOLE_COMMAND", "THOLE_ROOT", "THOLE_TEST_BUILD", "PYTHONPATH", "JAX_PLATFORMS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "THOLE_RAY")) and k not in ours}
    added = (str(pathlib.Path(sys.executable).parent), os.environ.get("THOLE_TEST_BUILD", "-"))
    environment["PATH"] = os.pathsep.join(p for p in environment["PATH"].split(os.pathsep) if not p.startswith(added))
    environment.setdefault("THOLE_CACHE", str(pathlib.Path("~/.cache/thole").expanduser()))
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
                          env={**environment, "XDG_STATE_HOME": str(state), "NO_COLOR": "1"})
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-3000:]}"
    assert re.search(rf"^ +digest +{local}$", done.stdout, re.M), done.stdout[-3000:]
    assert f'"digest": "{local}"' in done.stdout, done.stdout[-3000:]  # the run of Ray Train
    assert done.stdout.count("kind='vgpu'") == 4 and done.stdout.count("kind='whole'") == 1, done.stdout  # of two tasks, and a gang of three
    left = [p for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and str(state).encode() in _environment(p)]
    assert not left
    subprocess.run(["rm", "-rf", state], check=True)
    print(f"{len(blocks)} of {len(blocks)} blocks, {sum(b[0] == 'python' for b in blocks)} of them Python; digest {local} = {local}")


def _environment(process):
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
