"""`thole ray start` and `stop`: a node of Ray that offers what the core says it has, started, joined and ended by pid."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import thole
from thole import _abi, _native
from thole.errors import TholeError

from . import capacity, documents, state
from .errors import refused

_PLUGINS = json.dumps([{"class": "thole.ray.plugin.TholePlugin", "priority": 20}])
_START_SECONDS = 120.0
LOOPBACK = "127.0.0.1"
ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def _gpus_of_machine() -> Any:
    """What the device plugin reports, for a pool that is not simulated."""
    core = _native.core()
    folder = os.environ.get("THOLE_PLUGINS")
    if not folder:
        library = os.environ.get("THOLE_LIBRARY", "")
        folder = str(Path(library).with_name("thole") / "plugins") if library else ""
    if not folder:
        raise TholeError("THOLE_NOT_FOUND", "PluginFolderMissing", "the pool is not simulated: say in THOLE_PLUGINS where the "
                         "device plugins are")
    _native.check(core.root.core.contents.load, core.handle, _native.text(folder))
    out = _native.sized(_abi.thole_gpu_list)
    memory = _native.check_with_room(core.needed("device").list, core.handle, _native.text("thole.device.nvml"),
                                     _native.text("{}"), _native.byref(out))
    out.gpus.keep = memory
    return out.gpus


class Cluster:
    """What cluster.json remembers: where the head is, and which processes of Ray were started from this folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cluster.json"
        self.folder = folder
        self.data: Dict[str, Any] = state.read_json(self.path) or {"address": "", "auth": "", "nodes": []}

    def living(self) -> List[Dict[str, Any]]:
        return [n for n in self.data["nodes"] if _start_of(n["pid"]) == n["start"]]

    def save(self) -> None:
        state.write_json(self.path, self.data)

    def environment(self) -> Dict[str, str]:
        """What a process needs to join: Ray's own variables, said out loud."""
        out = {"RAY_AUTH_MODE": self.data["auth"] or "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        if self.data["address"].startswith("127."):
            out[ON_LOOPBACK] = "0"  # else Ray replaces 127.0.0.1 by the machine's address in the network, and hangs
        return out


def _start_of(pid: int) -> str:
    """When the process with this pid began, in the kernel's ticks; a pid alone may be somebody else's by now."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
            return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return ""


def connect(folder: Path, address: str = "") -> Cluster:
    """Connects this process to the cluster: the address given, RAY_ADDRESS, or the one started from this folder."""
    cluster = Cluster(folder)
    where = address or os.environ.get("RAY_ADDRESS", "") or cluster.data["address"]
    if not where:
        raise TholeError("THOLE_NOT_FOUND", "StoreGone", f"no cluster is known in {folder}: `thole ray start` one, or say "
                         "--address HOST:PORT")
    for name, value in cluster.environment().items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_RUNTIME_ENV_PLUGINS", _PLUGINS)
    import ray  # it reads its environment when it is imported

    host, _, port = where.rpartition(":")
    try:
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=where, namespace="thole", log_to_driver=False, logging_level="error", configure_logging=True,
                 **({"_node_ip_address": where.rsplit(":", 1)[0]} if where.startswith("127.") else {}))
    except (OSError, RuntimeError) as error:
        raise TholeError("THOLE_UNAVAILABLE", "SystemCallFailed", f"no Ray answers at {where}: {_first_line(error)}") from None
    return cluster


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def start(pool_file: str, folder: Path, *, address: str = "", node: str = "", host: str = LOOPBACK, port: int = 6379,
          auth: str = "", extra: Optional[List[str]] = None) -> Dict[str, Any]:
    """Starts a head, or joins the one that is known: this folder's, or `address`. Answers what was started."""
    with open(pool_file, encoding="utf-8") as file:
        pool = documents.read(file.read(), "NodePool")
    cluster = Cluster(folder)
    if not cluster.living():
        cluster.data = {"address": "", "auth": "", "nodes": []}
    head = not (address or cluster.data["address"])
    cluster.data["auth"] = auth or cluster.data["auth"] or os.environ.get("RAY_AUTH_MODE") or (
        "disabled" if host.startswith("127.") else "token")
    if not head:
        cluster.data["address"] = address or cluster.data["address"]
    gpus = None if pool.spec.get("simulated") else _gpus_of_machine()
    name, pool = _name(pool, node, [] if head else _names_of_cluster(cluster), gpus)
    offered = capacity.offer(pool, name, gpus)
    command = [sys.executable, "-m", "thole.ray.raystart", "start", "--block", f"--node-ip-address={host}", "--disable-usage-stats",
               f"--resources={json.dumps(offered.resources)}", "--labels=" + ",".join(f"{k}={v}" for k, v in offered.labels.items()),
               "--num-gpus=0", *([f"--num-cpus={max(1, int(offered.cpu))}"] if offered.cpu else []),
               *([f"--memory={offered.memory_bytes}"] if offered.memory_bytes else [])]
    temporary = ""
    if head:
        temporary = tempfile.mkdtemp(prefix="thole-ray-")  # short: Ray puts sockets below it
        command += ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temporary}"]
    else:
        command += [f"--address={cluster.data['address']}"]
    log = folder / f"ray-{name}.log"
    records = folder / "records" / name
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**os.environ, **cluster.environment(), "RAY_RUNTIME_ENV_PLUGINS": _PLUGINS, "THOLE_RAY_RECORDS": str(records),
                   state.STATE: str(folder), "RAY_RUNTIME_ENV_THOLE_CACHE_SIZE_GB": "0"}
    if host.startswith("127."):
        environment[ON_LOOPBACK] = "0"
    environment.pop("RAY_ADDRESS", None)
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command + (extra or []), env=environment, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    _await_start(process, log)
    if head:
        cluster.data["address"] = f"{host}:{port}"
    cluster.data["nodes"] = [*cluster.living(), {"name": name, "pid": process.pid, "start": _start_of(process.pid),
                                                 "temporary": temporary, "log": str(log)}]
    cluster.save()
    return {"node": name, "head": head, "address": cluster.data["address"], "simulated": offered.simulated,
            "gpus": sum(1 for k in offered.resources if k.startswith("thole_memory_")), "pid": process.pid}


