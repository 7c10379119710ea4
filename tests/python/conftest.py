"""What the tests of the Python package share: where things are, a platform to talk to, a store to save in.

THOLE_LIBRARY names the libthole.so.0 to test; without it the newest one under $THOLE_BUILD is taken.
"""
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sdk" / "python"
DIGITS = ROOT / "samples" / "digits"
sys.path.insert(0, str(PACKAGE))

if "THOLE_LIBRARY" not in os.environ and "THOLE_BUILD" in os.environ:
    built = sorted(Path(os.environ["THOLE_BUILD"]).glob("*/sdk/libthole.so.0"), key=lambda p: p.stat().st_mtime)
    if built:
        os.environ["THOLE_LIBRARY"] = str(built[-1])

# A test process is no rank: whoever runs the tests may be one.
for name in ("RANK", "WORLD_SIZE", "THOLE_SOCKET", "THOLE_STORE", "THOLE_METRICS", "THOLE_ATTEMPT", "THOLE_JOB"):
    os.environ.pop(name, None)


def has(service):
    from thole import TholeError, _native

    try:
        return _native.core().service(service) is not None
    except TholeError as error:
        if error.reason != "LibraryMissing":
            raise
        return False


@pytest.fixture
def library():
    from thole import TholeError, _native

    try:
        return _native.core()
    except TholeError as error:
        if error.reason != "LibraryMissing":
            raise
        pytest.skip("libthole.so.0 is not built (THOLE_LIBRARY)")


class Store:
    """A folder, a key and a run id, and the checkpoints in it as any rank sees them."""

    def __init__(self, folder):
        import thole

        self.folder, self.key, self.run = folder / "store", folder / "key", uuid.uuid4()
        thole.checkpoint.new_key(self.key)

    def rank(self, rank=0, world_size=1, attempt=1, **options):
        import thole

        return thole.Checkpoints(self.folder, run=self.run, key=self.key, attempt=attempt, rank=rank, world_size=world_size,
                                 **options)

    def environment(self, **more):
        return {"THOLE_STORE": str(self.folder), "THOLE_KEY": str(self.key), "THOLE_RUN": str(self.run),
                **{name: str(value) for name, value in more.items()}}


@pytest.fixture
def store(library, tmp_path):
    if library.service("checkpoint") is None:
        pytest.skip("this libthole.so.0 has no checkpoint service")
    return Store(tmp_path)


class FakePlatform:
    """The platform's end of THOLE_SOCKET: keeps what the ranks say, and can ask them to stop."""

    def __init__(self, path):
        self.path, self.heard = str(path), []
        self._changed = threading.Condition()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection):
        with connection.makefile("rb") as lines:
            for line in lines:
                assert len(line) <= 65536
                with self._changed:
                    self.heard.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self.heard.append({"closed": True})
            self._changed.notify_all()

    def wait(self, wanted, seconds=30):
        """The first message that has the key `wanted`, or for which it is true."""
        test = wanted if callable(wanted) else lambda message: wanted in message
        with self._changed:
            done = self._changed.wait_for(lambda: any(test(m) for m in self.heard), seconds)
            assert done, f"never heard {wanted}: {self.heard}"
            return next(m for m in self.heard if test(m))

    def all(self, key):
        with self._changed:
            return [m[key] for m in self.heard if key in m]

    def say(self, message):
        for connection in self.connections:
            connection.sendall(json.dumps(message).encode() + b"\n")

    def close(self):
        self._server.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def platform(tmp_path):
    made = FakePlatform(tmp_path / "s")
    yield made
    made.close()


def python(*arguments, environment=None, **options):
    """A Python process with the package, and nothing of this process's own environment of ranks."""
    return subprocess.Popen([sys.executable, *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env={**os.environ, "PYTHONPATH": str(PACKAGE), **(environment or {})}, **options)


def run_python(code, environment=None, seconds=60):
    process = python("-c", code, environment=environment)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
