"""The `thole` command under test, and jobs for it."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FAKE = HERE / "fake_rank.py"


def binary():
    path = os.environ.get("THOLE_BIN") or os.environ.get("THOLE_COMMAND")
    assert path, "THOLE_BIN or THOLE_COMMAND must say which thole is tested"
    return path


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("THOLE_") or k == "THOLE_PLUGINS"}
    return {**env, **more}


def pool_file(folder, gpus=2, memory="96Gi", name="desk"):
    path = folder / "pool.yaml"
    path.write_text(json.dumps({
        "apiVersion": "thole.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": name},
        "spec": {"simulated": True, "gpus": {"count": gpus, "memory": memory}}}))
    return path


def job_file(folder, command, name="fake", members=2, role=None, **spec):
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({
        "apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
        "spec": {"roles": [{"name": "worker", "members": members, "vgpu": {"memory": "10Gi", "share": 0.1}, "cpu": "100m",
                            "memory": "64Mi", "command": [str(c) for c in command], **(role or {})}], **spec}}))
    return path


class Host:
    """One state folder, and the command with it."""

    def __init__(self, folder, state=None):
        self.folder = folder
        self.state = state or folder / "state"
        self.kept = folder / "kept"
        self.kept.mkdir(exist_ok=True)
        self.pool = pool_file(folder)

    def arguments(self, *arguments):
        return [binary(), "--state", str(self.state), *map(str, arguments)]

    def __call__(self, *arguments, timeout=60, **env):
        return subprocess.run(self.arguments(*arguments), capture_output=True, text=True, timeout=timeout,
                              env=environment(**env), cwd=self.folder)

    def start(self, *arguments, **env):
        return subprocess.Popen(self.arguments(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=environment(**env), cwd=self.folder)

    def fake(self, *options, name="fake", members=2, role=None, save=True, **spec):
        keep = ["--keep", self.kept] if save else []
        return job_file(self.folder, [sys.executable, FAKE, *keep, *options], name=name, members=members, role=role, **spec)

    def run(self, job, *options, **env):
        """Runs to the end; answers the exit code, the summary, and what was said."""
        done = self("--json", "run", job, "--pool", self.pool, *options, **env)
        return done.returncode, json.loads(done.stdout), done.stderr

    def status(self, name="fake"):
        return json.loads(self("--json", "status", name).stdout)

    def raw(self, name="fake"):
        return json.loads((self.state / "jobs" / name / "state.json").read_text())

    def wait_for(self, seen, name="fake", seconds=30):
        """Until `seen(state)` of the job's state file."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                state = self.raw(name)
                if seen(state):
                    return state
            except (FileNotFoundError, json.JSONDecodeError):
                pass
            time.sleep(0.02)
        raise AssertionError("the job did not come that far")


def wait_for_line(process, text, seconds=30):
    """Reads standard error until a line holds `text`."""
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"{text!r} was never said:\n{''.join(seen)}")


def processes_of(run_or_marker):
    """Live processes whose environment or command line holds the marker."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                continue
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if run_or_marker.encode() in text:
            found.append(int(entry.name))
    return found


def kill(process, number=signal.SIGKILL):
    process.send_signal(number)
    return process.wait(30)


def mounted(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs mount: {done.stderr.strip()}")


@contextlib.contextmanager
def tmpfs(folder, options):
    """A small file system of its own at `folder`, while the block runs."""
    folder.mkdir()
    mounted("-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
