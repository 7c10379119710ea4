"""Job and pool files, read by the core; and requests that have no file, made into one and read by the core as well.

So a bad unit, a share above 1 or a misspelt field gets the same reason and sentence as on every other platform.
"""
from __future__ import annotations

import json
import re
import uuid
from ctypes import byref
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from thole import _abi, _native
from thole.errors import TholeError

from .errors import refused

API_VERSION = "thole.dev/v1alpha1"
MODEL = "thole.dev/vgpu-model-"


@dataclass(frozen=True)
class Note:
    line: int
    column: int
    field: str
    reason: str
    message: str
    error: bool


@dataclass(frozen=True)
class Document:
    """A file that was found good, in canonical form."""

    kind: str
    name: str
    text: str
    notes: Tuple[Note, ...]

    @property
    def spec(self) -> Dict[str, Any]:
        return json.loads(self.text)["spec"]  # type: ignore[no-any-return]


def read(text: str, kind: str = "") -> Document:
    """Reads a file for Ray. Raises TholeError with the first error; all of them are in its `notes`."""
    core = _native.core()
    api = core.needed("job")
    out = _native.sized(_abi.thole_document)
    given, platform = _native.text(text), _native.text("ray")
    problem: Optional[TholeError] = None
    try:
        memory = _native.check_with_room(api.read, core.handle, given, platform, byref(out))
    except TholeError as error:
        problem, memory = error, None
    if problem is not None:
        raise problem
    notes = tuple(Note(n.line, n.column, _native.read(n.field), _native.read(n.reason), _native.read(n.message), bool(n.error))
                  for n in _native.elements(out.notes, _abi.thole_note))
    found = Document(_native.read(out.kind), _native.read(out.name), _native.read(out.json), notes)
    del memory
    if kind and found.kind != kind:
        raise refused("FieldBad", f"this is a {found.kind}: a {kind} is wanted here")
    return found


class Request:
    """A gang request of the core, with the memory that it lies in."""

    def __init__(self, job: str, gang: str) -> None:
        core = _native.core()
        self.gang, self.job = gang, job
        self.struct = _native.sized(_abi.thole_gang_request)
        number = uuid.UUID(gang).int
        self._text = _native.text(job)
        self._room = _native.check_with_room(core.needed("job").gang, core.handle, self._text,
                                             _abi.thole_id(number >> 64, number & (2**64 - 1)), byref(self.struct))
        for role in _native.elements(self.struct.roles, _abi.thole_role):
            if role.device_kind == _abi.THOLE_KIND_MIG:
                raise TholeError("THOLE_UNSUPPORTED", "MigInstanceMissing",
                                 "MIG instances are not placed on Ray yet: ask for gpus or a vgpu")
        self._only_models(job)

    def roles(self) -> List[Tuple[str, int, int]]:
        """(name, cpu in thousandths, memory in MiB) of each role's members."""
        return [(_native.read(r.name), r.cpu_milli, r.memory_mib)
                for r in _native.elements(self.struct.roles, _abi.thole_role)]

    def _only_models(self, job: str) -> None:
        """Models, as nodes' labels say them: of whole GPUs out of the file, of vGPUs out of the annotations that job_of made."""
        annotations = json.loads(job)["metadata"].get("annotations", {})
        self._models = []
        for i, role in enumerate(_native.elements(self.struct.roles, _abi.thole_role)):
            model = _native.read(role.gpu_model) or annotations.get(f"{MODEL}{i}", "")
            if model:
                self._models.append(_native.text(label_value(model)))
                role.gpu_model = self._models[-1]


def label_value(text: str) -> str:
    """As labels allow it: "NVIDIA H200" is "NVIDIA-H200"."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:63] or "unknown"


def job_of(name: str, roles: Sequence[Mapping[str, Any]], topology: Sequence[Mapping[str, str]] = (),
           models: Sequence[str] = ()) -> str:
    """The canonical job of a gang that was asked for in Python; what it runs is nobody's business here. `models`: the only
    model on which a role's vGPUs may lie, or nothing."""
    spec: Dict[str, Any] = {"roles": [{**role, "command": ["python"]} for role in roles]}
    if topology:
        spec["topology"] = [dict(t) for t in topology]
    document: Dict[str, Any] = {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}
    if any(models):
        document["metadata"] = {"name": name, "annotations": {f"{MODEL}{i}": m for i, m in enumerate(models) if m}}
    return read(json.dumps(document), "TrainingJob").text


def nodes_of(pool: str, node: str = "", gpus: Optional[Any] = None) -> Tuple[List[str], List[Any], Any]:
    """(levels, thole_node structs, the memory that they lie in) of a canonical pool."""
    core = _native.core()
    levels, nodes = _abi.thole_list(), _abi.thole_list()
    have = gpus if gpus is not None else _abi.thole_list()
    text, name = _native.text(pool), _native.text(node)
    memory = _native.check_with_room(core.needed("job").nodes, core.handle, text, name, byref(have), byref(levels), byref(nodes))
    return ([_native.read(level) for level in _native.elements(levels, _abi.thole_str)],
            _native.elements(nodes, _abi.thole_node), (memory, text, name, have))


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """Of a duration in canonical form."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration)
    if not found:
        raise refused("FieldBad", f"{duration!r} is no duration in canonical form")
    return int(found.group(1)) * _UNITS[found.group(2)]


def new_id() -> str:
    return str(uuid.uuid4())


__all__ = ["Document", "Note", "Request", "job_of", "new_id", "nodes_of", "read", "seconds"]
