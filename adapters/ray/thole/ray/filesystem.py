"""A filesystem for Ray Train that encrypts every file: pyarrow's handler over the checkpoint service.

    RunConfig(storage_path="runs", storage_filesystem=thole.ray.checkpoint_filesystem("/data/train", key="/keys/train.key"))

A file is one checkpoint of the core, in a folder NAME.thole: its bytes go through the cipher as they come, it is there when
it was sealed and not before, and its run id is made of its path, so that a file put in another's place does not open. A stream
that is closed seals it; one that is forgotten, or closed because of an exception, leaves what was there before. Names and sizes
of files are not hidden. The key is a path or a helper's argv: that, and nothing secret, is what is pickled.
"""
from __future__ import annotations

import ctypes
import io
import os
import shutil
import sys
import uuid
import warnings
from contextlib import suppress
from ctypes import byref
from typing import Any, List, Optional, Sequence, Tuple

import pyarrow as pa
from pyarrow import fs

from thole import _abi, _native
from thole.checkpoint import Checkpoints
from thole.errors import TholeError

from . import fence as fences
from .errors import refused

SUFFIX = ".thole"
SEGMENT = 8 << 20
_TRIES = 20
_BEGUN_MEANWHILE = ("AttemptFenced", "CheckpointDamaged", "CheckpointNone", "PartExists", "StepPast", "StoreGone")
_NAMESPACE = uuid.UUID("6d1f3c3e-7b57-5d0a-9a3c-74686f6c6500")

# Python's own way to make bytes that are filled afterwards; prototypes of our own, since those of pythonapi are everybody's.
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(("PyBytes_FromStringAndSize", ctypes.pythonapi))
_address_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


def checkpoint_filesystem(folder: str, *, key: Optional[str] = None, key_helper: Optional[Sequence[str]] = None) -> fs.FileSystem:
    """A pyarrow filesystem whose files lie encrypted below `folder`. Give either a key file or a key helper."""
    return fs.PyFileSystem(EncryptedFiles(os.path.abspath(folder), os.path.abspath(key) if key else None, tuple(key_helper) if key_helper else None))


def newest(store: Checkpoints) -> Tuple[int, int]:
    """Step and attempt of the newest part of a file, sealed or not; the file need not be there."""
    infos = store.list() if os.path.isdir(store.folder) else []
    return max((i.step for i in infos), default=0), max((i.attempt for i in infos), default=0)


