"""Encrypted checkpoints of nested dicts, lists and tuples of arrays and plain values.

    checkpoints = Checkpoints("/data/run7", run=uuid, key="/keys/run7", rank=rank, world_size=world_size)
    checkpoints.save(step, {"model": parameters, "optimizer": Rows(moments, first, total), "epoch": 3})
    tree = checkpoints.restore(like=tree)

All ranks call save with the same tree; what each of them holds may differ only in Rows and in JAX arrays that are spread
over the processes. A plain array is taken to be the same on all ranks and is saved by one of them. Nothing is ever
unpickled: what comes back is made of dicts, lists, tuples, arrays, int, float, bool, str, bytes and None.
"""
from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import time
import uuid
from ctypes import byref, sizeof
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

from . import _abi, _arrays, _native, _tree
from ._arrays import Rows
from .errors import TholeError, bad_item

__all__ = ["Checkpoints", "Info", "Rows", "Sealed", "Verified", "new_key"]

Tell = Callable[[Mapping[str, Any]], None]
_KINDS = {"int": _abi.THOLE_ITEM_INT, "float": _abi.THOLE_ITEM_FLOAT, "bool": _abi.THOLE_ITEM_BOOL,
          "str": _abi.THOLE_ITEM_TEXT, "bytes": _abi.THOLE_ITEM_BYTES}
_STATES = {_abi.THOLE_CHECKPOINT_COMMITTED: "committed", _abi.THOLE_CHECKPOINT_INCOMPLETE: "incomplete",
           _abi.THOLE_CHECKPOINT_FENCED: "fenced", _abi.THOLE_CHECKPOINT_DAMAGED: "damaged"}


@dataclass(frozen=True)
class Sealed:
    """What a save has done."""

    step: int
    committed: bool  # the checkpoint is complete
    missing: int  # parts that other ranks have not sealed yet
    bytes: int
    file_bytes: int
    seconds: float


@dataclass(frozen=True)
class Info:
    """A checkpoint of the store."""

    step: int
    attempt: int
    state: str  # committed, incomplete, fenced, damaged
    parts: int
    parts_present: int
    bytes: int
    file_bytes: int
    path: str
    reason: str


@dataclass(frozen=True)
class Verified:
    parts: int
    chunks: int
    bytes: int


def new_key(path: Union[str, "os.PathLike[str]"]) -> None:
    """Writes a new random key into a new file that only its owner can read."""
    core = _native.core()
    _native.check(core.root.core.contents.key_new, core.handle, _native.text(os.fspath(path)))


