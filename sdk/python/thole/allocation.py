"""What this rank was given: its devices, their caps, and who holds the caps."""
from __future__ import annotations

import os
from ctypes import byref
from dataclasses import dataclass
from typing import Optional, Tuple

from . import _abi, _native

_KINDS = {_abi.THOLE_KIND_WHOLE: "whole", _abi.THOLE_KIND_VGPU: "vgpu", _abi.THOLE_KIND_MIG: "mig"}
_BACKENDS = {_abi.THOLE_BACKEND_NONE: "none", _abi.THOLE_BACKEND_SIMULATED: "simulated",
             _abi.THOLE_BACKEND_EXCLUSIVE: "exclusive"}


@dataclass(frozen=True)
class Device:
    uuid: str  # of the GPU
    kind: str  # "whole", "vgpu" or "mig"
    memory_mib: int  # the cap
    share_milli: int  # thousandths of the GPU's compute; 0 claims none
    mig_profile: str
    backend: str  # who holds the cap: "none", "simulated" or "exclusive"


@dataclass(frozen=True)
class Allocation:
    node: str
    role: str
    member: int
    attempt: int
    generation: int
    devices: Tuple[Device, ...]


def read(path: str = "") -> Optional[Allocation]:
    """The allocation record at `path`, or the one that the platform named; None where it named none.

    Raises TholeError with RecordDamaged or RecordNewer, and OSError.
    """
    path = path or os.environ.get("THOLE_RECORD", "")
    if not path:
        return None
    with open(path, "rb") as file:
        bytes_ = file.read()
    core = _native.core()
    partition = core.service("partition")
    if partition is None:
        return None
    record = _native.sized(_abi.thole_record)
    memory = _native.check_with_room(partition.read_record, core.handle, _native.raw(bytes_), byref(record))
    devices = tuple(
        Device(_native.read(d.uuid), _KINDS.get(d.kind, "unknown"), d.memory_mib, d.share_milli,
               _native.read(d.mig_profile), _BACKENDS.get(d.backend, "unknown"))
        for d in _native.elements(record.devices, _abi.thole_record_device))
    found = Allocation(_native.read(record.node), _native.read(record.role), record.member, record.attempt,
                       record.generation, devices)
    del memory  # the record lay in it
    return found
