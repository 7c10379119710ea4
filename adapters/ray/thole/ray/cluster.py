"""`thole ray start` and `stop`: a node of Ray that offers what the core says it has, started, joined and ended by pid."""
from __future__ import annotations

import contextlib
import ctypes
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
from typing import Any, Dict, Iterator, List, Optional, Tuple

import thole
from thole import _abi, _native
from thole.errors import TholeError

from . import capacity, documents, state
from .errors import refused

_PLUGINS = json.dumps([{"class": "thole.ray.plugin.TholePlugin", "priority": 20}])
_START_SECONDS = 120.0
_DRAIN_SECONDS = 15.0
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
                                     _native.text("{}"), ctypes.byref(out))
    out.gpus.keep = memory
    return out.gpus


_NOTHING: Dict[str, Any] = {"address": "", "auth": "", "nodes": [], "gcsStore": "", "temporary": ""}


class Cluster:
    """What cluster.json remembers: where the head is, and which processes of Ray were started from this folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cluster.json"
        self.folder = folder
        self.data: Dict[str, Any] = {**_NOTHING, **(state.read_json(self.path) or {})}

    def living(self) -> List[Dict[str, Any]]:
        """What another machine has started counts as living: only that machine can tell."""
        return [n for n in self.data["nodes"] if is_elsewhere(n) or _runs(n)]

    def head_has_died(self) -> bool:
        """Whether the head was started from this folder and does not run any more. One whose GCS alone has died is about to
        follow: `ray start --block` ends the rest of its node."""
        head = next((n for n in self.data["nodes"] if n.get("head")), None)
        if head is None or is_elsewhere(head):
            return False
        if _runs(head) and _listens(self.data["address"]):
            return False
        _clear(head, 0.0)
        return True

    def save(self) -> None:
        state.write_json(self.path, self.data)

    def environment(self, address: str = "") -> Dict[str, str]:
        """What a process needs to join: Ray's own variables, said out loud. How another cluster than this folder's authenticates is
        not known here: that is left to who says its address."""
        where = address or self.data["address"]
        out = {"RAY_USAGE_STATS_ENABLED": "0"}
        if where == self.data["address"]:
            out["RAY_AUTH_MODE"] = self.data["auth"] or "disabled"
        if where.startswith("127."):
            out[ON_LOOPBACK] = "0"  # else Ray replaces 127.0.0.1 by the machine's address in the network, and hangs
        return out


def _boot() -> str:
    """Of the machine and its pids: a container counts as a machine, and one that was started again as another boot of it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_elsewhere(node: Dict[str, Any]) -> bool:
    """Whether another machine that shares the folder has started the node: its pid means nothing here."""
    return node.get("boot", _boot()) != _boot() and node.get("host") != os.uname().nodename


def _runs(node: Dict[str, Any]) -> bool:
    return bool(node.get("boot", _boot()) == _boot() and _start_of(node["pid"]) == node["start"])


