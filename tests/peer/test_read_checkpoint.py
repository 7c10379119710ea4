"""The independent reader against the library, through the Python package: the same bytes, and the same refusals."""
import pathlib
import uuid

import numpy
import pytest
from read_checkpoint import Damaged, digest, read

thole = pytest.importorskip("thole.checkpoint", reason="peer reader: the Python package is not on PYTHONPATH")
RUN = uuid.UUID("01020304-0506-0708-090a-0b0c0d0e0f10")


def save(folder, ranks=3):
    thole.new_key(folder / "key")
    random = numpy.random.default_rng(5)
    total = random.normal(size=(10, 7)).astype(numpy.float32)
    whole = random.integers(0, 255, size=300_000, dtype=numpy.uint8)
    for rank in range(ranks):
        store = thole.Checkpoints(folder / "store", run=RUN, key=folder / "key", rank=rank, world_size=ranks)
        first, last = 10 * rank // ranks, 10 * (rank + 1) // ranks
        store.save(7, {"cut": thole.Rows(total[first:last], first, 10), "whole": whole, "scalar": numpy.float64(2.5), "name": "x"})
    (manifest,) = (folder / "store").rglob("MANIFEST.thole")
    return manifest.parent, {"cut": total, "whole": whole}


def test_reads_what_the_library_wrote(tmp_path):
    folder, expected = save(tmp_path)
    tensors, values = read(tmp_path / "key", folder)
    assert len(list(folder.glob("part-*.thole"))) == 3
    for name, array in expected.items():
        (found,) = [v for k, v in tensors.items() if k.endswith(name)]
        assert found == (str(array.dtype), array.shape, array.tobytes())
    assert b"x" in [data for _, data in values.values()]
    assert len(digest(tensors)) == 64


def test_digest_changes_with_one_byte():
    tensors = {"a": ("uint8", (2,), b"ab"), "b": ("float32", (), b"\0\0\0\0")}
    assert digest(tensors) != digest({**tensors, "a": ("uint8", (2,), b"ac")})


def test_refuses_a_changed_part(tmp_path):
    folder, _ = save(tmp_path)
    part = folder / "part-00001.thole"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(bytes(data))
    with pytest.raises(Damaged):
        read(tmp_path / "key", pathlib.Path(folder))
