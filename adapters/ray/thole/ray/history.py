"""What happened to a job, and what the core's recovery service decides after it."""
from __future__ import annotations

import uuid
from ctypes import byref
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Sequence

from thole import _abi, _native

from . import documents
from .ledger import list_of

_KINDS = {"exit": _abi.THOLE_INCIDENT_EXIT, "signal": _abi.THOLE_INCIDENT_SIGNAL, "hang": _abi.THOLE_INCIDENT_HANG,
          "start": _abi.THOLE_INCIDENT_START, "memory": _abi.THOLE_INCIDENT_MEMORY, "node": _abi.THOLE_INCIDENT_NODE,
          "early": _abi.THOLE_INCIDENT_EARLY}


@dataclass
class Incident:
    kind: str
    rank: int
    code: int
    message: str
    attempt: int = 0
    safe_step: int = 0
    cause: str = ""  # 32 hexadecimal digits, or nothing
    node: str = ""
    at: float = 0.0  # when it happened, on the clock of where it did; 0: nobody knows

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Incident":
        return cls(data["kind"], data["rank"], data["code"], data["message"], data["attempt"], data["safeStep"],
                   data.get("cause", ""), data.get("node", ""))

    def exit_code(self) -> int:
        """What a job that ends with this incident answers, as on every platform."""
        if self.kind == "signal":
            return 128 + self.code
        if self.kind == "start":
            return 127 if self.code == 2 else 126
        return {"hang": 125, "node": 69}.get(self.kind, self.code or 70)


@dataclass(frozen=True)
class Decision:
    restart: bool
    reason: str
    message: str
    delay: float


def decide(history: Sequence[Incident], recovery: Dict[str, Any]) -> Decision:
    """A pure function of the history (docs/adr/0006-recovery-stops.md)."""
    core = _native.core()
    structs = []
    for i in history:
        number = uuid.UUID(i.cause).int if i.cause else 0
        structs.append(_native.sized(_abi.thole_incident, kind=_KINDS[i.kind], rank=i.rank, code=i.code, attempt=i.attempt,
                                     step=i.safe_step, cause=_abi.thole_id(number >> 64, number & (2**64 - 1))))
    policy = _native.sized(
        _abi.thole_recovery_policy, max_incidents=recovery["maxIncidents"],
        max_without_progress=recovery["maxWithoutProgress"], max_same_cause=recovery["maxSameCause"],
        min_delay_ns=int(documents.seconds(recovery["minDelay"]) * 1e9),
        max_delay_ns=int(documents.seconds(recovery["maxDelay"]) * 1e9))
    out = _native.sized(_abi.thole_decision)
    memory = _native.check_with_room(core.needed("recovery").decide, core.handle, byref(list_of(structs, _abi.thole_incident)),
                                     byref(policy), byref(out))
    found = Decision(out.action == _abi.THOLE_RECOVERY_RESTART, _native.read(out.reason), _native.read(out.message),
                     out.delay_ns / 1e9)
    del memory
    return found