def _start_of(pid: int) -> str:
    """When the process with this pid began, in the kernel's ticks; a pid alone may be somebody else's by now."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
            return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return ""


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        return True
    except OSError:
        return False


def connect(folder: Path, address: str = "") -> Cluster:
    """Connects this process to the cluster: the address given, RAY_ADDRESS, or the one started from this folder."""
    cluster = Cluster(folder)
    where = address or os.environ.get("RAY_ADDRESS", "") or cluster.data["address"]
    if not where:
        raise TholeError("THOLE_NOT_FOUND", "StoreGone", f"no cluster is known in {folder}: `thole ray start` one, or say "
                         "--address HOST:PORT")
    for name, value in cluster.environment(where).items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_RUNTIME_ENV_PLUGINS", _PLUGINS)
    import ray  # it reads its environment when it is imported

    host, _, port = where.rpartition(":")
    try:
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=where, namespace="thole", log_to_driver=False, logging_level="error", configure_logging=True,
                 **({"_node_ip_address": where.rsplit(":", 1)[0]} if where.startswith("127.") else {}))
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        raise _no_ray(where, error) from None
    return cluster


def _no_ray(where: str, error: Exception) -> TholeError:
    import ray

    if isinstance(error, getattr(ray.exceptions, "AuthenticationError", ())):
        return TholeError("THOLE_DENIED", "SystemCallFailed", f"the Ray at {where} does not let this user in: {_first_line(error)}")
    return TholeError("THOLE_UNAVAILABLE", "SystemCallFailed", f"no Ray answers at {where}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _storage(store: str, address: str) -> Dict[str, str]:
    """Ray's own variables for where the GCS keeps what it knows: a folder (RocksDB), or a Redis server."""
    if not store:
        return {}
    if "://" not in store:
        from ray._private.node import Node

        if not hasattr(Node, "_is_rocksdb_gcs"):
            raise TholeError("THOLE_UNSUPPORTED", "ServiceMissing", "this Ray keeps what the GCS knows in Redis only: give "
                             "--gcs-store redis://HOST:PORT, or use 2.60")
        Path(store).mkdir(mode=0o700, parents=True, exist_ok=True)
        return {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": store}
    namespace = os.environ.get("RAY_external_storage_namespace") or "thole-" + address.replace(":", "-")
    return {"RAY_REDIS_ADDRESS": store, "RAY_external_storage_namespace": namespace}


def _checked_store(given: str) -> str:
    if not given or "://" not in given:
        return os.path.abspath(given) if given else ""
    if not given.startswith(("redis://", "rediss://")):
        raise refused("ArgumentBad", f"--gcs-store {given}: give a folder, or redis://HOST:PORT")
    if "@" in given:
        raise refused("ArgumentBad", "--gcs-store: a password goes into RAY_REDIS_PASSWORD; the address is written down")
    return given


def _prepare(cluster: Cluster, address: str, store: str) -> bool:
    """Whether it is a head that is to be started: the first of a cluster, or one in the place of a head that has died."""
    died = not address and cluster.head_has_died()
    if not cluster.living() and not (died and cluster.data["gcsStore"]):
        for node in cluster.data["nodes"]:
            _clear(node, 0.0)
        _remove_temporary(cluster)
        cluster.data = {**_NOTHING, "gcsStore": store}
        return not address
    if died and not cluster.data["gcsStore"]:
        raise TholeError("THOLE_UNAVAILABLE", "StoreGone", f"the head at {cluster.data['address']} has died, and with it all that "
                         "the cluster knew: it was started without --gcs-store. `thole-ray stop` ends the nodes that are left; "
                         "start anew then, and `thole-ray resume` the jobs")
    if store and store != cluster.data["gcsStore"]:
        raise refused("ArgumentBad", "--gcs-store belongs to the head, which has been started already, with "
                      f"{cluster.data['gcsStore'] or 'none'}: leave it out")
    return died


def _remove_temporary(cluster: Cluster) -> None:
    """Of a head that is no more: sockets, logs and the like, of which nobody else knows."""
    if cluster.data["temporary"]:
        shutil.rmtree(cluster.data["temporary"], ignore_errors=True)
        cluster.data["temporary"] = ""


def _as_head(cluster: Cluster) -> Tuple[List[str], Dict[str, str]]:
    """Options of `ray start` and environment. One in the place of another keeps address and folder, which the other nodes know."""
    folder = cluster.data["temporary"] = cluster.data["temporary"] or tempfile.mkdtemp(prefix="thole-ray-")  # short: for sockets
    # Here Ray has noted the head before, and takes raylets of this machine that wait for it for a cluster that runs.
    Path(folder, "ray_current_cluster").unlink(missing_ok=True)
    port = cluster.data["address"].rpartition(":")[2]
    return (["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"],
            _storage(cluster.data["gcsStore"], cluster.data["address"]))


def start(pool_file: str, folder: Path, *, address: str = "", node: str = "", host: str = LOOPBACK, port: int = 6379,
          auth: str = "", gcs_store: str = "", extra: Optional[List[str]] = None) -> Dict[str, Any]:
    """Starts a head, or joins the one that is known: this folder's, or `address`. Answers what was started."""
    with open(pool_file, encoding="utf-8") as file:
        pool = documents.read(file.read(), "NodePool")
    with _alone(folder):
        return _start(pool, folder, address, node, host, port, auth, gcs_store, extra or [])


def _start(pool: documents.Document, folder: Path, address: str, node: str, host: str, port: int, auth: str, gcs_store: str,
           extra: List[str]) -> Dict[str, Any]:
    cluster = Cluster(folder)
    head = _prepare(cluster, address, _checked_store(gcs_store))
    cluster.data["auth"] = auth or cluster.data["auth"] or os.environ.get("RAY_AUTH_MODE") or (
        "disabled" if host.startswith("127.") else "token")
    cluster.data["address"] = address or cluster.data["address"] or f"{host}:{port}"
    gpus = None if pool.spec.get("simulated") else _gpus_of_machine()
    name, pool = _name(pool, node, [] if head else _names_of_cluster(cluster), gpus)
    offered = capacity.offer(pool, name, gpus)
    command = [sys.executable, "-m", "thole.ray.raystart", "start", "--block", f"--node-ip-address={host}", "--disable-usage-stats",
               f"--resources={json.dumps(offered.resources)}", "--labels=" + ",".join(f"{k}={v}" for k, v in offered.labels.items()),
               "--num-gpus=0", *([f"--num-cpus={max(1, int(offered.cpu))}"] if offered.cpu else []),
               *([f"--memory={offered.memory_bytes}"] if offered.memory_bytes else [])]
    storage: Dict[str, Any] = {}
    if head:
        options, storage = _as_head(cluster)
        command += options
    else:
        command += [f"--address={cluster.data['address']}"]
    log = folder / f"ray-{name}.log"
    records = folder / "records" / name
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**os.environ, **cluster.environment(), **storage, "RAY_RUNTIME_ENV_PLUGINS": _PLUGINS,
                   "THOLE_RAY_RECORDS": str(records), state.STATE: str(folder), "RAY_RUNTIME_ENV_THOLE_CACHE_SIZE_GB": "0"}
    if host.startswith("127."):
        environment[ON_LOOPBACK] = "0"
    environment.pop("RAY_ADDRESS", None)
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command + extra, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    made = {"name": name, "pid": process.pid, "start": _start_of(process.pid), "head": head, "log": str(log),
            "boot": _boot(), "host": os.uname().nodename}
    others, cluster.data["nodes"] = cluster.living(), [*cluster.living(), made]
    cluster.save()  # before it is up: whoever kills this process can still `stop` the node
    try:
        _await_start(process, log)
    except BaseException:
        _clear(made, 0.0)
        cluster.data["nodes"] = others
        cluster.save()
        raise
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
    """Ends the nodes that this machine has started from this folder, the head last, by pid: other clusters are left alone, and so
    are other machines. What a node that has died by itself has left is ended too."""
    with _alone(folder):
        return _stop(folder, name)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time starts and stops nodes of this folder."""
    try:
        with state.held(folder / "cluster", 2 * _START_SECONDS):
            yield
    except BlockingIOError:
        raise TholeError("THOLE_TIMEOUT", "StateBusy", f"another process starts or stops nodes of {folder}: wait for it") from None


def _stop(folder: Path, name: str) -> List[str]:
    cluster = Cluster(folder)
    ended, known = [], cluster.data["nodes"]
    for node in sorted(known, key=lambda n: bool(n.get("head"))):
        if name and node["name"] != name or is_elsewhere(node):
            continue
        if _clear(node, _DRAIN_SECONDS if _listens(cluster.data["address"]) else 0.0):  # without a head nothing is drained
            ended.append(node["name"])
    cluster.data["nodes"] = cluster.living()
    if all(is_elsewhere(n) for n in cluster.data["nodes"]) and not any(is_elsewhere(n) and n.get("head") for n in known):
        _remove_temporary(cluster)
    if not cluster.data["nodes"]:
        cluster.data = dict(_NOTHING)
    cluster.save()
    return ended


def _clear(node: Dict[str, Any], seconds: float) -> bool:
    """Ends a node, or what is left of one whose first process has died. True if there was something to end."""
    if node.get("boot", _boot()) != _boot():
        return False  # what runs here under its pid is somebody else's
    first = _start_of(node["pid"])
    if first not in ("", node["start"]) or not (first or _session(node["pid"])):
        return False  # its pid is somebody else's by now, or nothing is left
    _end(node["pid"], seconds)
    return True


def _end(pid: int, seconds: float) -> None:
    """SIGTERM lets `ray start --block` end its own children; what is left of its session is killed after it."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    until = time.monotonic() + seconds
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
