"""The decorator: a task or an actor that has a part of a GPU, and a process of its own to have it in."""
from __future__ import annotations

import inspect
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from thole.errors import TholeError

from . import capacity, documents
from .errors import GangError, refused
from .gangs import check_versions, vgpu_fields
from .ledger import Ledger, Placement

_LOOK_SECONDS = 0.2
_ACTOR_PATIENCE = 10.0
_FRESH_SECONDS = 1.0  # for so long a view of the cluster is used; what this process has placed since is held in it


class Chooser:
    """Picks a GPU for each call. The choice is the core's, on what is free; Ray then holds the caller to it.

    Where nothing is free the call waits in Ray's queue for the GPU on which this process has the fewest waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: List[capacity.LiveNode] = []
        self._ledger: Optional[Ledger] = None
        self._until = 0.0
        self._waiting: Dict[Tuple[str, str], int] = {}

    def choose(self, job: str, patience: float) -> Tuple[str, Placement, Dict[str, float], str]:
        """(id, placement, resources, node's name) for a job of one member. What stays, an actor, is worth `patience`
        seconds of waiting for a GPU that is really free; a task goes into the queue at once."""
        until = time.monotonic() + patience
        gang = documents.new_id()
        request = documents.Request(job, gang)
        queued: Optional[Placement] = None
        while True:
            with self._lock:  # not while this call waits: others may fit meanwhile
                placement = self._now(request)
                if placement is None and queued is None:
                    queued = self._queue(request)  # says what is too large before anything is waited for
                chosen = placement or queued
                assert chosen is not None
                node = next((n for n in self._nodes if n.ray_id == chosen.node), None)
                if node is None:
                    queued = None  # it was lost while this call waited: another one
                elif placement is not None or time.monotonic() >= until:
                    _, cpu, memory = request.roles()[0]
                    return gang, chosen, capacity.bundle(chosen, node, cpu, memory), node.name
            time.sleep(_LOOK_SECONDS)

    def _now(self, request: documents.Request) -> Optional[Placement]:
        self._refresh()
        assert self._ledger is not None
        try:
            placement = self._ledger.plan(request)[0]
        except GangError:
            return None
        self._ledger.reserve(request, [placement])
        self._waiting.clear()  # there is room: what waited has been served
        return placement

    def _refresh(self) -> None:
        if self._ledger is not None and time.monotonic() < self._until:
            return
        nodes = capacity.live_nodes()
        if not nodes:
            raise TholeError("THOLE_UNAVAILABLE", "GangNoFitInCluster", "no live node of this cluster was started with `thole "
                             "ray start`: there are no vGPUs")
        check_versions({n.ray_id: {"name": n.name, "version": n.version} for n in nodes})
        if self._ledger is not None:
            self._ledger.close()
        self._nodes, self._ledger = nodes, capacity.ledger_of(nodes)
        self._until = time.monotonic() + _FRESH_SECONDS

    def _queue(self, request: documents.Request) -> Placement:
        """A place for later: what the core would choose on an empty cluster, on each GPU in turn."""
        levels = self._nodes[0].levels
        best: Optional[Tuple[int, Placement]] = None
        problem: Optional[GangError] = None
        for live in self._nodes:
            for gpu in live.node.gpus:
                only = type(live.node)(live.node.name, live.node.domains, 2**40, 2**30, (gpu,))
                with Ledger([only], levels) as empty:
                    try:
                        placement = empty.plan(request)[0]
                    except GangError as error:
                        if problem is None or problem.reason == "NoSuchModel":  # that of a GPU of the model says more
                            problem = error
                        continue
                waiting = self._waiting.get((live.ray_id, gpu.uuid), 0)
                if best is None or waiting < best[0]:
                    best = waiting, placement
        if best is None:
            assert problem is not None
            raise problem  # it would not fit if nothing else ran: DeviceTooSmall, NoSuchModel, ...
        placement = best[1]
        at = placement.node, placement.grants[0].uuid
        self._waiting[at] = self._waiting.get(at, 0) + 1
        return placement


_chooser = Chooser()


def _options(job: str, patience: float) -> Dict[str, Any]:
    """What Ray is told for one call: the GPU's own resources, its node, and a runtime_env that no other call has."""
    gang, placement, resources, name = _chooser.choose(job, patience)
    cpu, memory = resources.pop("CPU", 0), resources.pop("memory", 0)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    plugin = {"gang": gang, "attempt": 1, "role": "vgpu", "node": name, "placement": placement.as_json()}
    # A label selector for the node would let the call wait for ever when the node is lost: this fails then.
    out: Dict[str, Any] = {"num_cpus": cpu, "resources": resources, "runtime_env": {"thole": plugin},
                           "scheduling_strategy": NodeAffinitySchedulingStrategy(placement.node, soft=False)}
    return {**out, **({"memory": int(memory)} if memory else {})}


class Decorated:
    """A function or a class with `.remote(...)`; `.options(...)` takes Ray's options that are not ours."""

    def __init__(self, what: Any, ray_options: Dict[str, Any], job: str, more: Optional[Dict[str, Any]] = None) -> None:
        self._what, self._ray_options, self._job, self._more = what, ray_options, job, more or {}
        self._remote: Any = None
        self.__doc__, self.__name__ = what.__doc__, what.__name__

    def options(self, **more: Any) -> "Decorated":
        _check_options(more)
        new = Decorated(self._what, self._ray_options, self._job, {**self._more, **more})
        new._remote = self._remote
        return new

    def remote(self, *arguments: Any, **named: Any) -> Any:
        import ray

        if self._remote is None:
            # A CUDA context lives as long as its process: a task's worker ends with the task.
            once = {} if inspect.isclass(self._what) else {"max_calls": 1}
            given = {**once, **self._ray_options}
            self._remote = ray.remote(**given)(self._what) if given else ray.remote(self._what)
        options = _options(self._job, _ACTOR_PATIENCE if inspect.isclass(self._what) else 0.0)
        more = dict(self._more)
        options["runtime_env"] = {**more.pop("runtime_env", {}), **options["runtime_env"]}
        return self._remote.options(**{**options, **more}).remote(*arguments, **named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(f"{self.__name__} has a vGPU: call it with .remote()")

    def __reduce__(self) -> Tuple[Any, ...]:
        return Decorated, (self._what, self._ray_options, self._job, self._more)


_OURS = ("num_gpus", "num_cpus", "memory", "resources", "label_selector", "fallback_strategy", "accelerator_type",
         "scheduling_strategy", "placement_group", "placement_group_bundle_index", "max_calls")


def _check_options(options: Dict[str, Any]) -> None:
    for name in options:
        if name in _OURS:
            raise refused("NativeOverrides", f"{name} is what a vGPU decides: say cpu, host_memory and model to "
                          "thole.ray.vgpu instead")
    if "thole" in (options.get("runtime_env") or {}):
        raise refused("NativeOverrides", "runtime_env['thole'] is made by thole.ray.vgpu")


def vgpu(memory: str, share: Optional[float] = None, *, model: str = "", cpu: float = 1, host_memory: str = "1Mi",
         **ray_options: Any) -> Callable[[Any], Decorated]:
    """In the place of `@ray.remote`: each call of the function, each actor of the class, has a vGPU of its own.

    `memory` is its cap, `share` its part of the GPU's compute, `model` the only GPU model wanted. Ray's own options, such as
    `max_retries`, go here as well. What is wrong is said at once, with a reason.
    """
    _check_options(ray_options)
    role = {"name": "vgpu", "members": 1, "cpu": f"{cpu:g}", "memory": host_memory, "vgpu": vgpu_fields(memory, share)}
    job = documents.job_of("vgpu", [role], models=[model])

    def decorate(what: Any) -> Decorated:
        plain = inspect.isfunction(what) or inspect.isclass(what)
        if not plain or inspect.iscoroutinefunction(what):
            raise refused("RolesContradict", f"thole.ray.vgpu goes in the place of @ray.remote, on a function or a class; this is "
                          f"a {type(what).__name__}")
        return Decorated(what, ray_options, job)

    return decorate