class Checkpoints:
    """The checkpoints of one run, in one store, as one rank sees them."""

    def __init__(self, folder: Union[str, "os.PathLike[str]"], *, run: Union[str, uuid.UUID],
                 key: Union[str, "os.PathLike[str]", None] = None, key_helper: Optional[Sequence[str]] = None,
                 attempt: int = 1, rank: int = 0, world_size: int = 1, anchor: str = "", keep: int = 0,
                 tell: Optional[Tell] = None) -> None:
        """With `keep` above 0 the rank that commits a checkpoint removes all but the newest so many."""
        if (key is None) == (key_helper is None):
            raise TholeError("THOLE_INVALID", "KeyMissing", "give either a key's path or a key helper's argv")
        if not 0 <= keep < 2**32:
            raise TholeError("THOLE_INVALID", "OverBound", f"keep is {keep}: it is from 0, which keeps all, to 4294967295")
        self.folder, self.run = os.fspath(folder), uuid.UUID(str(run))
        self.attempt, self.rank, self.world_size = attempt, rank, world_size
        self.restored_step: Optional[int] = None
        self._tell: Tell = tell or (lambda message: None)
        self._accepted: Optional[_abi.thole_id] = None
        self._fenced_in = 0  # pid
        self._saved = False
        self._keep = keep
        self._retire_failed = False
        argv = list(key_helper or [os.fspath(key)])  # type: ignore[arg-type]
        self._arguments = (_abi.thole_str * max(1, len(argv) - 1))(*[_native.text(a) for a in argv[1:]])
        self._key = _native.sized(
            _abi.thole_key, kind=_abi.THOLE_KEY_HELPER if key_helper else _abi.THOLE_KEY_FILE, path=_native.text(argv[0]),
            arguments=_abi.thole_list(ctypes.cast(self._arguments, ctypes.c_void_p), len(argv) - 1, sizeof(_abi.thole_str)))
        self._texts = [_native.text(self.folder), _native.text(anchor), self._key.path]
        self._store = _native.sized(
            _abi.thole_store, folder=self._texts[0], anchor=self._texts[1], key=ctypes.pointer(self._key),
            run=_abi.thole_id(self.run.int >> 64, self.run.int & (2**64 - 1)))

    @classmethod
    def from_environment(cls, rank: int, world_size: int, attempt: int, keep: int = 0,
                         tell: Optional[Tell] = None) -> Optional["Checkpoints"]:
        """The store that the platform named, or None."""
        folder = os.environ.get("THOLE_STORE")
        if not folder:
            return None
        helper, key, run = (os.environ.get(name) for name in ("THOLE_KEY_HELPER", "THOLE_KEY", "THOLE_RUN"))
        if not run or not (key or helper):
            raise TholeError("THOLE_INVALID", "KeyMissing",
                             "THOLE_STORE is set: THOLE_RUN, and THOLE_KEY or THOLE_KEY_HELPER, must be set with it")
        return cls(folder, run=run, key=None if helper else key,
                   key_helper=json.loads(helper) if helper else None, attempt=attempt, rank=rank, world_size=world_size,
                   keep=keep, tell=tell)

    # --- Saving. ----------------------------------------------------------------------------------------------------

    def save(self, step: int, tree: Any) -> Sealed:
        """Saves this rank's part of the state after `step` train steps. The rank that seals last commits for all."""
        leaves: dict[str, _arrays.Leaf] = {}
        structure, named = _tree.flatten(tree, lambda name, value: self._describe(name, value, leaves))
        core, api = self._begin_attempt()
        writer = _abi.thole_writer()
        save = _native.sized(_abi.thole_save, attempt=self.attempt, step=step, part=self.rank, parts=self.world_size)
        _native.check(api.begin, core.handle, byref(self._store), byref(save), byref(writer))
        try:
            self._put_value(api, writer, _tree.TREE, "str", structure)
            for number, (name, value) in enumerate(named):
                leaf = leaves.get(name)
                if leaf is None:
                    self._put_value(api, writer, name, _kind_of(value), value)
                elif box := leaf.box(turn=number % self.world_size == self.rank):
                    self._put_tensor(api, writer, name, leaf, box)
            self._tell({"sealing": {"step": step}})
            sealed = _native.sized(_abi.thole_sealed)
            _native.check(api.seal, writer, byref(sealed))
        finally:
            _native.check(api.end, writer)
        self._saved = True
        done = Sealed(step, bool(sealed.committed), sealed.missing, sealed.bytes, sealed.file_bytes, sealed.duration_ns / 1e9)
        self._tell({"checkpoint": {"step": step, "committed": done.committed, "missing": done.missing, "bytes": done.bytes,
                                   "file_bytes": done.file_bytes, "seconds": done.seconds}})
        if done.committed and self._keep > 0:
            self._retire(core, api)
        return done

    def _retire(self, core: _native.Core, api: Any) -> None:
        """Removes what is older than the newest `keep`. What a peer restores is not among it: a checkpoint is committed when
        all ranks of the attempt have sealed their parts, and to do so they must be through with what they began from.
        A checkpoint too many harms nobody, so a failure is said once and ends nothing."""
        try:
            _native.check(api.retire, core.handle, byref(self._store), self._keep, None)
        except TholeError as error:
            if not self._retire_failed:
                print(f"thole: old checkpoints cannot be removed: {error.message}; this is said once", file=sys.stderr, flush=True)
            self._retire_failed = True

    @staticmethod
    def _describe(name: str, value: Any, leaves: dict[str, _arrays.Leaf]) -> Any:
        kind = _kind_of(value)
        if kind:
            _encoded(name, kind, value)
            return {"value": kind}
        leaf = _arrays.tensor_leaf(name, value)
        if leaf is None:
            raise bad_item(f"{name} is a {type(value).__name__}: a checkpoint holds arrays, int, float, bool, str, bytes and "
                           "None in dicts, lists and tuples; turn it into these")
        if len(leaf.shape) > _abi.THOLE_MAX_DIMS:
            raise bad_item(f"{name} has {len(leaf.shape)} dimensions: at most {_abi.THOLE_MAX_DIMS} can be saved")
        leaves[name] = leaf
        return {"tensor": [leaf.dtype, list(leaf.shape)]}

    @staticmethod
    def _put_value(api: Any, writer: Any, name: str, kind: str, value: Any) -> None:
        data = _encoded(name, kind, value)
        given = _native.text(name)
        item = _native.sized(_abi.thole_item, name=given, kind=_KINDS[kind],
                             data=_abi.thole_bytes(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data)))
        _native.check(api.put, writer, byref(item))

    @staticmethod
    def _put_tensor(api: Any, writer: Any, name: str, leaf: _arrays.Leaf, box: _arrays.Box) -> None:
        dims = len(leaf.shape)
        array = ctypes.c_uint64 * max(1, dims)
        given, dtype = _native.text(name), _native.text(leaf.dtype)
        item = _native.sized(
            _abi.thole_item, name=given, dtype=dtype, kind=_abi.THOLE_ITEM_TENSOR, dims=dims,
            shape=array(*leaf.shape), start=array(*((box.first,) + (0,) * (dims - 1) if dims else ())),
            extent=array(*box.shape), data=_abi.thole_bytes(box.address or None, box.size))
        _native.check(api.put, writer, byref(item))

    # --- Restoring. -------------------------------------------------------------------------------------------------

    def restore(self, like: Any = None, *, step: Optional[int] = None) -> Any:
        """The newest checkpoint, or that of `step`; None if there is none.

        Without `like` everything comes back whole, arrays as numpy arrays. With it, the result has the form of `like`:
        writable numpy arrays and torch tensors are filled in place, JAX arrays are made with the sharding of the one
        given, Rows are the rows asked for. A dtype or a shape that differs is refused before anything is changed.

        Newest is what this attempt accepted from those before it, so that all ranks restore the same one; after this
        process has itself saved one, it is the newest there is.
        """
        core, api = self._begin_attempt()
        if step is None:
            if not self._saved and self._accepted is None:
                return None
            which = _which(checkpoint=None if self._saved else self._accepted)
        else:
            which = _which(step)
        reader = _abi.thole_reader()
        _native.check(api.open, core.handle, byref(self._store), byref(which), byref(reader))
        try:
            opened = _Opened(api, reader)
            tree = opened.restore(like)
        finally:
            _native.check(api.close, reader)
        self.restored_step = opened.step
        self._tell({"restored": {"step": opened.step, "bytes": opened.read, "seconds": opened.seconds()}})
        return tree

    # --- Looking. ---------------------------------------------------------------------------------------------------

    def list(self) -> List[Info]:
        """All checkpoints of the run, newest first, also those that cannot be opened."""
        core = _native.core()
        out = _native.sized(_abi.thole_checkpoint_list)
        memory = _native.check_with_room(core.needed("checkpoint").list, core.handle, byref(self._store), byref(out))
        infos = [_info(i) for i in _native.elements(out.checkpoints, _abi.thole_checkpoint_info)]
        del memory
        return infos

    def verify(self, step: Optional[int] = None) -> Verified:
        """Reads every byte of a checkpoint and checks every tag, digest and length."""
        core = _native.core()
        out = _native.sized(_abi.thole_verified)
        which = _which(step)
        _native.check(core.needed("checkpoint").verify, core.handle, byref(self._store), byref(which), byref(out))
        return Verified(out.parts, out.chunks, out.bytes)

    def _begin_attempt(self) -> Tuple[_native.Core, Any]:
        """Publishes the attempt, which the platform may have done before; the answer is the same for all its ranks."""
        core = _native.core()
        api = core.needed("checkpoint")
        if self._fenced_in != os.getpid():
            fenced = _native.sized(_abi.thole_fenced)
            _native.check(api.fence, core.handle, byref(self._store), self.attempt, byref(fenced))
            self._accepted = fenced.checkpoint if fenced.checkpoint.hi or fenced.checkpoint.lo else None
            self._fenced_in = os.getpid()
        return core, api


