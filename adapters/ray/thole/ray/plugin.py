"""The runtime-environment plugin: what a worker of a vGPU finds before its first line runs.

Ray's agent of the node runs it (RAY_RUNTIME_ENV_PLUGINS, which `thole ray start` sets on every node). It writes the
allocation record, which the worker can only read, and sets the environment with which the process is started. Each vGPU
has a runtime_env of its own, and Ray gives a worker only to tasks with an equal one: that is why no worker is ever used
for a second vGPU.
"""
from __future__ import annotations

import logging
import os
import uuid
from ctypes import byref
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ray._private.runtime_env.plugin import RuntimeEnvPlugin

from thole import _abi, _native

from .ledger import Placement, id_of, placement_struct

FIELD = "thole"
RECORDS = "THOLE_RAY_RECORDS"  # folder of the node's records


def records_folder() -> Path:
    return Path(os.environ.get(RECORDS) or f"/tmp/thole-{os.getuid()}/ray-records")


def assignment(gang: str, attempt: int, role: str, node: str, placement: Placement) -> Tuple[bytes, Dict[str, str]]:
    """The record's bytes and the environment that go with a placement, as the core makes them."""
    core = _native.core()
    from dataclasses import replace

    where = placement_struct(replace(placement, node=node))
    import ctypes

    member = _native.sized(_abi.thole_member, gang=id_of(gang), attempt=attempt, generation=1, role=_native.text(role),
                           placement=ctypes.pointer(where))
    out = _native.sized(_abi.thole_assignment)
    memory = _native.check_with_room(core.needed("partition").assign, core.handle, byref(member), byref(out))
    record = _native.read(out.record).encode()
    pairs = [_native.read(e).split("=", 1) for e in _native.elements(out.environment, _abi.thole_str)]
    del memory
    return record, {name: value for name, value in pairs}


def write_record(path: Path, record: bytes) -> None:
    """At once, and readable only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(record)
    os.replace(new, path)


class TholePlugin(RuntimeEnvPlugin):
    name = FIELD

    @staticmethod
    def validate(runtime_env: Mapping[str, Any]) -> None:
        given = runtime_env.get(FIELD)
        wanted = {"gang", "attempt", "role", "node", "placement"}
        if given is not None and (not isinstance(given, Mapping) or set(given) != wanted):
            raise ValueError(f"runtime_env[{FIELD!r}] is made by thole.ray.gang and thole.ray.vgpu, not by hand")

    def get_uris(self, runtime_env: Mapping[str, Any]) -> List[str]:
        given = runtime_env.get(FIELD)
        return [f"{FIELD}://{given['gang']}-{given['placement']['first_rank']}"] if given else []

    @staticmethod
    def _path(uri: str) -> Path:
        return records_folder() / uri.rsplit("/", 1)[1]

    async def create(self, uri: Optional[str], runtime_env: Mapping[str, Any], context: Any, logger: logging.Logger) -> float:
        if uri is None:
            return 0
        given = runtime_env[FIELD]
        record, _ = assignment(given["gang"], given["attempt"], given["role"], given["node"],
                               Placement.from_json(given["placement"]))
        write_record(self._path(uri), record)
        return len(record)

    def modify_context(self, uris: List[str], runtime_env: Mapping[str, Any], context: Any, logger: logging.Logger) -> None:
        given = runtime_env.get(FIELD)
        if not given or not uris:
            return
        path = self._path(uris[0])
        record, environment = assignment(given["gang"], given["attempt"], given["role"], given["node"],
                                         Placement.from_json(given["placement"]))
        if not path.exists():
            write_record(path, record)
        context.env_vars.update(environment)
        context.env_vars["THOLE_RECORD"] = str(path)
        # Ray sets CUDA_VISIBLE_DEVICES itself for whom it gives GPUs of its own: here it must not.
        context.env_vars["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

    def delete_uri(self, uri: str, logger: logging.Logger) -> float:
        path = self._path(uri)
        try:
            size = path.stat().st_size
            path.unlink()
            return float(size)
        except OSError:
            return 0
