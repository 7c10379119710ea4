"""Arrays of numpy, JAX, torch and whatever speaks DLPack: where their memory is, and how to fill them again.

None of these libraries is imported here unless the tree holds an array of it. Memory that is contiguous and on the host
is handed to the core as it is; everything else is copied, one array at a time, when its turn comes.
"""
from __future__ import annotations

import math
import sys
from typing import Any, Callable, NamedTuple, Optional, Tuple

from .errors import bad_item

ITEM_SIZE = {
    "bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3b11fnuz": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
}
_NUMPY_HAS = frozenset(n for n in ITEM_SIZE if not n.startswith(("bfloat", "float8")))
_DLPACK_HOST = (1, 3)  # kDLCPU, kDLCUDAHost

Shape = Tuple[int, ...]
# get(first row, rows, address, bytes): reads rows of the leaf's tensor.
Get = Callable[[int, int, int, int], None]


class Box(NamedTuple):
    """Rows of a tensor that this rank saves, as they lie in memory. `keep` owns the memory."""

    first: int
    shape: Shape
    address: int
    size: int
    keep: Any


class Rows:
    """This rank's rows of a tensor that is cut along its outermost dimension over the ranks.

    `array` holds rows first .. first + len(array) of a tensor that has `total` rows. The ranks' rows together must be
    the whole tensor, once. With restore(like=...) any rows can be asked for, whoever saved them.
    """

    def __init__(self, array: Any, first: int, total: int) -> None:
        shape = tuple(int(n) for n in array.shape)
        if not shape:
            raise bad_item("a 0-d array has no rows: save it as it is")
        if not 0 <= first <= first + shape[0] <= total:
            raise bad_item(f"rows {first} .. {first + shape[0]} do not lie in a tensor of {total} rows")
        self.array, self.first, self.total = array, int(first), int(total)

    def __repr__(self) -> str:
        return f"Rows({self.first}..{self.first + len(self.array)} of {self.total})"


def numpy_dtype(name: str) -> Any:
    import numpy

    if name in _NUMPY_HAS:
        return numpy.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise bad_item(f"numpy has no {name} by itself: pip install ml_dtypes, or restore into torch tensors") from None
    return numpy.dtype(getattr(ml_dtypes, name))


def row_size(dtype: str, shape: Shape) -> int:
    return ITEM_SIZE[dtype] * math.prod(shape[1:])


class Leaf:
    """A tensor of the tree: its dtype, its global shape, what this rank saves of it, how it is restored."""

    dtype: str
    shape: Shape

    def box(self, turn: bool) -> Optional[Box]:
        """What this rank saves. Of a tensor that all ranks hold, only the one whose turn it is saves it."""
        raise NotImplementedError

    def restore(self, get: Get) -> Any:
        raise NotImplementedError


def _supported(name: str, dtype: str) -> str:
    if dtype not in ITEM_SIZE:
        what = "holds Python objects" if dtype == "object" else f"has dtype {dtype}"
        raise bad_item(f"{name} {what}, which a checkpoint does not hold: use numbers, or str and bytes as leaves of their own")
    return dtype


def _read_rows(get: Get, dtype: str, shape: Shape, first: int, rows: int) -> Any:
    """Rows of a tensor as a new numpy array."""
    import numpy

    array = numpy.empty((rows,) + shape[1:] if shape else (), numpy_dtype(dtype))
    if array.nbytes:
        get(first, rows, array.ctypes.data, array.nbytes)
    return array


def whole_array(get: Get, dtype: str, shape: Shape) -> Any:
    return _read_rows(get, dtype, shape, 0, shape[0] if shape else 1)


class _Host(Leaf):
    """A numpy array, or what can be seen as one."""

    def __init__(self, name: str, original: Any, array: Any) -> None:
        self.original, self.array = original, array
        self.dtype = _supported(name, array.dtype.name)
        self.shape = tuple(array.shape)

    def box(self, turn: bool) -> Optional[Box]:
        return _box_of(self.array) if turn else None

    def restore(self, get: Get) -> Any:
        import numpy

        into = self.original
        if type(into) is numpy.ndarray and into.flags.writeable and into.flags.c_contiguous and into.dtype.isnative:
            if into.nbytes:
                get(0, into.shape[0] if into.shape else 1, into.ctypes.data, into.nbytes)
            return into
        fresh = whole_array(get, self.dtype, self.shape)
        if isinstance(into, numpy.generic):
            return fresh[()]
        if isinstance(into, numpy.ndarray) and into.flags.writeable:
            into[...] = fresh
            return into
        return fresh


def _box_of(array: Any, first: int = 0) -> Box:
    import numpy

    plain = numpy.require(array, array.dtype.newbyteorder("<"), ["C"])
    if plain.ndim != array.ndim:  # numpy makes a 0-d array one of 1 dimension
        plain = plain.reshape(array.shape)
    return Box(first, tuple(plain.shape), plain.ctypes.data, plain.nbytes, plain)


class _JaxLocal(_Host):
    """A JAX array whose memory is all this process's."""

    def __init__(self, name: str, array: Any) -> None:
        self.original, self.dtype, self.shape = array, _supported(name, str(array.dtype)), tuple(array.shape)

    @property
    def array(self) -> Any:  # type: ignore[override]
        import numpy

        return numpy.asarray(self.original)

    def restore(self, get: Get) -> Any:
        import jax

        fresh = whole_array(get, self.dtype, self.shape)
        if not getattr(self.original, "committed", True):
            return jax.numpy.asarray(fresh)
        return jax.device_put(fresh, self.original.sharding)


