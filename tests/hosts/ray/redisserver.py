"""A real redis-server for a test: on loopback, in a folder of its own. Debian's package, unpacked and not installed."""
import os
import pathlib
import shutil
import socket
import subprocess

from cluster import free_port, until

_PACKAGES = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "lua-bitop", "lua-cjson", "liblua5.1-0"]


def program():
    """(path of the server, its libraries), or None where there is none and none can be had."""
    if found := shutil.which("redis-server"):
        return found, ""
    folder = pathlib.Path(os.environ.get("THOLE_CACHE") or pathlib.Path.home() / ".cache/thole") / "redis"
    found = next(folder.glob("usr/bin/redis-check-rdb"), None)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(["apt-get", "-qq", "download", *_PACKAGES], cwd=folder, capture_output=True, check=False)
        if got.returncode != 0:
            return None
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
            package.unlink()
        found = next(folder.glob("usr/bin/redis-check-rdb"))
    library = next(folder.glob("usr/lib/*-linux-gnu"))
    return str(found.with_name("redis-server")), str(library)


class Redis:
    def __init__(self, folder):
        server, library = program()
        self.port = free_port(27100)
        (folder / "redis").mkdir()
        self._process = subprocess.Popen(
            [server, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder / "redis", "--appendonly", "yes"],
            env={**os.environ, "LD_LIBRARY_PATH": library}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, what="redis")

    def _answers(self):
        assert self._process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self._process.terminate()
        self._process.wait(10)
