"""The core's ledger of devices for one decision: what there is, what is held, where a gang goes.

On Ray the truth is in the GCS, so a ledger is made from it, asked, and closed again. Every decision is the core's; this
file only lays structs out and reads them back.
"""
from __future__ import annotations

import ctypes
import uuid
from ctypes import byref, sizeof
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

from thole import _abi, _native
from thole.errors import TholeError

from .documents import Request
from .errors import GangError


@dataclass(frozen=True)
class Gpu:
    uuid: str
    model: str
    memory_mib: int
    context_mib: int
    simulated: bool
    max_vgpus: int


@dataclass(frozen=True)
class Node:
    name: str
    domains: Tuple[str, ...]
    cpu_milli: int
    memory_mib: int
    gpus: Tuple[Gpu, ...]


@dataclass(frozen=True)
class Grant:
    """A device that a member holds."""

    uuid: str
    kind: int  # THOLE_KIND_*
    memory_mib: int
    share_milli: int
    flags: int = 0
    context_mib: int = 0


@dataclass(frozen=True)
class Placement:
    role: int
    member: int
    first_rank: int
    ranks: int
    node: str
    grants: Tuple[Grant, ...]

    def as_json(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Dict[str, Any]) -> "Placement":
        return cls(**{**data, "grants": tuple(Grant(**g) for g in data["grants"])})


@dataclass(frozen=True)
class Explanation:
    fits: int
    needed: int
    available: int
    role: int
    level: str
    domain: str
    reason: str
    message: str
    blockers: Tuple[Tuple[str, int], ...]
    largest_hole_mib: int


def list_of(items: Sequence[Any], struct: type) -> _abi.thole_list:
    """A thole_list of structs; it keeps them alive."""
    memory = (struct * max(1, len(items)))(*items)  # type: ignore[operator]
    out = _abi.thole_list(ctypes.cast(memory, ctypes.c_void_p), len(items), sizeof(struct))
    out.keep = (memory, items)
    return out


def id_of(text: str) -> _abi.thole_id:
    number = uuid.UUID(text).int
    return _abi.thole_id(number >> 64, number & (2**64 - 1))


def _node_struct(node: Node) -> _abi.thole_node:
    gpus = [_native.sized(_abi.thole_gpu, uuid=_native.text(g.uuid), model=_native.text(g.model), memory_mib=g.memory_mib,
                          context_mib=g.context_mib, flags=_abi.THOLE_GPU_SIMULATED if g.simulated else 0,
                          max_vgpus=g.max_vgpus) for g in node.gpus]
    domains = [_native.text(d) for d in node.domains]
    out = _native.sized(_abi.thole_node, name=_native.text(node.name), domains=list_of(domains, _abi.thole_str),
                        cpu_milli=node.cpu_milli, memory_mib=node.memory_mib, gpus=list_of(gpus, _abi.thole_gpu))
    out.keep = (gpus, domains, out.name, out.domains, out.gpus)
    return out


def placement_struct(placement: Placement) -> _abi.thole_placement:
    grants = [_native.sized(_abi.thole_grant, uuid=_native.text(g.uuid), kind=g.kind, share_milli=g.share_milli,
                            memory_mib=g.memory_mib, flags=g.flags, context_mib=g.context_mib) for g in placement.grants]
    out = _native.sized(_abi.thole_placement, role=placement.role, member=placement.member,
                        first_rank=placement.first_rank, ranks=placement.ranks, node=_native.text(placement.node),
                        grants=list_of(grants, _abi.thole_grant))
    out.keep = (grants, out.node, out.grants)
    return out


def _read_placement(p: _abi.thole_placement) -> Placement:
    grants = tuple(Grant(_native.read(g.uuid), g.kind, g.memory_mib, g.share_milli, g.flags, g.context_mib)
                   for g in _native.elements(p.grants, _abi.thole_grant))
    return Placement(p.role, p.member, p.first_rank, p.ranks, _native.read(p.node), grants)


