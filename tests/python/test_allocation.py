"""What a rank reads of its allocation record: the very example of docs/reference/allocation-record.md."""
import re
import zlib

import pytest
from conftest import ROOT, has

import thole
from thole import allocation

pytestmark = pytest.mark.skipif(not has("partition"), reason="needs libthole: no partition service in reach")


@pytest.fixture
def example(tmp_path):
    page = (ROOT / "docs/reference/allocation-record.md").read_text()
    path = tmp_path / "record"
    path.write_text(re.search(r"```\n(thole-record 1\n.*?)```", page, re.S).group(1))
    return path


def test_the_example_is_read(example, monkeypatch):
    monkeypatch.setenv("THOLE_RECORD", str(example))
    found = allocation.read()
    assert (found.node, found.role, found.member, found.attempt, found.generation) == ("node-a", "worker", 3, 2, 5)
    assert [(d.kind, d.memory_mib, d.share_milli, d.backend) for d in found.devices] == [("vgpu", 10240, 100, "none")]
    assert found.devices[0].uuid == "GPU-7f2f9d1e-2b1c-4a0e-9d52-0b7f0e6a1c11"


def test_without_a_platform_there_is_none(monkeypatch):
    monkeypatch.delenv("THOLE_RECORD", raising=False)
    assert allocation.read() is None


def test_a_changed_record_is_refused(example):
    text = example.read_text()
    example.write_text(text.replace("10240", "81920"))
    with pytest.raises(thole.TholeError, match="RecordDamaged"):
        allocation.read(str(example))


def test_a_newer_record_says_so(example):
    body = example.read_text().rsplit("checksum", 1)[0].replace("thole-record 1", "thole-record 2")
    example.write_text(f"{body}checksum {zlib.crc32(body.encode()):08x}\n")
    with pytest.raises(thole.TholeError, match="RecordNewer"):
        allocation.read(str(example))
