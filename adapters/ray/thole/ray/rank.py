"""A member of a job: an actor that starts the job's command on its node, hears what its ranks say, and ends with it.

The command is a process of its own, as on every platform: the worker of Ray only holds the place. It dies with the
worker (a parent-death signal), so a node that is lost takes its ranks with it.
"""
from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 65536
_FLUSH_SECONDS = 0.2
_LAST_WORDS_SECONDS = 2.0
_HEARD_SECONDS = 30.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _folder() -> Path:
    """A folder of this process. What members left that were killed, folders and whatever their commands had started, is removed by
    the next one on the node."""
    base = Path(tempfile.gettempdir())  # short: a socket's path ends at 107 bytes
    for old in base.glob("thole-rank-*-*"):
        pid = old.name.split("-")[2]
        try:
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}") and old.stat().st_uid == os.getuid():
                _end_all_of(old)
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue  # somebody else was first
    return Path(tempfile.mkdtemp(prefix=f"thole-rank-{os.getpid()}-", dir=base))


def _end_all_of(folder: Path) -> None:
    """Kills what has the folder's socket in its environment: a launcher's ranks do not die with the launcher."""
    mark = f"THOLE_SOCKET={folder / 'ranks'}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


def _program(name: str, workdir: str, path: str) -> str:
    """The file that a command means: below the job's folder if it has a slash, else in PATH."""
    if "/" in name:
        return os.path.join(workdir, name)
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(2, f"{name} is not in PATH")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Member:
    """The actor. `run` blocks until the process has ended; the other calls come beside it."""

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._folder = _folder()
        self._lock = threading.Lock()
        self._said: List[Dict[str, Any]] = []
        self._connections: List[socket.socket] = []
        self._heard: Dict[int, float] = {}  # rank: when it said something for the last time, on the monotonic clock
        self._over = threading.Event()
        self._hearers: List[threading.Thread] = []

    def where(self) -> Dict[str, Any]:
        import ray

        return {"address": ray.util.get_node_ip_address(), "port": free_port(), "pid": os.getpid(),
                "node": ray.get_runtime_context().get_node_id()}

    def here(self) -> bool:
        return True

    def quiet(self) -> Dict[int, float]:
        """For how many seconds each rank that is connected has said nothing; a live one says so twice a second."""
        now = time.monotonic()
        with self._lock:
            return {rank: now - at for rank, at in self._heard.items()}

    def run(self, spec: Dict[str, Any], controller: Any) -> Dict[str, Any]:
        """Starts the command, and answers how it ended. What it prints and says goes to the controller meanwhile."""
        environment = self._environment(spec)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(environment["THOLE_SOCKET"])
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        flusher = threading.Thread(target=self._flush, args=(spec["index"], spec["attempt"], controller), daemon=True)
        flusher.start()
        try:
            program = _program(spec["command"][0], spec["workdir"], environment.get("PATH", os.defpath))
            self._process = subprocess.Popen(
                spec["command"], executable=program, cwd=spec["workdir"], env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent)
        except OSError as error:
            self._over.set()
            return {"started": False, "errno": error.errno or 0, "message": f"{spec['command'][0]}: {error.strerror}"}
        self._say({"started": self._process.pid})
        printed = threading.Thread(target=self._print, args=(self._process.stdout,), daemon=True)
        printed.start()
        code = self._process.wait()  # not the end of its output, which a process that it has left may hold open
        at = time.time()
        self.kill()  # what it has left in its group
        listener.close()
        with self._lock:
            hearers = list(self._hearers)
        for thread in [printed, *hearers]:  # their last words: the ends of pipe and sockets have come by now
            thread.join(max(0.0, at + _LAST_WORDS_SECONDS - time.time()))
        self._over.set()
        flusher.join(5.0)
        shutil.rmtree(self._folder, ignore_errors=True)
        return {"started": True, "code": code, "at": at}

    def _print(self, output: Any) -> None:
        for line in output:
            self._say({"line": line.decode("utf-8", "replace").rstrip("\n")[:_LONGEST_LINE]})

    def stop(self, reason: str, grace: float) -> None:
        line = json.dumps({"stop": {"reason": reason, "grace": grace}}).encode() + b"\n"
        with self._lock:
            for connection in self._connections:
                try:
                    connection.sendall(line)
                except OSError:
                    pass
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass

    def _environment(self, spec: Dict[str, Any]) -> Dict[str, str]:
        """What Ray's worker has, without what is Ray's alone, and what the job and the platform say."""
        from .ledger import Placement
        from .plugin import assignment, write_record

        own = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "CUDA_VISIBLE_DEVICES"))}
        record, devices = assignment(spec["gang"], spec["attempt"], spec["role"], spec["node"],
                                     Placement.from_json(spec["placement"]))
        path = self._folder / "record"
        write_record(path, record)
        return {**own, **spec["job_environment"], **devices, **spec["environment"], "THOLE_RECORD": str(path),
                "THOLE_SOCKET": str(self._folder / "ranks"), "THOLE_METRICS": str(self._folder / "metrics")}

    # --- What the ranks say. ------------------------------------------------------------------------------------------

    def _say(self, message: Dict[str, Any]) -> None:
        with self._lock:
            self._said.append({**message, "at": time.time()})

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            hearer = threading.Thread(target=self._hear, args=(connection,), daemon=True)
            with self._lock:
                self._connections.append(connection)
                self._hearers = [t for t in self._hearers if t.is_alive()] + [hearer]
                hearer.start()

    def _hear(self, connection: socket.socket) -> None:
        rank: Optional[int] = None
        with connection.makefile("rb") as lines:
            try:
                for line in lines:
                    message = json.loads(line[:_LONGEST_LINE])
                    if rank is None:
                        rank = int(message["hello"]["rank"])  # the first line is a hello, or the connection is none of ours
                    self._say({**message, "rank": rank})
                    with self._lock:
                        self._heard[rank] = time.monotonic()
            except (OSError, ValueError, KeyError, TypeError):
                pass
        with self._lock:
            self._connections.remove(connection)
            self._heard.pop(-1 if rank is None else rank, None)
        if rank is not None:
            self._say({"rank": rank, "closed": True})

    def _told(self, ray: Any, call: Any) -> bool:
        """Whether the controller listens. Where it does not, or is gone, the attempt is over, also before Ray has noticed."""
        try:
            listens = bool(ray.get(call, timeout=_HEARD_SECONDS))
        except Exception as error:  # noqa: BLE001: RayActorError and its kin
            print(f"thole: the job's controller is gone ({type(error).__name__}): its ranks end", flush=True)
            listens = False
        if not listens:
            self.kill()
        return listens

    def _flush(self, index: int, attempt: int, controller: Any) -> None:
        """Sends on what was said, in order, a few times a second."""
        import ray

        while True:
            over = self._over.wait(_FLUSH_SECONDS)
            with self._lock:
                said, self._said = self._said, []
            # Heartbeats go no further than here: Ray knows whether this process lives.
            said = [m for m in said if "alive" not in m]
            if said and not self._told(ray, controller.heard.remote(index, attempt, said)) or over:
                return