class _Opened:
    """A checkpoint while it is read."""

    def __init__(self, api: Any, reader: Any) -> None:
        self.api, self.reader, self.read = api, reader, 0
        began = time.monotonic()
        self.seconds: Callable[[], float] = lambda: time.monotonic() - began
        contents = _native.sized(_abi.thole_checkpoint_contents)
        memory = _native.check_with_room(api.describe, reader, byref(contents))
        self.step = contents.info.contents.step
        self.values: dict[str, bytes] = {}
        self.tensors: dict[str, Tuple[str, _arrays.Shape]] = {}
        for item in _native.elements(contents.items, _abi.thole_item):
            name = _native.read(item.name)
            if item.kind == _abi.THOLE_ITEM_TENSOR:
                self.tensors[name] = (_native.read(item.dtype), tuple(item.shape[i] for i in range(item.dims)))
            else:
                self.values[name] = ctypes.string_at(item.data.data, item.data.len) if item.data.len else b""
        del memory

    def restore(self, like: Any) -> Any:
        if _tree.TREE not in self.values:
            raise bad_item("the checkpoint was not saved by this package: read its tensors by name through the C interface")
        node = _tree.parse(self.values[_tree.TREE].decode("utf-8"))
        if like is None:
            return _tree.build(node, "", self._whole)
        # The first walk only compares, so that a refusal leaves every array as it was.
        _tree.rebuild(node, like, "", self._compare, lambda name, saved: None)
        return _tree.rebuild(node, like, "", self._fill, self._whole)

    def _get(self, name: str) -> _arrays.Get:
        given = _native.text(name)

        def get(first: int, rows: int, address: int, size: int) -> None:
            dims = len(self.tensors[name][1])
            array = ctypes.c_uint64 * max(1, dims)
            box = _native.sized(_abi.thole_box, name=given, to=address, size=size)
            if dims:
                box.dims, box.start = dims, array(first)
                box.extent = array(rows, *self.tensors[name][1][1:])
            _native.check(self.api.get, self.reader, byref(box))
            self.read += size

        return get

    def _tensor(self, name: str, saved: Any) -> Tuple[str, _arrays.Shape]:
        dtype, shape = saved["tensor"]
        if self.tensors.get(name) != (dtype, tuple(shape)):
            raise TholeError("THOLE_DATA_LOSS", "CheckpointDamaged",
                             f"{name} is {self.tensors.get(name)} in the checkpoint, and {dtype} {shape} in its tree")
        return dtype, tuple(shape)

    def _whole(self, name: str, saved: Any) -> Any:
        if "value" in saved:
            return _decoded(name, saved["value"], self.values[name])
        return _arrays.whole_array(self._get(name), *self._tensor(name, saved))

    def _compare(self, name: str, saved: Any, like: Any) -> None:
        kind = _kind_of(like)
        if "value" in saved:
            if kind != saved["value"]:
                raise bad_item(f"{name} is a {saved['value']} in the checkpoint and {kind or type(like).__name__} here")
            return
        dtype, shape = self._tensor(name, saved)
        leaf = None if kind else _arrays.tensor_leaf(name, like)
        if leaf is None:
            raise bad_item(f"{name} is an array in the checkpoint and {type(like).__name__} here")
        if leaf.dtype != dtype:
            raise bad_item(f"{name} is {dtype} in the checkpoint and {leaf.dtype} here: restore it as it was saved, then convert it")
        if leaf.shape != shape:
            raise bad_item(f"{name} has the shape {shape} in the checkpoint and {leaf.shape} here")

    def _fill(self, name: str, saved: Any, like: Any) -> Any:
        if "value" in saved:
            return _decoded(name, saved["value"], self.values[name])
        leaf = _arrays.tensor_leaf(name, like)
        assert leaf is not None
        return leaf.restore(self._get(name))