def _await_start(process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        said = log.read_text(encoding="utf-8", errors="replace")
        if "Ray runtime started" in said:
            return
        if process.poll() is not None:
            lines = [line for line in said.splitlines() if line.strip()]
            raise TholeError("THOLE_UNAVAILABLE", "SystemCallFailed", "ray start failed: " + " / ".join(lines[-3:])[:300])
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    raise TholeError("THOLE_TIMEOUT", "SystemCallFailed", f"ray start took more than {_START_SECONDS:.0f} s: see {log}")


def _names_of_cluster(cluster: Cluster) -> List[str]:
    """The pool nodes that are there. Refuses a cluster whose nodes have another version of Thole, or none."""
    for name, value in cluster.environment().items():
        os.environ.setdefault(name, value)
    import ray  # it reads its environment when it is imported

    connect(cluster.folder, cluster.data["address"])
    try:
        nodes = [n for n in ray.nodes() if n["Alive"]]
        ours = [n for n in nodes if capacity.LABEL + "version" in (n.get("Labels") or {})]
        if not ours:
            raise TholeError("THOLE_REFUSED", "AbiUnsupported", f"the cluster at {cluster.data['address']} has no node with "
                             "Thole: start its head with `thole ray start` too")
        mine = documents.label_value(thole.__version__)
        for entry in ours:
            theirs = entry["Labels"][capacity.LABEL + "version"]
            if theirs != mine:
                raise TholeError("THOLE_UNSUPPORTED", "AbiUnsupported", f"the cluster runs Thole {theirs}, this node has "
                                 f"{mine}: install the same version on all nodes")
        return [entry["Labels"].get(capacity.LABEL + "node", "") for entry in ours]
    finally:
        ray.shutdown()


def _name(pool: documents.Document, node: str, taken: List[str], gpus: Any) -> "tuple[str, documents.Document]":
    """Which node of the pool this is. A pool with fewer nodes than machines gets copies: desk, desk-2, desk-3."""
    if gpus is not None:
        return node or os.uname().nodename, pool
    known = capacity.node_names(pool)
    if node and node in known and node not in taken:
        return node, pool
    if node and node in taken:
        raise refused("NodeBad", f"the cluster has a node {node!r} already: give this one another --node")
    free = [n for n in known if n not in taken]
    if not node and free:
        return free[0], pool
    base = re.sub(r"-\d+$", "", known[0]) if len(known) > 1 else known[0]
    number = 2
    while not node and f"{base}-{number}" in taken:
        number += 1
    name = node or f"{base}-{number}"
    return name, capacity.renamed(pool, known[0], name)


def stop(folder: Path, name: str = "") -> List[str]:
    """Ends the nodes that were started from this folder, the head last, by pid: other clusters are left alone."""
    cluster = Cluster(folder)
    ended = []
    for node in reversed(cluster.living()):
        if name and node["name"] != name:
            continue
        _end(node["pid"])
        ended.append(node["name"])
        if node["temporary"]:
            shutil.rmtree(node["temporary"], ignore_errors=True)
    cluster.data["nodes"] = [n for n in cluster.living() if n["name"] not in ended]
    if not cluster.data["nodes"]:
        cluster.data = {"address": "", "auth": "", "nodes": []}
    cluster.save()
    return ended


def _end(pid: int) -> None:
    """SIGTERM lets `ray start --block` end its own children; what is left of its session is killed after it."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    until = time.monotonic() + 15
    while time.monotonic() < until and _start_of(pid):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                break
        except ChildProcessError:
            pass
        time.sleep(0.05)
    for left in _session(pid):
        try:
            os.kill(left, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _session(leader: int) -> List[int]:
    """Processes of the session that the node's `ray start` leads."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                    if file.read().rsplit(")", 1)[1].split()[3] == str(leader):
                        found.append(int(entry))
            except OSError:
                continue
    return found
