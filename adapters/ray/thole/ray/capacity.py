"""What a Ray node says of its GPUs, and how a placement becomes a bundle.

Each GPU of a node is three resources of its own, so that Ray itself can never give away what the plan has not:

    thole_memory_0   MiB of GPU 0, contexts included      thole_share_0   thousandths of its compute
    thole_vgpus_0    how many may still share it

Labels say what resources cannot: the GPU's UUID, model, context, whether it is simulated, and who wrote them. Nothing
else is kept anywhere: ledgers are made out of the GCS, with public calls but for one (`free_resources`).
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import thole
from thole import _abi, _native

from . import documents
from .documents import label_value
from .errors import refused
from .ledger import Gpu, Grant, Ledger, Node, Placement

LABEL = "thole.dev/"
NODE_ID_LABEL = "ray.io/node-id"
GROUP_PREFIX = "thole:"  # of the names of our placement groups


def memory_name(index: int) -> str:
    return f"thole_memory_{index}"


def share_name(index: int) -> str:
    return f"thole_share_{index}"


def vgpus_name(index: int) -> str:
    return f"thole_vgpus_{index}"


# --- What a node offers when it is started. ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    node: str
    cpu: float
    memory_bytes: int
    resources: Dict[str, float]
    labels: Dict[str, str]
    simulated: bool


def node_names(pool: documents.Document) -> List[str]:
    levels, nodes, memory = documents.nodes_of(pool.text)
    names = [_native.read(n.name) for n in nodes]
    del memory
    return names


def renamed(pool: documents.Document, base: str, name: str) -> documents.Document:
    """The pool with one node, a copy of `base` under another name: a second machine of the same kind."""
    data = json.loads(pool.text)
    like: Dict[str, Any] = next((n for n in data["spec"]["nodes"] if base == n["name"] or base.startswith(n["name"] + "-")), {})
    data["spec"]["nodes"] = [{"name": name, "domains": like.get("domains", [])}]
    return documents.read(json.dumps(data), "NodePool")


def offer(pool: documents.Document, node: str, gpus: Optional[Any] = None) -> Offer:
    """What `ray start` is told for this node of the pool. `gpus`: the device plugin's, where the pool is not simulated."""
    levels, nodes, memory = documents.nodes_of(pool.text, node, gpus)
    found = next((n for n in nodes if _native.read(n.name) == node), None)
    if found is None:
        known = ", ".join(_native.read(n.name) for n in nodes)
        raise refused("ArgumentBad", f"the pool {pool.name} has no node {node!r}: it has {known or 'none'}")
    resources: Dict[str, float] = {}
    labels = {LABEL + "node": label_value(node), LABEL + "version": label_value(thole.__version__)}
    simulated = False
    for i, gpu in enumerate(_native.elements(found.gpus, _abi.thole_gpu)):
        if gpu.flags & _abi.THOLE_GPU_MIG:
            raise refused("MigInstanceMissing", "MIG instances are not placed on Ray yet: leave gpus.mig out of the pool")
        if gpu.flags & _abi.THOLE_GPU_UNHEALTHY:
            continue
        simulated = bool(gpu.flags & _abi.THOLE_GPU_SIMULATED)
        resources[memory_name(i)] = float(gpu.memory_mib)
        resources[share_name(i)] = 1000.0
        resources[vgpus_name(i)] = float(gpu.max_vgpus or 16)
        labels[f"{LABEL}gpu-{i}"] = _native.read(gpu.uuid)
        labels[LABEL + "model"] = label_value(_native.read(gpu.model))
        labels[LABEL + "context-mib"] = str(gpu.context_mib)
    labels[LABEL + "simulated"] = "true" if simulated else "false"
    for i, (level, domain) in enumerate(zip(levels, _native.elements(found.domains, _abi.thole_str))):
        labels[f"{LABEL}level-{i}"], labels[f"{LABEL}domain-{i}"] = label_value(level), label_value(_native.read(domain))
    cpu = found.cpu_milli / 1000 if found.cpu_milli < 2**60 else 0.0
    bytes_ = found.memory_mib * 2**20 if found.memory_mib < 2**40 else 0
    del memory
    return Offer(node, cpu, bytes_, resources, labels, simulated)


# --- What the live cluster says. --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LiveNode:
    """A node of Ray that carries our labels."""

    ray_id: str
    name: str  # of the pool
    address: str
    version: str
    levels: Tuple[str, ...]
    node: Node  # of the ledger, named by ray_id; cpu and memory are what is free
    total: Dict[str, float]
    free: Dict[str, float]


def free_resources() -> Dict[str, Dict[str, float]]:
    """Free resources by node id. Ray has no public call for it: tests/hosts/ray/test_private.py notices when it moves."""
    from ray._private.state import available_resources_per_node

    return available_resources_per_node()  # type: ignore[no-any-return]


