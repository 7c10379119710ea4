"""The gang service: one detached actor that plans, one gang at a time, on what the GCS says at that moment.

It keeps nothing that it could not lose: nodes, free resources and placement groups are the GCS's, so it may be killed and
restarted at any instant. Whoever asked makes the placement group itself, so that the group ends with its owner; until it
says that the group stands, or is gone, nobody else is planned (a ticket, which runs out by itself).
"""
from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Dict, List, Optional

from thole.errors import TholeError

from . import capacity, documents
from .demand import Demand
from .errors import GangError, as_answer

NAMESPACE = "thole"
NAME = "thole-gangs"
TICKET_SECONDS = 30.0
LEASE_SECONDS = 5.0  # for so long a call of `plan` waits; whoever still wants its gang then calls again
_LOOK_SECONDS = 0.02, 0.2  # what was given back a moment ago is seen soon; who waits long looks less often


class GangService:
    def __init__(self) -> None:
        self._ticket: Optional[str] = None
        self._ticket_until = 0.0
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._demand = Demand()
        self._kept: Dict[str, float] = {}  # of gangs that are wanted and that nobody asks for at this moment: until when

    async def version(self) -> str:
        import thole

        return thole.__version__

    async def plan(self, job: str, gang: str, wait: float, scale: bool = True) -> Dict[str, Any]:
        """{"placements", "bundles", "nodes"} of a gang that fits now or within `wait` seconds, and a ticket to make it."""
        until = time.monotonic() + wait
        pause = _LOOK_SECONDS[0]
        try:
            request = documents.Request(job, gang)
            while True:
                async with self._turn:
                    if self._free():
                        try:
                            answer = self._plan_now(request)
                            self._ticket, self._ticket_until = gang, time.monotonic() + TICKET_SECONDS
                            self._drop(gang)
                            return answer
                        except GangError as error:
                            if time.monotonic() >= until:
                                raise
                            if scale:
                                self._kept[gang] = math.inf
                                self._demand.want(gang, request)
                            del error
                    elif time.monotonic() >= until + TICKET_SECONDS:
                        raise TholeError("THOLE_TIMEOUT", "GangNoFitInCluster", "another gang is being made: try again")
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), pause)
                except asyncio.TimeoutError:
                    pause = min(1.25 * pause, _LOOK_SECONDS[1])
        except TholeError as error:
            return as_answer(error)
        finally:
            if gang in self._demand:  # it may be asked for again in a moment: until then nodes that came stay
                self._kept[gang] = time.monotonic() + LEASE_SECONDS
                asyncio.get_running_loop().call_later(LEASE_SECONDS + 0.1, self._forget, gang)

    def _forget(self, gang: str) -> None:
        if time.monotonic() >= self._kept.get(gang, 0.0):
            self._drop(gang)

    def _drop(self, gang: str) -> None:
        self._kept.pop(gang, None)
        self._demand.forget(gang)

    async def made(self, gang: str) -> None:
        """The placement group of the ticket stands, or is gone."""
        if self._ticket == gang:
            self._ticket = None
        self._changed.set()

    async def explain(self, job: str) -> Dict[str, Any]:
        try:
            request = documents.Request(job, documents.new_id())
            nodes = self._nodes()
            with capacity.ledger_of(nodes) as ledger:
                e = ledger.explain(request)
            names = {n.ray_id: n.name for n in nodes}
            return {"fits": e.fits, "decided": e.fits != 2, "needed": e.needed, "available": e.available, "level": e.level,
                    "domain": names.get(e.domain, e.domain), "role": e.role, "reason": e.reason,
                    "message": _named(e.message, names), "blockers": [list(b) for b in e.blockers],
                    "largestHoleMiB": e.largest_hole_mib}
        except TholeError as error:
            return as_answer(error)

    async def usage(self) -> List[Dict[str, Any]]:
        nodes = self._nodes()
        names = {n.ray_id: n.name for n in nodes}
        with capacity.ledger_of(nodes) as ledger:
            return [{**gpu, "node": names[gpu["node"]]} for gpu in ledger.usage()]

    # --- One decision. ------------------------------------------------------------------------------------------------

    def _free(self) -> bool:
        return self._ticket is None or time.monotonic() >= self._ticket_until

    @staticmethod
    def _nodes() -> List[capacity.LiveNode]:
        nodes = capacity.live_nodes()
        if not nodes:
            raise GangError("THOLE_NO_FIT", "GangNoFitInCluster", "no live node of this cluster was started with "
                            "`thole ray start`: there is nothing to place on")  # an autoscaler may bring one yet
        return nodes

    def _plan_now(self, request: documents.Request) -> Dict[str, Any]:
        nodes = self._nodes()
        by_id = {n.ray_id: n for n in nodes}
        names = {n.ray_id: n.name for n in nodes}
        with capacity.ledger_of(nodes) as ledger:
            try:
                placements = ledger.plan(request)
            except GangError as error:
                raise GangError(error.code, error.reason, _named(error.message, names), error.largest_hole_mib) from None
        roles = request.roles()
        bundles = [capacity.bundle(p, by_id[p.node], roles[p.role][1], roles[p.role][2]) for p in placements]
        return {"placements": [p.as_json() for p in placements], "bundles": bundles, "roles": [r[0] for r in roles],
                "nodes": {i: {"name": n.name, "address": n.address, "version": n.version} for i, n in by_id.items()}}


def _named(message: str, names: Dict[str, str]) -> str:
    for ray_id, name in names.items():
        message = message.replace(ray_id, name)
    return message


def service() -> Any:
    """The handle of this cluster's gang service, which is started where it is not there yet."""
    import ray

    try:
        return ray.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        pass
    head = {"node:__internal_head__": 0.001} if "node:__internal_head__" in ray.cluster_resources() else {}
    options: Dict[str, Any] = dict(name=NAME, namespace=NAMESPACE, lifetime="detached", max_restarts=-1, max_task_retries=-1,
                                   num_cpus=0, get_if_exists=True, max_concurrency=1000, resources=head)
    return ray.remote(GangService).options(**options).remote()


__all__ = ["NAME", "NAMESPACE", "GangService", "service"]
