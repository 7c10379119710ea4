#!/usr/bin/env python3
"""A second reader of Thole's checkpoints, written from docs/reference/checkpoint-format.md and sharing no code with the first.

usage: read_checkpoint.py KEYFILE FOLDER [--tensor NAME]
  FOLDER    of one checkpoint: <store>/<run>/step-<number>/<checkpoint>
  --tensor  prints the SHA-256 of this tensor's bytes instead of the digest over all tensors
"""
import base64
import hashlib
import hmac
import importlib
import pathlib
import struct
import subprocess
import sys
import tempfile
import uuid

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PAGE, LABEL = 4096, b"thole.ckpt/v1 "
PROTO = pathlib.Path(__file__).resolve().parents[2] / "sdk/proto/checkpoint.proto"


class Damaged(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Damaged(what)


def messages():
    """The generated Protobuf classes, made by protoc in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["protoc", f"--proto_path={PROTO.parent}", f"--python_out={folder}", PROTO.name], check=True)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module("checkpoint_pb2")
        finally:
            sys.path.remove(folder)


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk, info, size):
    out, block = b"", b""
    for i in range(1, -(-size // 32) + 1):
        block = mac(prk, block + info + bytes([i]))
        out += block
    return out[:size]


class Keys:
    """What is derived from the key of a run, or of a checkpoint."""

    def __init__(self, key, run, checkpoint=bytes(16)):
        self.prk = mac(checkpoint + run, key)

    def derive(self, name, size=32, context=b""):
        return expand(self.prk, LABEL + name + b"\0" + context, size)


def read_key_file(path):
    words = pathlib.Path(path).read_text().split()
    check(len(words) == 2 and words[0] == "thole-key-1", "not a key file")
    payload = base64.b64decode(words[1], validate=True)
    check(len(payload) == 36 and hashlib.sha256(payload[:32]).digest()[:4] == payload[32:], "the key's checksum is wrong")
    prk = mac(LABEL + b"key file", payload[:32])
    return expand(prk, LABEL + b"wrap\0", 32)


def unwrap(path, wrapping, level, run, checkpoint=bytes(16)):
    data = path.read_bytes()
    check(data[:8] == b"\x89THS\r\n\x1a\n" and data[8:16] == struct.pack("<HHHH", 1, 0, level, 1), f"{path}: prefix")
    check(data[16:48] == run + checkpoint, f"{path}: of another place")
    kind, size, zero = struct.unpack("<HHI", data[48:56])
    check(kind == 1 and zero == 0 and len(data) == 56 + size + 32 and size == 60, f"{path}: a slot that a key file does not open")
    wrapped = data[56:-32]
    key = AESGCM(wrapping).decrypt(wrapped[:12], wrapped[12:], LABEL + b"wrap\0" + run + checkpoint)
    keys = Keys(key, run, checkpoint)
    check(hmac.compare_digest(mac(keys.derive(b"slots"), data[:-32]), data[-32:]), f"{path}: mac")
    return keys


class Container:
    """One part, or a manifest."""

    def __init__(self, path, keys):
        self.data = data = path.read_bytes()
        header = data[:256]
        check(header[:8] == b"\x89THK\r\n\x1a\n" and header[8:14] == struct.pack("<HHH", 1, 0, 1), f"{path}: prefix")
        self.kind, log2 = header[14], header[15]
        self.part, self.parts, zero, self.step, self.attempt = struct.unpack("<IIIQQ", header[20:48])
        self.checkpoint, self.run, self.chunk = header[48:64], header[64:80], 1 << log2
        check(struct.unpack("<I", header[16:20])[0] == PAGE and zero == 0 and not any(header[112:]) and not any(data[288:PAGE]),
              f"{path}: reserved bytes")
        self.header_sha256 = hashlib.sha256(header).digest()
        okm = keys.derive(b"part", 76, self.header_sha256)
        self.gcm, self.base = AESGCM(okm[:32]), okm[32:44]
        check(hmac.compare_digest(okm[44:], data[256:288]), f"{path}: header tag")
        self.read_footer(path, keys, header + okm[44:])

    def read_footer(self, path, keys, header_and_tag):
        foot = self.data[-PAGE:]
        self.file_len = len(self.data)
        magic, version, n, self.plain_len, start, meta, meta_len, tags, size = struct.unpack("<4sIQQQQQQQ", foot[:64])
        pad = lambda x: -(-x // PAGE) * PAGE
        check(magic == b"THKF" and version == 1 and start == PAGE and size == self.file_len and not any(foot[128:]), f"{path}: footer")
        check(n == -(-self.plain_len // self.chunk) and meta == PAGE + pad(self.plain_len) and tags == meta + pad(meta_len)
              and size == tags + pad(16 * n + 16) + PAGE, f"{path}: lengths")
        self.tags = self.data[tags:tags + 16 * n + 16]
        self.root = hashlib.sha256(LABEL + b"root\0" + header_and_tag + struct.pack("<QQQ", n, self.plain_len, meta_len) + self.tags).digest()
        key = keys.derive(b"foot", 32, self.header_sha256)
        check(self.root == foot[64:96] and hmac.compare_digest(mac(key, foot[:96]), foot[96:128]), f"{path}: footer mac")
        self.n = n
        aad = b"THK1" + bytes([self.kind, 0, 0, 0]) + struct.pack("<QQQ", 2**64 - 1, n, self.plain_len)
        self.table = self.open(2**64 - 1, self.data[meta:meta + meta_len], self.tags[-16:], aad)

    def open(self, index, sealed, tag, aad):
        nonce = self.base[:4] + bytes(a ^ b for a, b in zip(self.base[4:], struct.pack(">Q", index)))
        return self.gcm.decrypt(nonce, sealed + tag, aad)

    def plain(self):
        out = []
        for i in range(self.n):
            at = PAGE + i * self.chunk
            size = min(self.chunk, self.plain_len - i * self.chunk)
            aad = b"THK1" + bytes([self.kind, 0, 0, 0]) + struct.pack("<Q", i)
            out.append(self.open(i, self.data[at:at + size], self.tags[16 * i:16 * i + 16], aad))
        return b"".join(out)


def size_of(dtype):
    return {"bool": 1, "bfloat16": 2, "complex64": 8, "complex128": 16}.get(dtype) or (
        1 if dtype.startswith("float8") else int("".join(c for c in dtype if c.isdigit())) // 8)


def assemble(item, parts):
    """A tensor out of its boxes; of boxes that are cut along several dimensions, row by innermost row."""
    size = size_of(item.dtype.decode())
    shape = list(item.shape)
    total = size
    for n in shape:
        total *= n
    out = bytearray(total)
    for s in item.segments:
        data = parts[s.part][s.offset:s.offset + s.length]
        if not shape:
            out[:] = data
            continue
        run = s.extent[-1] * size
        for k in range(len(data) // run if run else 0):
            rest, at, scale = k, s.start[-1], shape[-1]
            for d in range(len(shape) - 2, -1, -1):
                at += (s.start[d] + rest % s.extent[d]) * scale
                rest //= s.extent[d]
                scale *= shape[d]
            out[at * size:at * size + run] = data[k * run:(k + 1) * run]
    return bytes(out)


def read(key_file, folder):
    """{name: (dtype, shape, bytes)} of the tensors and {name: (kind, bytes)} of the values."""
    folder = pathlib.Path(folder)
    run, checkpoint = uuid.UUID(folder.parents[1].name).bytes, uuid.UUID(folder.name).bytes
    run_keys = unwrap(folder.parents[1] / "KEYSLOTS", read_key_file(key_file), 1, run)
    keys = unwrap(folder / "KEYSLOTS", run_keys.derive(b"wrap"), 2, run, checkpoint)
    manifest_file = Container(folder / "MANIFEST.thole", keys)
    manifest = messages().Manifest()
    manifest.ParseFromString(manifest_file.plain())
    check(manifest_file.kind == 2 and manifest.run == run and manifest.checkpoint == checkpoint, "the manifest is of another place")
    parts = []
    for i, expected in enumerate(manifest.parts):
        part = Container(folder / f"part-{i:05}.thole", keys)
        check((part.kind, part.part, part.parts, part.step, part.attempt) == (1, i, len(manifest.parts), manifest.step, manifest.attempt),
              f"part {i} is of another place")
        check((part.file_len, part.plain_len, part.header_sha256, part.root)
              == (expected.file_len, expected.plain_len, expected.header_sha256, expected.root), f"part {i} was not committed")
        parts.append(part.plain())
    tensors, values = {}, {}
    for item in manifest.items:
        if item.kind == 1:
            tensors[item.name.decode()] = (item.dtype.decode(), tuple(item.shape), assemble(item, parts))
        else:
            s = item.segments[0]
            values[item.name.decode()] = (item.kind, parts[s.part][s.offset:s.offset + s.length])
    return tensors, values


def digest(tensors):
    """SHA-256 over all tensors, in the order of their names' bytes: "name dtype d0,d1\\n" and the bytes."""
    h = hashlib.sha256()
    for name in sorted(tensors, key=lambda n: n.encode()):
        dtype, shape, data = tensors[name]
        h.update(f"{name} {dtype} {','.join(map(str, shape))}\n".encode())
        h.update(data)
    return h.hexdigest()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5) or (len(sys.argv) == 5 and sys.argv[3] != "--tensor"):
        sys.exit(__doc__)
    found, _ = read(sys.argv[1], sys.argv[2])
    print(hashlib.sha256(found[sys.argv[4]][2]).hexdigest() if len(sys.argv) == 5 else digest(found))