class _JaxGlobal(Leaf):
    """A JAX array that is spread over the processes: its sharding says who holds what."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array
        self.dtype, self.shape = _supported(name, str(array.dtype)), tuple(array.shape)

    def _bounds(self, index: Any) -> Tuple[int, int]:
        if not self.shape:
            return 0, 1
        first, last, _ = index[0].indices(self.shape[0])
        return first, last

    def box(self, turn: bool) -> Optional[Box]:
        import numpy

        shards = self.array.addressable_shards
        if self.array.is_fully_replicated:
            return _box_of(numpy.asarray(shards[0].data)) if turn else None
        # Of equal copies, exactly one in all processes has the replica number 0.
        mine = sorted((s for s in shards if s.replica_id == 0), key=lambda s: self._bounds(s.index))
        if not mine:
            return None
        for shard in mine:
            if tuple(shard.data.shape[1:]) != self.shape[1:]:
                raise bad_item(f"{self.name} is cut along an inner dimension: checkpoints hold tensors that are cut along "
                               "the outermost one; move that axis to the front, or replicate it before the save")
        for one, other in zip(mine, mine[1:]):
            if self._bounds(one.index)[1] != self._bounds(other.index)[0]:
                raise bad_item(f"this process's rows of {self.name} do not lie together: order the mesh by process")
        parts = [numpy.asarray(s.data) for s in mine]
        return _box_of(parts[0] if len(parts) == 1 else numpy.concatenate(parts), self._bounds(mine[0].index)[0])

    def restore(self, get: Get) -> Any:
        import jax

        def rows_of(index: Any) -> Any:
            first, last = self._bounds(index)
            return _read_rows(get, self.dtype, self.shape, first, last - first)[(slice(None),) + tuple(index[1:]) if index else ()]

        return jax.make_array_from_callback(self.shape, self.array.sharding, rows_of)


class _Torch(Leaf):
    """A torch tensor, on the host or on a device. It is restored in place."""

    def __init__(self, name: str, tensor: Any) -> None:
        import torch

        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise bad_item(f"{name} is a sparse or quantized tensor: save its parts as tensors of their own")
        if type(tensor).__module__.startswith("torch.distributed"):
            raise bad_item(f"{name} is a {type(tensor).__name__}: save Rows(tensor.to_local(), first, total)")
        self.original, self.tensor = tensor, tensor.detach()
        self.dtype = _supported(name, str(tensor.dtype).split(".")[-1])
        self.shape = tuple(int(n) for n in tensor.shape)

    def box(self, turn: bool) -> Optional[Box]:
        if not turn:
            return None
        plain = self.tensor.resolve_conj().resolve_neg().cpu().contiguous()
        return Box(0, self.shape, plain.data_ptr(), plain.numel() * plain.element_size(), plain)

    def restore(self, get: Get) -> Any:
        import torch

        in_place = self.tensor.device.type == "cpu" and self.tensor.is_contiguous() and not self.tensor.is_conj()
        plain = self.tensor if in_place else torch.empty(self.shape, dtype=self.tensor.dtype)
        if plain.numel():
            get(0, self.shape[0] if self.shape else 1, plain.data_ptr(), plain.numel() * plain.element_size())
        if not in_place:
            self.tensor.copy_(plain)
        return self.original


class _Cut(Leaf):
    """Rows: the leaf of its array, moved to where it lies in the whole tensor."""

    def __init__(self, name: str, rows: Rows) -> None:
        inner = tensor_leaf(name, rows.array)
        if inner is None or isinstance(inner, (_JaxGlobal, _Cut)):
            raise bad_item(f"{name} is Rows of a {type(rows.array).__name__}: give this process's own rows as an array")
        self.rows, self.inner, self.dtype = rows, inner, inner.dtype
        self.shape = (rows.total,) + inner.shape[1:]

    def box(self, turn: bool) -> Optional[Box]:
        if not math.prod(self.shape):  # nothing to cut: one rank says that it is there
            return Box(0, self.shape, 0, 0, None) if turn else None
        box = self.inner.box(True)
        assert box is not None
        return box._replace(first=self.rows.first) if box.size else None

    def restore(self, get: Get) -> Any:
        def moved(first: int, rows: int, address: int, size: int) -> None:
            get(self.rows.first + first, rows, address, size)

        return Rows(self.inner.restore(moved), self.rows.first, self.rows.total)


def tensor_leaf(name: str, value: Any) -> Optional[Leaf]:
    """The leaf of an array; None if it is no array."""
    if isinstance(value, Rows):
        return _Cut(name, value)
    torch, jax, numpy = (sys.modules.get(m) for m in ("torch", "jax", "numpy"))
    if torch is not None and isinstance(value, torch.Tensor):
        return _Torch(name, value)
    if jax is not None and isinstance(value, jax.Array):
        if isinstance(value, jax.core.Tracer):
            raise bad_item(f"{name} is being traced by JAX: save outside of jit")
        return _JaxLocal(name, value) if value.is_fully_addressable else _JaxGlobal(name, value)
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        if isinstance(value, numpy.ma.MaskedArray):
            raise bad_item(f"{name} is a masked array: save its data and its mask as two arrays")
        return _Host(name, value, numpy.asarray(value))
    if hasattr(value, "__dlpack__"):
        import numpy as np

        if value.__dlpack_device__()[0] not in _DLPACK_HOST:
            raise bad_item(f"{name} is a {type(value).__name__} on a device: copy it to the host, or give it as a JAX or torch array")
        return _Host(name, value, np.from_dlpack(value))
    return None
