"""Nodes with simulated GPUs, pods that ask for parts of them, and what became of them."""
from __future__ import annotations

import json
from typing import Any, Optional

MEMORY, SHARE = "thole.dev/vgpu-memory-mib", "thole.dev/vgpu-share"
OURS = ("thole-scheduler", "scheduler-plugins-scheduler")  # the second is the name that KubeRay's operator gives


def add_node(cluster: Any, name: str, gpus: int = 1, mib: int = 8192, cpu: str = "64", kwok: bool = True, written: str = "", **spec: Any) -> None:
    """A node that kwok plays (simulated), with so many simulated GPUs of `mib` each; without kwok nobody answers for it. `written`: what its
    annotation says in the place of them, from the first."""
    cards = [{"uuid": f"SIM-{name}-{i}", "model": "simulated", "memoryMiB": mib, "contextMiB": 0, "simulated": True} for i in range(gpus)]
    cluster.api.create("nodes", {"apiVersion": "v1", "kind": "Node", "spec": spec,
                                 "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name},
                                              "annotations": {**({"kwok.x-k8s.io/node": "fake"} if kwok else {}), "thole.dev/gpus": written or json.dumps(cards)}}})
    have = {"cpu": cpu, "memory": "64Gi", "pods": "200", MEMORY: str(gpus * mib), SHARE: str(1000 * gpus)}
    cluster.api.patch("nodes", name, {"status": {"capacity": have, "allocatable": have,
                                                 "conditions": [{"type": "Ready", "status": "True", "reason": "Test"}]}}, part="status")


def pod(name: str, mib: int, scheduler: str = "thole-scheduler", gang: str = "", size: int = 0, share: int = 0, cpu: str = "10m",
        **spec: Any) -> dict[str, Any]:
    asks = {"cpu": cpu, **({MEMORY: str(mib)} if mib else {}), **({SHARE: str(share)} if share else {})}
    labels = {"thole.dev/gang": gang} if gang else {}
    annotations = {"thole.dev/gang-size": str(size)} if size else {}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels, "annotations": annotations},
            "spec": {"schedulerName": scheduler, "terminationGracePeriodSeconds": 0, **spec,
                     "containers": [{"name": "main", "image": "none", "resources": {"requests": asks, "limits": asks}}]}}


def bound(cluster: Any) -> dict[str, str]:
    """Node of each pod that has one."""
    return {p["metadata"]["name"]: p["spec"]["nodeName"] for p in cluster.api.list("pods") if p["spec"].get("nodeName")}


def why(cluster: Any, name: str) -> str:
    """What the scheduler says of a pod that waits: its condition, or the events of one that is held back."""
    found = cluster.api.get("pods", name)
    for c in found.get("status", {}).get("conditions", []):
        if c["type"] == "PodScheduled" and c["status"] == "False":
            return str(c.get("message", ""))
    events = cluster.api.list("events", fieldSelector=f"involvedObject.uid={found['metadata']['uid']}")
    return " ".join(f"{e['reason']}: {e['message']}" for e in events if e["type"] == "Warning")


def allocation(thing: dict[str, Any]) -> Optional[dict[str, Any]]:
    text = thing["metadata"].get("annotations", {}).get("thole.dev/allocation")
    return json.loads(text) if text else None


def audit(cluster: Any, capacity: int = 8192) -> dict[str, int]:
    """MiB that bound pods hold of each GPU, by what is written on them; none may hold more than there is."""
    held: dict[str, int] = {}
    for p in cluster.api.list("pods"):
        if p["spec"].get("nodeName") and p["spec"]["schedulerName"] in OURS and p["status"].get("phase") not in ("Failed", "Succeeded"):
            a = allocation(p)
            assert a, f"{p['metadata']['name']} is bound and holds nothing"
            assert a["node"] == p["spec"]["nodeName"]
            for grant in a["grants"]:
                held[grant["uuid"]] = held.get(grant["uuid"], 0) + grant["memoryMiB"]
    assert all(mib <= capacity for mib in held.values()), held
    return held


def wipe(cluster: Any) -> None:
    for p in cluster.api.list("pods"):
        cluster.api.delete("pods", p["metadata"]["name"], grace=0)
    cluster.wait_for(lambda: not cluster.api.list("pods"), "all pods to be gone")
    for n in cluster.api.list("nodes"):
        cluster.api.delete("nodes", n["metadata"]["name"])
    cluster.wait_for(lambda: not cluster.api.list("nodes"), "all nodes to be gone")