class EncryptedFiles(fs.FileSystemHandler):  # type: ignore[misc]
    def __init__(self, folder: str, key: Optional[str], key_helper: Optional[Tuple[str, ...]]) -> None:
        if (key is None) == (key_helper is None):
            raise TholeError("THOLE_INVALID", "KeyMissing", "give either a key's path or a key helper's argv")
        self.folder, self.key, self.key_helper = folder, key, key_helper

    def __reduce__(self) -> Tuple[Any, ...]:
        return EncryptedFiles, (self.folder, self.key, self.key_helper)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncryptedFiles) and self.__reduce__() == other.__reduce__()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.folder, self.key, self.key_helper))

    # --- Names. -------------------------------------------------------------------------------------------------------

    def get_type_name(self) -> str:
        return "thole"

    def normalize_path(self, path: str) -> str:
        return "/".join(self._parts(path))

    @staticmethod
    def _parts(path: str) -> List[str]:
        parts = [p for p in path.split("/") if p not in ("", ".")]
        for part in parts:
            if part == ".." or part.endswith(SUFFIX) or "\0" in part:
                raise refused("NameBad", f"{path!r}: a name may not be '..' nor end in {SUFFIX!r}")
        return parts

    def _directory(self, path: str) -> str:
        return os.path.join(self.folder, *self._parts(path))

    def _file(self, path: str) -> str:
        parts = self._parts(path)
        if not parts:
            raise IsADirectoryError(21, "the root is a directory", path)
        return os.path.join(self.folder, *parts) + SUFFIX

    def store(self, path: str) -> Checkpoints:
        name = "/".join(self._parts(path))
        return Checkpoints(self._file(path), run=uuid.uuid5(_NAMESPACE, name), key=self.key,
                           key_helper=list(self.key_helper) if self.key_helper else None)

    # --- Attempts of a run, of which only the last one changes its files. -----------------------------------------------

    def begin_attempt(self, folder: str) -> str:
        """The token of a new attempt of the run in that folder, for `fence.guard`. From here on the older ones are refused."""
        path, token = f"{folder}/{fences.NAME}", uuid.uuid4().hex
        for left in reversed(range(_TRIES)):
            try:
                with _Writer(self, path, asks=False) as writer:
                    writer.write(token.encode())
                return token
            except TholeError as error:
                # Another one may begin at the same time: the last to write it has the run. What is damaged is of no more use.
                if error.reason not in _BEGUN_MEANWHILE or not left:
                    raise
                if error.reason == "CheckpointDamaged":
                    shutil.rmtree(self._file(path), ignore_errors=True)
        raise AssertionError("not reached")

    def check_fence(self, path: str, whole: bool = False) -> bool:
        """Whether this process is a worker of the run to which the path belongs. Refused where a newer attempt has begun."""
        fence = fences.fence_of(self.folder, self.normalize_path(path), whole)
        if fence is None:
            return False
        try:
            reader = _Reader(self, f"{fence.folder}/{fences.NAME}")
            try:
                token = reader.read().decode()
            finally:
                reader.close()
        except FileNotFoundError:
            token = ""
        if token != fence.token:
            raise TholeError("THOLE_FENCED", "AttemptFenced", f"{fence.folder}: a newer attempt of the run has begun, or its folder was removed: end "
                             "this process, its work is being redone")
        return True

    # --- What is there. -----------------------------------------------------------------------------------------------

    def get_file_info(self, paths: Sequence[str]) -> List[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        parts = self._parts(path)
        if not parts or os.path.isdir(self._directory(path)):
            return fs.FileInfo(path, fs.FileType.Directory)
        try:
            reader = _Reader(self, path)
        except FileNotFoundError:
            return fs.FileInfo(path, fs.FileType.NotFound)
        try:
            return fs.FileInfo(path, fs.FileType.File, size=reader.length, mtime_ns=reader.committed)
        finally:
            reader.close()

    def get_file_info_selector(self, selector: fs.FileSelector) -> List[fs.FileInfo]:
        base = self.normalize_path(selector.base_dir)
        if not os.path.isdir(self._directory(base)):
            if selector.allow_not_found:
                return []
            raise FileNotFoundError(2, "no such directory", selector.base_dir)
        found: List[fs.FileInfo] = []
        for name in sorted(os.listdir(self._directory(base))):
            path = f"{base}/{name}" if base else name
            if name.endswith(SUFFIX):
                info = self._info(path[: -len(SUFFIX)])
                if info.type == fs.FileType.File:  # what was never sealed is not there
                    found.append(info)
            elif os.path.isdir(self._directory(path)):
                found.append(fs.FileInfo(path, fs.FileType.Directory))
                if selector.recursive:
                    found += self.get_file_info_selector(fs.FileSelector(path, recursive=True))
        return found

    # --- Changing it. -------------------------------------------------------------------------------------------------

    def create_dir(self, path: str, recursive: bool) -> None:
        self.check_fence(path)
        where = self._directory(path)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if recursive:
            os.makedirs(where, mode=0o700, exist_ok=True)
        elif not os.path.isdir(where):
            os.mkdir(where, 0o700)

    def delete_dir(self, path: str) -> None:
        if not self._parts(path):
            raise refused("NameBad", "the root is not deleted: use delete_dir_contents")
        self.check_fence(path, whole=True)
        shutil.rmtree(self._directory(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        where = self._directory(path)
        if not os.path.isdir(where):
            if missing_dir_ok:
                return
            raise FileNotFoundError(2, "no such directory", path)
        self.check_fence(path, whole=True)
        for name in os.listdir(where):
            inside = os.path.join(where, name)
            shutil.rmtree(inside) if os.path.isdir(inside) else os.unlink(inside)

    def delete_root_dir_contents(self) -> None:
        self.delete_dir_contents("", missing_dir_ok=True)

    def delete_file(self, path: str) -> None:
        if not os.path.isdir(self._file(path)):
            raise FileNotFoundError(2, "no such file", path)
        self.check_fence(path)
        # Gone at once, and then for good: a kill in between leaves a name that no listing shows.
        gone = os.path.join(os.path.dirname(self._file(path)), f".gone-{uuid.uuid4().hex}{SUFFIX}")
        os.rename(self._file(path), gone)
        shutil.rmtree(gone)

    def move(self, src: str, dest: str) -> None:
        """A file is there under its new name before it is gone under the old one; a directory goes file by file, because
        each file is bound to its path."""
        self.check_fence(src, whole=True)
        if os.path.isdir(self._directory(src)):
            self.create_dir(dest, True)
            for info in self.get_file_info_selector(fs.FileSelector(src)):
                self.move(info.path, f"{self.normalize_path(dest)}/{info.path.rsplit('/', 1)[-1]}")
            self.check_fence(src, whole=True)
            shutil.rmtree(self._directory(src))
            return
        self.copy_file(src, dest)
        self.delete_file(src)

    def copy_file(self, src: str, dest: str) -> None:
        reader = _Reader(self, src)
        try:
            writer = _Writer(self, dest)
            try:
                while data := reader.read(SEGMENT):
                    writer.write(data)
            except BaseException:
                writer.abort()
                raise
            writer.close()
        finally:
            reader.close()

    # --- Streams. -----------------------------------------------------------------------------------------------------

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Reader(self, path), mode="r")

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Reader(self, path), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_Writer(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise refused("ArgumentBad", f"{path}: a sealed file is not appended to: write it again")


class _Writer(io.RawIOBase):
    """Encrypts as it is written; the file is there after close, and not before."""

    def __init__(self, files: EncryptedFiles, path: str, asks: bool = True) -> None:
        """asks: whether this process may, if it is a worker of a run."""
        super().__init__()
        if os.path.isdir(files._directory(path)):
            raise IsADirectoryError(21, "is a directory", path)
        self._ended = True  # until there is a writer to end
        self._begun_under = sys.exc_info()[1]
        self._files, self._path, self._asks = files, path, asks
        fenced = asks and files.check_fence(path)
        os.makedirs(os.path.dirname(files._file(path)), mode=0o700, exist_ok=True)
        self._checkpoints = files.store(path)
        self._core = _native.core()
        self._api = self._core.needed("checkpoint")
        self._buffer, self._count = bytearray(), 0
        step, attempt = newest(self._checkpoints)
        self._writer = self._begin(step + 1, attempt + 1 if fenced and attempt else max(attempt, 1), fenced and attempt > 0)
        self._ended = False

    def _begin(self, step: int, attempt: int, fences_others: bool) -> Any:
        """A worker fences a file that is there, so that nobody who has begun it before seals it. Such a fence is in no list."""
        writer, fenced = _abi.thole_writer(), _native.sized(_abi.thole_fenced)
        while True:
            save = _native.sized(_abi.thole_save, attempt=attempt, step=step, part=0, parts=1)
            try:
                if fences_others:
                    _native.check(self._api.fence, self._core.handle, byref(self._checkpoints._store), attempt, byref(fenced))
                _native.check(self._api.begin, self._core.handle, byref(self._checkpoints._store), byref(save), byref(writer))
                return writer
            except TholeError as error:
                if error.reason != "AttemptFenced":
                    raise
                attempt += 1

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        at = 0
        if not self._buffer:  # whole segments go through without a copy of ours
            while len(view) - at >= SEGMENT:
                self._put(view[at : at + SEGMENT])
                at += SEGMENT
        self._buffer += view[at:]
        while len(self._buffer) >= SEGMENT:
            head = self._buffer[:SEGMENT]
            del self._buffer[:SEGMENT]
            self._put(memoryview(head))
        return len(view)

    def _put(self, view: memoryview) -> None:
        size = len(view)
        if view.readonly:
            kept: Any = view.obj if isinstance(view.obj, bytes) and len(view.obj) == size else view.tobytes()
            address = ctypes.cast(ctypes.c_char_p(kept), ctypes.c_void_p)
        else:
            kept = (ctypes.c_char * size).from_buffer(view)
            address = ctypes.cast(kept, ctypes.c_void_p)
        name, dtype = _native.text(f"{self._count:08d}"), _native.text("uint8")
        shape = (ctypes.c_uint64 * 1)(size)
        item = _native.sized(_abi.thole_item, name=name, kind=_abi.THOLE_ITEM_TENSOR, dims=1, dtype=dtype, shape=shape,
                             data=_abi.thole_bytes(address, size))
        try:
            _native.check(self._api.put, self._writer, byref(item))
        except TholeError:
            self.abort()
            raise
        self._count += 1

    def abort(self) -> None:
        """Leaves nothing behind."""
        if not self._ended:
            self._ended = True
            _native.check(self._api.end, self._writer)
        super().close()

    def __del__(self) -> None:
        # Python would close it: what nobody has said to be whole would be there as if it were.
        with suppress(Exception):
            self.abort()

    def close(self) -> None:
        if self._ended or self.closed:
            super().close()
            return
        failure = sys.exc_info()[1]
        if failure is not None and failure is not self._begun_under:
            # The end of a `with` or a `finally` on the way out of a failure. It is raised again, so that nobody takes this for a success.
            self.abort()
            warnings.warn(f"{self._path}: what was written is not kept, because of {type(failure).__name__}", RuntimeWarning, stacklevel=2)
            raise failure
        try:
            if self._buffer or self._count == 0:
                self._put(memoryview(bytes(self._buffer)))
            if self._asks:
                self._files.check_fence(self._path)
            sealed = _native.sized(_abi.thole_sealed)
            _native.check(self._api.seal, self._writer, byref(sealed))
        except TholeError:
            self.abort()
            raise
        self._ended = True
        _native.check(self._api.end, self._writer)
        super().close()
        removed = ctypes.c_uint64()
        _native.check(self._api.retire, self._core.handle, byref(self._checkpoints._store), 1, byref(removed))


class _Reader(io.RawIOBase):
    """Reads anywhere; no byte comes out before its tag was checked."""

    def __init__(self, files: EncryptedFiles, path: str) -> None:
        super().__init__()
        self._reader: Optional[Any] = None
        if not os.path.isdir(files._file(path)):
            raise FileNotFoundError(2, "no such file", path)
        self._checkpoints = files.store(path)
        core = _native.core()
        self._api = core.needed("checkpoint")
        reader = _abi.thole_reader()
        try:
            _native.check(self._api.open, core.handle, byref(self._checkpoints._store), None, byref(reader))
        except TholeError as error:
            if error.reason == "CheckpointNone":
                raise FileNotFoundError(2, "no such file: it was never sealed", path) from None
            raise
        self._reader = reader
        contents = _native.sized(_abi.thole_checkpoint_contents)
        memory = _native.check_with_room(self._api.describe, reader, byref(contents))
        self.committed = contents.info.contents.committed_unix_ns
        self._segments: List[Tuple[str, int, int]] = []  # name, first byte, size
        at = 0
        for item in _native.elements(contents.items, _abi.thole_item):
            self._segments.append((_native.read(item.name), at, item.shape[0]))
            at += item.shape[0]
        del memory
        self.length, self._at = at, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        return self.length

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self.length)[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self.length if size is None or size < 0 else min(self.length, self._at + size)
        if end <= self._at:
            return b""
        # Made without being cleared, and filled before anybody sees it: what is read is copied once less.
        out = _new_bytes(None, end - self._at)
        self._fill((ctypes.c_char * len(out)).from_address(_address_of(out)))
        return out

    def readinto(self, into: Any) -> int:
        size = max(0, min(self.length - self._at, len(into)))
        if size:
            self._fill((ctypes.c_char * size).from_buffer(into))
        return size

    def _fill(self, target: Any) -> None:
        """The next bytes, as many as the target has room for; all of them are there."""
        here, end = self._at, self._at + len(target)
        for name, first, length in self._segments:
            start, stop = max(first, here), min(first + length, end)
            if start < stop:
                self._get(name, start - first, stop - start, ctypes.addressof(target) + start - here)
        self._at = end

    def _get(self, name: str, first: int, size: int, to: int) -> None:
        start, extent = (ctypes.c_uint64 * 1)(first), (ctypes.c_uint64 * 1)(size)
        text = _native.text(name)
        box = _native.sized(_abi.thole_box, name=text, start=start, extent=extent, dims=1, to=to, size=size)
        _native.check(self._api.get, self._reader, byref(box))

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            _native.check(self._api.close, reader)
        super().close()
