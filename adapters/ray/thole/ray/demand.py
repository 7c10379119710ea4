"""What an autoscaler is asked for, so that nodes come for gangs that wait, and stay until these are placed.

Ray has one list for it (`request_resources`), which it holds against whole nodes, not against what is free on them: so what is used of
each node is asked for as well, on that node. If the node types and their limits cannot hold all of a list, Ray brings nothing for
any of it: so where all gangs together bring no node, they are asked for one after the other.
"""
from __future__ import annotations

import inspect
import math
import time
from typing import Dict, List, Optional, Sequence, Tuple

from thole import _abi, _native

from . import capacity, documents

Bundle = Tuple[Dict[str, float], Dict[str, str]]  # resources, and the labels that their node has to have

TURN_SECONDS = 10.0  # for so long a list that brings no node stands, where there is another one to try
_ASK_SECONDS = 1.0  # what is used changes with each task: it is asked for no more often
_CONTEXT_MIB = 512  # of a GPU that nobody has seen yet: NodePool's default


class Demand:
    """[of one thread]"""

    def __init__(self) -> None:
        self._wanted: Dict[str, documents.Request] = {}
        self._turn, self._since = 0, 0.0
        self._nodes: List[str] = []
        self._asked: Optional[List[Bundle]] = None  # None: what an earlier service has asked for may still stand
        self._asked_at = 0.0

    def __contains__(self, gang: str) -> bool:
        return gang in self._wanted

    def want(self, gang: str, request: documents.Request) -> None:
        if gang not in self._wanted:
            self._wanted[gang] = request
            self._begin_again()
        elif time.monotonic() - self._asked_at >= _ASK_SECONDS:
            self._ask()

    def forget(self, gang: str) -> None:
        if self._wanted.pop(gang, None) is not None or self._asked is None:
            self._begin_again()

    def _begin_again(self) -> None:
        self._turn, self._since = 0, time.monotonic()
        self._ask()

    def _ask(self) -> None:
        now, nodes = time.monotonic(), capacity.live_nodes() if self._wanted else []
        alive = [n.ray_id for n in nodes]
        if alive != self._nodes:
            self._nodes, self._since = alive, now  # what is asked for is coming
        elif now - self._since >= TURN_SECONDS:
            self._turn, self._since = self._turn + 1, now
        self._asked_at = now
        bundles = [*_used(nodes), *self._of_this_turn(nodes)] if self._wanted else []
        if bundles != self._asked:
            self._asked = bundles if _request(bundles) else None  # else it is said again in a second

    def _of_this_turn(self, nodes: Sequence[capacity.LiveNode]) -> List[Bundle]:
        """Of all gangs together, then of each alone."""
        each = [members(request, nodes) for request in self._wanted.values()]
        lists = [[b for bundles in each for b in bundles], *(each if len(each) > 1 else [])]
        return lists[self._turn % len(lists)]


def _used(nodes: Sequence[capacity.LiveNode]) -> List[Bundle]:
    out = []
    for node in nodes:
        used = {k: node.total[k] - node.free.get(k, 0.0) for k in node.total if k in ("CPU", "memory") or k.startswith("thole_")}
        used = {k: v for k, v in used.items() if v > 0}
        if used:
            out.append((used, {capacity.NODE_ID_LABEL: node.ray_id}))
    return out


def members(request: documents.Request, nodes: Sequence[capacity.LiveNode]) -> List[Bundle]:
    """What the members want. Nobody knows which GPUs a node has that is not there: they are taken to be as many, and to have contexts
    as large, as those of the nodes that are; and members lie on them in turn."""
    gpus = max((len(n.node.gpus) for n in nodes), default=0) or 1
    context = max((g.context_mib for n in nodes for g in n.node.gpus), default=_CONTEXT_MIB)
    out, next_gpu = [], 0
    for role in _native.elements(request.struct.roles, _abi.thole_role):
        model = _native.read(role.gpu_model)
        for _ in range(role.members):
            one = {"CPU": role.cpu_milli / 1000, "memory": float(role.memory_mib << 20)}
            for device in range(role.devices):
                i = (next_gpu + device) % max(gpus, role.devices)
                if role.device_kind == _abi.THOLE_KIND_VGPU:
                    one[capacity.memory_name(i)] = float(role.vgpu_memory_mib + context)
                    one[capacity.share_name(i)] = float(role.vgpu_share_milli)
                    one[capacity.vgpus_name(i)] = 1.0
                elif role.device_kind == _abi.THOLE_KIND_WHOLE:
                    one[capacity.share_name(i)] = 1000.0
            next_gpu += role.devices
            out.append(({k: v for k, v in one.items() if v > 0}, {capacity.LABEL + "model": model} if model else {}))
    return out


def _request(bundles: List[Bundle]) -> bool:
    try:
        try:
            _say([resources for resources, _ in bundles], bundles)
        except TypeError:  # "value as int": Ray 2.52 takes no fractions
            _say([{name: math.ceil(amount) for name, amount in resources.items()} for resources, _ in bundles], bundles)
        return True
    except Exception as error:  # Ray does not say what it raises here; a gang still waits for what ends
        print(f"thole: the autoscaler was not asked for nodes: {error}", flush=True)
        return False


def _say(resources: Sequence[Dict[str, float]], bundles: List[Bundle]) -> None:
    from ray.autoscaler.sdk import request_resources

    labels = [labels for _, labels in bundles]
    can = "bundle_label_selectors" in inspect.signature(request_resources).parameters
    request_resources(bundles=list(resources), **({"bundle_label_selectors": labels} if can and any(labels) else {}))


__all__ = ["Demand", "TURN_SECONDS", "members"]