class Ledger:
    """A core of its own, without state on disk. Used as a context manager."""

    def __init__(self, nodes: Sequence[Node], levels: Sequence[str] = ()) -> None:
        self._core = _native.Core(_native.core().root, "")
        self._gang = self._core.needed("gang")
        try:
            names = [_native.text(level) for level in levels]
            _native.check(self._gang.set_levels, self._core.handle, byref(list_of(names, _abi.thole_str)))
            structs = [_node_struct(n) for n in nodes]
            _native.check(self._gang.set_nodes, self._core.handle, byref(list_of(structs, _abi.thole_node)))
        except TholeError:
            self.close()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        self._core.close()

    def adopt(self, gang: str, node: str, grants: Sequence[Grant]) -> None:
        """Holds what one member is known to run with, whatever the ledger thinks of it."""
        first = grants[0]
        vgpu = first.kind == _abi.THOLE_KIND_VGPU
        role = _native.sized(_abi.thole_role, name=_native.text("held"), members=1, device_kind=first.kind,
                             devices=len(grants), vgpu_share_milli=first.share_milli if vgpu else 0,
                             vgpu_memory_mib=first.memory_mib if vgpu else 0)
        request = _native.sized(_abi.thole_gang_request, gang=id_of(gang), roles=list_of([role], _abi.thole_role))
        self._reserve(request, gang, [Placement(0, 0, 0, 1, node, tuple(grants))], _abi.THOLE_RESERVE_ADOPT)

    def plan(self, request: Request) -> List[Placement]:
        """Places for the whole gang, or GangError with the tightest constraint. Changes nothing."""
        plan = _native.sized(_abi.thole_plan)
        try:
            memory = _native.check_with_room(self._gang.plan, self._core.handle, byref(request.struct), 0, byref(plan))
        except TholeError as error:
            if error.code not in ("THOLE_NO_FIT", "THOLE_EXHAUSTED"):
                raise
            raise GangError(error.code, error.reason, error.message, self.explain(request).largest_hole_mib) from None
        placements = [_read_placement(p) for p in _native.elements(plan.placements, _abi.thole_placement)]
        del memory
        return placements

    def reserve(self, request: Request, placements: Sequence[Placement]) -> None:
        self._reserve(request.struct, request.gang, placements, 0)

    def release(self, gang: str) -> None:
        _native.check(self._gang.release, self._core.handle, id_of(gang))

    def _reserve(self, request: Any, gang: str, placements: Sequence[Placement], flags: int) -> None:
        structs = [placement_struct(p) for p in placements]
        plan = _native.sized(_abi.thole_plan, gang=id_of(gang), placements=list_of(structs, _abi.thole_placement))
        reservation = _native.sized(_abi.thole_reservation, flags=flags)
        _native.check(self._gang.reserve, self._core.handle, byref(request), byref(plan), byref(reservation))

    def explain(self, request: Request) -> Explanation:
        out = _native.sized(_abi.thole_explanation)
        memory = _native.check_with_room(self._gang.explain, self._core.handle, byref(request.struct), 0, byref(out))
        blockers = tuple((_native.read(b.what), int(b.nodes)) for b in _native.elements(out.blockers, _abi.thole_blocker))
        found = Explanation(out.fits, out.needed, out.available, out.role, _native.read(out.level), _native.read(out.domain),
                            _native.read(out.reason), _native.read(out.message), blockers, out.largest_hole_mib)
        del memory
        return found

    def usage(self) -> List[Dict[str, Any]]:
        """Every GPU with what is free on it."""
        out, query = _native.sized(_abi.thole_usage), _native.sized(_abi.thole_gang_query)
        memory = _native.check_with_room(self._gang.usage, self._core.handle, byref(query), byref(out))
        gpus = [{"node": _native.read(g.node), "uuid": _native.read(g.uuid), "model": _native.read(g.model),
                 "simulated": bool(g.flags & _abi.THOLE_GPU_SIMULATED), "holders": g.holders, "memoryMiB": g.memory_mib,
                 "freeMemoryMiB": g.free_memory_mib, "freeShareMilli": g.free_share_milli}
                for g in _native.elements(out.gpus, _abi.thole_gpu_use)]
        del memory
        return gpus
