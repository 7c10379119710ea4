"""Where a key's bytes are, of all the places that a run on Ray writes to."""
import base64
import contextlib
import pathlib

# Ray's own spaces of the GCS's table of keys and values; b"" is the one without a name.
SPACES = (b"", b"fun", b"job", b"session", b"cluster", b"dashboard", b"serve", b"workflow", b"tracing", b"healthcheck", b"usage_stats")


def search(cluster, file, run):
    """(those in which the key of `file` is, all of them by name): environments and command lines of Ray's processes and of the run's,
    files of the cluster, tables of its GCS, and the memory of its GCS, where what it keeps lies."""
    from ray.experimental import internal_kv

    text = file.read_bytes().strip()
    [word, secret] = text.split()
    assert file.stat().st_mode & 0o777 == 0o600 and word == b"thole-key-1" and len(base64.b64decode(secret)) == 36
    raw = base64.b64decode(secret)[:32]  # a sum follows it; 40 digits of base64 are the same with and without
    forms = [secret[:40], raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(text)]
    places = {}
    of_ray = {pid: program for pid, _, program in cluster.processes()}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            environment = (entry / "environ").read_bytes()
            if int(entry.name) in of_ray or run.encode() in environment:  # a rank leads a session of its own
                places[f"environ of {entry.name}"] = environment
                places[f"cmdline of {entry.name}"] = (entry / "cmdline").read_bytes()
    for folder in (cluster.folder, pathlib.Path(cluster.known()["temporary"])):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path != file:
                    places[str(path)] = path.read_bytes()
    for space in SPACES:
        for name in internal_kv._internal_kv_list(b"", namespace=space):
            places[f"GCS {space!r} {name!r}"] = internal_kv._internal_kv_get(name, namespace=space) or b""
    for pid, program in of_ray.items():
        if program.endswith(b"gcs_server"):
            places[f"memory of the GCS, {pid}"] = _memory(pid)
    assert any(where.startswith("memory") for where in places) and any(where.startswith("GCS b'fun'") for where in places), sorted(places)
    return [where for where, content in places.items() if any(form in content for form in forms)], places


def _memory(pid):
    """What a process has written to of its own memory."""
    out = []
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(n, 16) for n in span.split("-"))
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(begin)
                    out.append(memory.read(end - begin))
    return b"".join(out)
