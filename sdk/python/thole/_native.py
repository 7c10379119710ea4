"""Finds libthole.so.0, opens one core for the process, and turns codes into exceptions."""
from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import POINTER, byref, sizeof
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

from . import _abi
from .errors import TholeError

T = TypeVar("T")
_SONAME = "libthole.so.0"


def text(value: str) -> _abi.thole_str:
    """A thole_str; the bytes live as long as the struct does."""
    return raw(value.encode("utf-8"))


def raw(value: bytes) -> _abi.thole_str:
    out = _abi.thole_str(ctypes.cast(ctypes.c_char_p(value), ctypes.c_void_p), len(value))
    out.keep = value
    return out


def read(value: _abi.thole_str) -> str:
    return ctypes.string_at(value.data, value.len).decode("utf-8") if value.len else ""


def elements(items: _abi.thole_list, struct: type) -> list[Any]:
    """The elements of a list, each as its struct; they lie where the list lies."""
    return [struct.from_address(items.data + i * items.stride) for i in range(items.count)]  # type: ignore[attr-defined]


def sized(struct: type, **fields: Any) -> Any:
    return struct(struct_size=sizeof(struct), **fields)


def check(slot: Callable[..., int], *arguments: Any) -> None:
    """Calls a slot and raises what it answers."""
    status = sized(_abi.thole_status)
    code = slot(*arguments, byref(status))
    if code != _abi.THOLE_OK:
        raise TholeError(_abi.CODES.get(code, f"THOLE_{code}"), status.reason.decode(), status.message.decode(),
                         status.os_errno)


def check_with_room(slot: Callable[..., int], *arguments: Any) -> Any:
    """Calls a slot that lays its answer out in a buffer, and lends it as much as it needs. Returns the memory, which
    must be kept for as long as the answer is read."""
    size = 4096
    while True:
        memory = (ctypes.c_uint64 * (size // 8 + 1))()
        room = _abi.thole_buffer(ctypes.cast(memory, ctypes.c_void_p), sizeof(memory), 0)
        try:
            check(slot, *arguments, byref(room))
            return memory
        except TholeError as error:
            if error.code != "THOLE_TOO_SMALL" or room.used <= size:
                raise
            size = room.used


class Core:
    """One open core. Its services are None where this build of the library does not have them."""

    def __init__(self, root: _abi.thole_root, metrics: str) -> None:
        self.root = root
        self.version = read(root.version)
        self.metrics_path = metrics
        self.handle = _abi.thole_core()
        options = sized(_abi.thole_core_options, metrics=text(metrics))
        check(root.core.contents.open, byref(options), byref(self.handle))

    def service(self, name: str) -> Optional[Any]:
        table = getattr(self.root, name)
        return table.contents if table else None

    def needed(self, name: str) -> Any:
        table = self.service(name)
        if table is None:
            raise TholeError("THOLE_UNSUPPORTED", "ServiceMissing",
                             f"libthole {self.version} was built without the {name} service: use a build that has it")
        return table

    def close(self) -> None:
        check(self.root.core.contents.close, self.handle)


_lock = threading.Lock()
_core: Optional[Core] = None
_forked = False


def _candidates() -> list[str]:
    named = os.environ.get("THOLE_LIBRARY")
    return [named] if named else [str(Path(__file__).with_name(_SONAME)), _SONAME]


def _load() -> _abi.thole_root:
    said = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            symbol = ctypes.cast(getattr(library, _abi.THOLE_ENTRY_SYMBOL), ctypes.c_void_p).value
        except (OSError, AttributeError) as error:
            said.append(str(error))
            continue
        assert symbol is not None  # a name that is there has an address
        status = sized(_abi.thole_status)
        root = _abi.thole_entry_v1_fn(symbol)(_abi.THOLE_ABI_MAJOR, _abi.THOLE_ABI_MINOR, byref(status))
        if not root:
            raise TholeError("THOLE_UNSUPPORTED", status.reason.decode(), f"{path}: {status.message.decode()}")
        if (root.contents.abi_major, root.contents.abi_minor) != (_abi.THOLE_ABI_MAJOR, _abi.THOLE_ABI_MINOR):
            have, want = f"{root.contents.abi_major}.{root.contents.abi_minor}", f"{_abi.THOLE_ABI_MAJOR}.{_abi.THOLE_ABI_MINOR}"
            raise TholeError("THOLE_UNSUPPORTED", "AbiUnsupported",
                             f"{path} has the contract {have}, this package {want}: install both from the same version")
        return root.contents
    raise TholeError("THOLE_NOT_FOUND", "LibraryMissing",
                     f"{_SONAME} is not to be found: install it, or say in THOLE_LIBRARY where it is ({'; '.join(said)})")


def core() -> Core:
    """The process's core, opened on first use. A forked child gets its own, without the parent's metrics file."""
    global _core
    with _lock:
        if _core is None:
            _core = _open(_load(), "" if _forked else os.environ.get("THOLE_METRICS", ""))
        return _core


def _open(root: _abi.thole_root, metrics: str) -> Core:
    """A process that cannot have the metrics file, such as a program that a rank has started, counts in memory only."""
    try:
        return Core(root, metrics)
    except TholeError as error:
        if not metrics or not error.reason.startswith("Metrics"):
            raise
        print(f"thole: what this process counts stays in it: {error}", file=sys.stderr, flush=True)
        return Core(root, "")


def _after_fork_in_child() -> None:
    # The parent's core answers THOLE_FORKED here: it is left alone, and the lock may have been held.
    global _core, _lock, _forked
    _core, _lock, _forked = None, threading.Lock(), True


os.register_at_fork(after_in_child=_after_fork_in_child)
