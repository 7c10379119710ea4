"""Gangs: placed whole by the core, held by one placement group of Ray, and gone whole."""
from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Type

from thole.errors import TholeError

from . import capacity, documents
from .errors import GangError, raise_answer, refused
from .ledger import Grant, Placement
from .service import LEASE_SECONDS, TICKET_SECONDS, service

_TRIES = 5  # a task of somebody else may take a hole between the plan and the placement group


@dataclass(frozen=True)
class Role:
    """Members that are alike: `members` of them, each with vGPUs (memory, share), whole GPUs, or none."""

    members: int
    memory: str = ""  # cap of the vGPU, "8Gi"
    share: Optional[float] = None
    gpus: int = 0  # whole ones
    count: int = 1  # vGPUs of a member
    model: str = ""
    min: int = 0
    cpu: str = "1"
    host_memory: str = "1Gi"
    name: str = ""

    def as_json(self, index: int) -> Dict[str, Any]:
        out: Dict[str, Any] = {"name": self.name or f"role-{index}", "members": self.members, "cpu": str(self.cpu),
                               "memory": self.host_memory}
        if self.min:
            out["min"] = self.min
        if self.gpus and self.memory:
            raise refused("RolesContradict", "a role has whole GPUs or vGPUs: give gpus, or memory and share")
        if self.gpus:
            out["gpus"] = {"count": self.gpus}
        elif self.memory:
            out["vgpu"] = {**vgpu_fields(self.memory, self.share), "count": self.count}
        elif self.share is not None or self.model:
            raise refused("RolesContradict", "share and model belong to a vGPU: give its memory, such as \"8Gi\"")
        return out


def vgpu_fields(memory: str, share: Optional[float]) -> Dict[str, Any]:
    """The `vgpu` of a job file. What is wrong with the values, the core says."""
    if not isinstance(memory, str):
        raise refused("UnitBad", f"memory is {memory!r}: write a size with its unit, such as \"8Gi\"")
    if share is None:
        return {"memory": memory}
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise refused("FieldBad", f"share is {share!r}: a part of a GPU is above 0 and at most 1; leave it out to claim none")
    text = f"{share:.9f}".rstrip("0").rstrip(".")
    return {"memory": memory, "share": text}


class Gang:
    """A gang that stands. Give it back with release(), or use it as a context manager; it ends with who made it."""

    def __init__(self, gang: str, group: Any, answer: Mapping[str, Any], attempt: int) -> None:
        self.id, self.group, self.attempt = gang, group, attempt
        self.placements: List[Placement] = [Placement.from_json(p) for p in answer["placements"]]
        self.bundles: List[Dict[str, float]] = answer["bundles"]
        self.roles: List[str] = answer["roles"]
        self.nodes: Dict[str, Dict[str, str]] = answer["nodes"]

    def __len__(self) -> int:
        return len(self.placements)

    def __enter__(self) -> "Gang":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.release()

    def devices(self, member: int) -> Tuple[Grant, ...]:
        """What the plan gives to the member with this index in the gang."""
        return self.placements[member].grants

    def node_name(self, member: int) -> str:
        return self.nodes[self.placements[member].node]["name"]

    def options(self, member: int, **more: Any) -> Dict[str, Any]:
        """For `Actor.options(**...)`: the member's bundle, and its record and environment before its process begins."""
        plugin = {"gang": self.id, "attempt": self.attempt, "role": self.roles[self.placements[member].role],
                  "node": self.node_name(member), "placement": self.placements[member].as_json()}
        runtime_env = {**more.pop("runtime_env", {}), "thole": plugin}
        return {**self.bundle_options(member), "runtime_env": runtime_env, **more}

    def bundle_options(self, member: int) -> Dict[str, Any]:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundle = dict(self.bundles[member])
        cpu, memory = bundle.pop("CPU", 0), bundle.pop("memory", 0)
        strategy = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=member)
        out: Dict[str, Any] = {"scheduling_strategy": strategy, "num_cpus": cpu, "resources": bundle}
        return {**out, **({"memory": int(memory)} if memory else {})}

    def release(self) -> None:
        """Gives all of it back, and ends what runs in it. Again is harmless."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self.group)


def gang(*roles: Role, name: str = "gang", topology: Sequence[Mapping[str, str]] = (), timeout: float = 60.0) -> Gang:
    """Places a gang whole, within `timeout` seconds, or raises GangError with the reason and the largest hole.

    Until it stands nothing of it is held; if it cannot be, nothing stays behind.
    """
    if not roles:
        raise refused("RequestBad", "a gang has at least one Role")
    fields = [r.as_json(i) for i, r in enumerate(roles)]
    return place(documents.job_of(name, fields, topology, [r.model for r in roles]), timeout)


def place(job: str, timeout: float, attempt: int = 1, tell: Any = None, new_id: Callable[[], str] = documents.new_id,
          get: Optional[Callable[[Any], Any]] = None) -> Gang:
    """The gang of a canonical job. `tell`: called when it has to wait; `new_id`: its id; `get`: waits for the plan."""
    import ray

    documents.Request(job, documents.new_id())  # what is wrong with it is said here, with its own trace
    until, tries, said = _now() + timeout, 0, False
    gang = new_id()
    while True:
        gangs, left = service(), until - _now()
        # Asked again every few seconds, so that nobody is planned for who has died meanwhile.
        wait = 0.0 if tell and not said else max(0.0, min(LEASE_SECONDS, left))
        answer = (get or ray.get)(gangs.plan.remote(job, gang, wait))
        if left > 0 and answer.get("error", {}).get("code") in ("THOLE_NO_FIT", "THOLE_EXHAUSTED", "THOLE_TIMEOUT"):
            if tell and not said:
                tell(answer["error"]["message"])
            said = True
            continue
        raise_answer(answer)
        check_versions(answer["nodes"])
        try:
            group = _make_group(gang, answer, TICKET_SECONDS / 2)
        finally:
            gangs.made.remote(gang)  # nobody waits for the answer: the ticket runs out without it
        if group is not None:
            return Gang(gang, group, answer, attempt)
        tries += 1
        if tries >= _TRIES and _now() >= until:
            raise GangError("THOLE_CONFLICT", "PlanStale", f"no placement group stood for the plan, {tries} times: others take "
                            "the places, or Ray is too busy to make it. Try again")
        gang = new_id()


def check_versions(nodes: Mapping[str, Mapping[str, str]]) -> None:
    import thole

    want = documents.label_value(thole.__version__)
    for node in nodes.values():
        if node["version"] not in (want, ""):
            raise TholeError("THOLE_UNSUPPORTED", "AbiUnsupported", f"node {node['name']} runs Thole {node['version']}, this "
                             f"program {want}: install the same version on all nodes")


def _now() -> float:
    import time

    return time.monotonic()


def _make_group(gang: str, answer: Mapping[str, Any], seconds: float) -> Any:
    """The placement group, when all of it stands; None, and nothing left, if it does not within `seconds`."""
    from ray.util.placement_group import placement_group, remove_placement_group

    bundles = answer["bundles"]
    selectors = [{capacity.NODE_ID_LABEL: p["node"]} for p in answer["placements"]]
    if "bundle_label_selector" not in inspect.signature(placement_group).parameters:
        raise TholeError("THOLE_UNSUPPORTED", "ServiceMissing", "this Ray has no label selectors for bundles: use 2.49 or newer")
    group = placement_group(bundles, strategy="PACK", name=capacity.GROUP_PREFIX + gang, bundle_label_selector=selectors)
    if group.wait(seconds):
        return group
    remove_placement_group(group)
    return None
