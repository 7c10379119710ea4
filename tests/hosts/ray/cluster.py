"""A real Ray cluster on loopback for tests: its own port, folder and processes, ended by pid."""
from __future__ import annotations

import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
DIGITS = str(ROOT / "samples/digits/job.yaml")
SMALL_POOL = str(ROOT / "samples/ray/pool.yaml")
PATIENCE = 120  # seconds: other work shares the machine


def free_port(first=26000):
    """A port that Ray uses for nothing else."""
    for port in range(first + os.getpid() % 500, first + 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no port is free")


class Cluster:
    def __init__(self, pool, nodes, *, ray_options=(), environment=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="thole-ray-test-"))
        self.folder.chmod(0o700)
        self.pool, self.port, self.ray_options = pool, free_port(), list(ray_options)
        self.environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "THOLE_RAY"))},
                            "THOLE_RAY_STATE": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
                            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **(environment or {})}
        for _ in range(nodes):
            self.start()

    def program(self, *arguments, check=True, timeout=PATIENCE):
        done = subprocess.run([sys.executable, "-m", "thole.ray", *arguments], env=self.environment, cwd=ROOT, text=True,
                              capture_output=True, timeout=timeout, check=False)
        if check:
            assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, *more):
        options = ["--", *self.ray_options] if self.ray_options else []
        return json.loads(self.program("start", "--json", "--pool", self.pool, "--port", str(self.port), *more, *options).stdout)

    def stop(self):
        if self.program("stop", check=False).returncode == 0:
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)  # not before: tests read what has ended

    def connect(self):
        """Makes this process a driver of the cluster."""
        os.environ.update({k: v for k, v in self.environment.items() if k.startswith(("RAY_", "THOLE_"))})
        from thole.ray import cluster

        return cluster.connect(self.folder)

    def known(self):
        return json.loads((self.folder / "cluster.json").read_text())

    def job(self, name):
        return json.loads((self.folder / "jobs" / name / "state.json").read_text())

    def raylet_of(self, name):
        """The pid of a node's raylet."""
        for pid, node, program in self.processes():
            if node == name and program.endswith(b"raylet/raylet"):
                return pid
        raise AssertionError(f"{name} has no raylet")

    def processes(self):
        """(pid, name of its node, first word) of every process of the cluster; each node is a session of its own."""
        nodes = {str(n["pid"]): n["name"] for n in self.known()["nodes"]}
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[3]
                    program = (entry / "cmdline").read_bytes().split(b"\0")[0]
                except OSError:
                    continue
                if session in nodes:
                    found.append((int(entry.name), nodes[session], program))
        return found


def until(condition, seconds=PATIENCE, what="it"):
    """Waits for an event, and for nothing longer than it takes."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def kill(pid):
    os.kill(pid, signal.SIGKILL)