def _which(step: Optional[int] = None, checkpoint: Optional[_abi.thole_id] = None) -> Any:
    if checkpoint is not None:
        return _native.sized(_abi.thole_which, by=_abi.THOLE_BY_ID, checkpoint=checkpoint)
    if step is not None:
        return _native.sized(_abi.thole_which, by=_abi.THOLE_BY_STEP, step=step)
    return _native.sized(_abi.thole_which, by=_abi.THOLE_BY_NEWEST)


def _kind_of(value: Any) -> str:
    """The kind of a leaf that is no array; "" if it may be one."""
    if isinstance(value, (bytearray, memoryview)):
        return "bytes"
    return type(value).__name__ if type(value) in (bool, int, float, str, bytes) else ""


def _encoded(name: str, kind: str, value: Any) -> bytes:
    try:
        encoders: Mapping[str, Callable[[], bytes]] = {
            "int": lambda: struct.pack("<q", value), "float": lambda: struct.pack("<d", value), "bool": lambda: struct.pack("<?", value),
            "str": lambda: value.encode("utf-8"), "bytes": lambda: bytes(value)}
        data = encoders[kind]()
    except struct.error:
        raise bad_item(f"{name} is an int of more than 64 bits: save it as str") from None
    except UnicodeEncodeError:
        raise bad_item(f"{name} is a text with surrogates, which UTF-8 does not have: save it as bytes") from None
    if len(data) > _abi.THOLE_MAX_VALUE:
        raise bad_item(f"{name} has {len(data)} bytes: values have at most {_abi.THOLE_MAX_VALUE}; save it as an array of uint8")
    return data


def _decoded(name: str, kind: str, data: bytes) -> Any:
    if kind == "str":
        return data.decode("utf-8")
    if kind == "bytes":
        return data
    return struct.unpack({"int": "<q", "float": "<d", "bool": "<?"}[kind], data)[0]


def _info(item: Any) -> Info:
    return Info(item.step, item.attempt, _STATES.get(item.state, "damaged"), item.parts, item.parts_present, item.bytes,
                item.file_bytes, _native.read(item.path), _native.read(item.reason))