def _gpu_of(labels: Mapping[str, str], total: Mapping[str, float], ray_id: str, index: int) -> Gpu:
    simulated = labels.get(LABEL + "simulated", "true") == "true"
    # Nodes that an autoscaler starts from a type have no UUIDs in their labels: simulated ones get their node's.
    uuid = labels.get(f"{LABEL}gpu-{index}") or f"SIM-{ray_id[-32:]}-{index}"
    return Gpu(uuid, labels.get(LABEL + "model", "simulated"), int(total[memory_name(index)]),
               int(labels.get(LABEL + "context-mib", "512")), simulated, int(total.get(vgpus_name(index), 16)))


def live_nodes() -> List[LiveNode]:
    """The nodes that are alive and ours, in the order of their names."""
    import ray

    free_of = free_resources()
    found = []
    for entry in ray.nodes():
        labels, total = entry.get("Labels") or {}, entry["Resources"]
        indices = sorted(int(k.rsplit("_", 1)[1]) for k in total if k.startswith("thole_memory_"))
        if not entry["Alive"] or not (indices or LABEL + "node" in labels):
            continue
        ray_id = entry["NodeID"]
        free = free_of.get(ray_id, {})
        levels = tuple(labels[f"{LABEL}level-{i}"] for i in range(6) if f"{LABEL}level-{i}" in labels)
        domains = tuple(labels.get(f"{LABEL}domain-{i}", "") for i in range(len(levels)))
        gpus = tuple(_gpu_of(labels, total, ray_id, i) for i in indices)
        node = Node(ray_id, domains, int(free.get("CPU", 0) * 1000 + 0.5), int(free.get("memory", 0)) >> 20, gpus)
        found.append(LiveNode(ray_id, labels.get(LABEL + "node", ray_id[:8]), entry["NodeManagerAddress"],
                              labels.get(LABEL + "version", ""), levels, node, dict(total), dict(free)))
    return sorted(found, key=lambda n: (n.name, n.ray_id))


def _used_by(resources: Mapping[str, float], node: LiveNode) -> List[Grant]:
    """The grants that a bundle's or the rest's resources stand for."""
    grants = []
    for i, gpu in enumerate(node.node.gpus):
        memory, share = int(resources.get(memory_name(i), 0) + 0.5), int(resources.get(share_name(i), 0) + 0.5)
        count = int(resources.get(vgpus_name(i), 0) + 0.5)
        if memory <= 0 and count <= 0:
            continue
        flags = _abi.THOLE_GPU_SIMULATED if gpu.simulated else 0
        if memory >= gpu.memory_mib and share >= 1000:
            grants.append(Grant(gpu.uuid, _abi.THOLE_KIND_WHOLE, gpu.memory_mib, 1000, flags, gpu.context_mib))
            continue
        for n in range(max(1, count)):  # each holds its part of what is used; only the sums matter here
            parts = max(1, count)
            mib = memory // parts - gpu.context_mib + (memory % parts if n == 0 else 0)
            milli = share // parts + (share % parts if n == 0 else 0)
            grants.append(Grant(gpu.uuid, _abi.THOLE_KIND_VGPU, max(1, mib), milli, flags, gpu.context_mib))
    return grants


def ledger_of(nodes: Sequence[LiveNode]) -> Ledger:
    """The ledger of this moment: what is used of each GPU, by whomever Ray has given it to, is held in it."""
    levels = nodes[0].levels if nodes else ()
    for node in nodes:
        if node.levels != levels:
            raise refused("LevelsDiffer", f"node {node.name} has the levels {node.levels}, {nodes[0].name} has {levels}: start "
                          "all nodes with the same spec.levels")
    ledger = Ledger([n.node for n in nodes], levels)
    for node in nodes:
        names = [k for k in node.total if k.startswith("thole_")]
        used = {k: node.total[k] - node.free.get(k, 0.0) for k in names}
        for grant in _used_by(used, node):
            ledger.adopt(documents.new_id(), node.ray_id, [grant])
    return ledger


def bundle(placement: Placement, node: LiveNode, cpu_milli: int, memory_mib: int) -> Dict[str, float]:
    """What Ray has to hold for a member, so that it is exactly on the GPUs of the plan."""
    out: Dict[str, float] = {"CPU": cpu_milli / 1000, "memory": float(memory_mib << 20)}
    index = {gpu.uuid: i for i, gpu in enumerate(node.node.gpus)}
    for grant in placement.grants:
        i = index[grant.uuid]
        whole = grant.kind == _abi.THOLE_KIND_WHOLE
        gpu = node.node.gpus[i]
        out[memory_name(i)] = float(gpu.memory_mib if whole else grant.memory_mib + gpu.context_mib)
        out[share_name(i)] = float(1000 if whole else grant.share_milli)
        out[vgpus_name(i)] = float(gpu.max_vgpus if whole else 1)
    out = {k: v for k, v in out.items() if v > 0}
    return out or {"CPU": 0.001}
