"""The encrypted filesystem, as Ray Train uses one: streamed, atomic, bound to its path and its key."""
import collections
import gc
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import tempfile

import pytest

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: Ray Train brings it")
import places  # noqa: E402
from pyarrow import fs  # noqa: E402

from thole import TholeError, checkpoint  # noqa: E402
from thole.ray import checkpoint_filesystem, fence  # noqa: E402

DATA = os.urandom((20 << 20) + 17)


@pytest.fixture
def files(tmp_path):
    checkpoint.new_key(tmp_path / "key")
    return checkpoint_filesystem(str(tmp_path / "store"), key=str(tmp_path / "key"))


def write(files, path, data):
    with files.open_output_stream(path) as out:
        for at in range(0, len(data), 3_000_001):
            out.write(data[at : at + 3_000_001])


def read(files, path):
    with files.open_input_stream(path) as file:
        return file.read()


def names(files):
    return sorted(i.path for i in files.get_file_info(fs.FileSelector("", recursive=True, allow_not_found=True)))


def test_streams(files, tmp_path):
    files.create_dir("a/b")
    for path, data in (("a/b/large", DATA), ("a/empty", b""), ("one", b"1"), ("edge", DATA[: 8 << 20])):
        write(files, path, data)
        assert read(files, path) == data
    with files.open_input_file("a/b/large") as file:
        assert file.size() == len(DATA)
        for at in (0, 8 << 20, (8 << 20) - 5, len(DATA) - 10):
            file.seek(at)
            assert file.read(11) == DATA[at : at + 11]
    assert names(files) == ["a", "a/b", "a/b/large", "a/empty", "edge", "one"]
    assert files.get_file_info("a/b/large").size == len(DATA) and files.get_file_info("none").type == fs.FileType.NotFound
    stored = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    found = sum(DATA[at : at + 64] in stored for at in range(0, len(DATA) - 64, 65536))
    total = len(range(0, len(DATA) - 64, 65536))
    (tmp_path / "plain").mkdir()
    write(fs.SubTreeFileSystem(str(tmp_path / "plain"), fs.LocalFileSystem()), "large", DATA)  # as Ray Train's checkpoints lie
    beside = (tmp_path / "plain/large").read_bytes()
    plain = sum(DATA[at : at + 64] in beside for at in range(0, len(DATA) - 64, 65536))
    print(f"{found} of {total} runs of 64 plain bytes in the store; in pyarrow's own {plain} of {total}")
    assert (found, plain) == (0, total)


WORKER = """
import os, sys
from thole.ray import checkpoint_filesystem, fence
files = checkpoint_filesystem(sys.argv[1], key=sys.argv[2])
fence.guard(sys.argv[1], "runs/r", files.handler.begin_attempt("runs/r"))
for name in ("checkpoint/part", "second", "dir/one"):
    with files.open_output_stream(f"runs/r/{name}") as out:
        out.write(b"first")
same, other = files.open_output_stream("runs/r/checkpoint/part"), files.open_output_stream("runs/r/never")
same.write(b"late")
other.write(b"late")
print("begun", flush=True)
sys.stdin.readline()
for what in (same.close, other.close, lambda: files.open_output_stream("runs/r/new"), lambda: files.delete_file("runs/r/second"), lambda: files.delete_dir("runs/r/checkpoint"),
             lambda: files.move("runs/r/second", "runs/r/third"), lambda: files.move("runs/r/dir", "runs/r/moved"), lambda: files.delete_dir_contents("runs/r/checkpoint"),
             lambda: files.create_dir("runs/r/empty"), lambda: files.delete_dir("runs"), lambda: files.delete_dir_contents("", accept_root_dir=True)):
    try:
        what()
        print("done", flush=True)
    except Exception as refusal:
        print(getattr(refusal, "reason", refusal), flush=True)
with files.open_output_stream("runs/other/part") as out:
    out.write(b"another run is not this one's")
"""


@pytest.fixture
def worker(files, tmp_path):
    """Of the first attempt of the run `runs/r`, with two files begun."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, tmp_path / "store", tmp_path / "key"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        fence._of_this_process.clear()


def begin(files):
    handler = files.handler
    fence.guard(handler.folder, "runs/r", handler.begin_attempt("runs/r"))


def test_a_worker_of_an_earlier_attempt_is_refused(files, worker):
    """From the begin of the next attempt on, whatever it does to the run's files, also to those that it has begun before."""
    begin(files)
    write(files, "runs/r/checkpoint/part", b"second")
    said, _ = worker.communicate("go on\n", timeout=60)
    assert said.split() == ["AttemptFenced"] * 11, said
    assert read(files, "runs/r/checkpoint/part") == b"second" and read(files, "runs/r/second") == b"first"
    assert names(files) == ["runs", "runs/other", "runs/other/part", "runs/r", "runs/r/.attempt", "runs/r/checkpoint", "runs/r/checkpoint/part", "runs/r/dir",
                            "runs/r/dir/one", "runs/r/second"]
    fence._of_this_process.clear()
    for _ in range(2):  # one who is no worker writes what he likes
        write(files, "runs/r/checkpoint/part", b"mine")
    assert read(files, "runs/r/checkpoint/part") == b"mine"
    print("11 of 11 operations of the earlier attempt were refused")


def test_a_worker_of_a_run_that_was_removed_and_begun_anew_is_refused(files, worker):
    files.delete_dir("runs/r")
    begin(files)
    write(files, "runs/r/checkpoint/part", b"new")
    said, _ = worker.communicate("go on\n", timeout=60)
    assert [w for w in said.split() if w == "done"] == [], said
    assert read(files, "runs/r/checkpoint/part") == b"new" and "runs/r/never" not in names(files)


def test_the_fence_is_written_anew_where_it_is_damaged(files, tmp_path):
    begin(files)
    write(files, "runs/r/part", b"1")
    [manifest] = (tmp_path / "store/runs/r/.attempt.thole").glob("*/step-*/*/MANIFEST.thole")
    manifest.chmod(0o600)
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(data)
    with pytest.raises(TholeError):
        write(files, "runs/r/part", b"2")
    begin(files)
    try:
        write(files, "runs/r/part", b"3")
        assert read(files, "runs/r/part") == b"3"
    finally:
        fence._of_this_process.clear()


def test_of_attempts_that_begin_at_once_one_has_the_run(files, tmp_path):
    program = "import sys; from thole.ray import checkpoint_filesystem\n" \
              "for _ in range(5): print(checkpoint_filesystem(sys.argv[1], key=sys.argv[2]).handler.begin_attempt('runs/r'), flush=True)"
    both = [subprocess.Popen([sys.executable, "-c", program, tmp_path / "store", tmp_path / "key"], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    tokens = [token for p in both for token in p.communicate(timeout=60)[0].split()]
    assert [p.returncode for p in both] == [0] * 3 and len(set(tokens)) == 15, tokens
    assert read(files, "runs/r/.attempt").decode() in tokens


def test_nothing_large_is_kept_back(files, tmp_path):
    """What was written is in the store before the stream is closed, all but the last pieces; and nobody reads it before."""
    piece, pieces = DATA[: 1 << 20], 64
    with files.open_output_stream("large") as out:
        for _ in range(pieces):
            out.write(piece)
        stored = sum(p.stat().st_size for p in (tmp_path / "store").rglob("*") if p.is_file())
        assert files.get_file_info("large").type == fs.FileType.NotFound
    print(f"{min(stored >> 20, pieces)} of {pieces} MiB are in the store before the end")
    assert stored >= 3 * pieces // 4 << 20 and files.get_file_info("large").size == pieces << 20


def test_change(files):
    write(files, "x", b"first")
    write(files, "x", b"second")
    assert read(files, "x") == b"second"
    files.move("x", "d/y")
    assert read(files, "d/y") == b"second" and names(files) == ["d", "d/y"]
    files.copy_file("d/y", "d/z")
    files.move("d", "e")
    assert names(files) == ["e", "e/y", "e/z"]
    files.delete_file("e/y")
    assert names(files) == ["e", "e/z"]
    with pytest.raises(FileNotFoundError):
        files.delete_file("e/y")
    files.delete_dir("e")
    assert names(files) == []


def test_copy_files_both_ways(files, tmp_path):
    """What Ray Train does with a reported checkpoint."""
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/weights").write_bytes(DATA)
    (tmp_path / "in/metadata").write_bytes(b"{}")
    fs.copy_files(str(tmp_path / "in"), "run/checkpoint_000001", destination_filesystem=files)
    fs.copy_files("run/checkpoint_000001", str(tmp_path / "out"), source_filesystem=files)
    assert (tmp_path / "out/sub/weights").read_bytes() == DATA and (tmp_path / "out/metadata").read_bytes() == b"{}"


def test_another_process(files, tmp_path):
    """It is pickled with the key's path and nothing of the key, and is equal there."""
    write(files, "x", DATA)
    text = pickle.dumps(files)
    key = (tmp_path / "key").read_bytes()
    assert not any(key[i : i + 8] in text for i in range(len(key) - 8))
    (tmp_path / "fs.pickle").write_bytes(text)
    program = ("import pickle, sys, hashlib; f = pickle.load(open(sys.argv[1], 'rb')); g = pickle.loads(pickle.dumps(f));"
               "assert f == g and f.equals(g); print(hashlib.sha256(f.open_input_stream('x').read()).hexdigest())")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "fs.pickle")], capture_output=True, text=True, check=True)
    import hashlib

    assert done.stdout.strip() == hashlib.sha256(DATA).hexdigest()
    assert pickle.loads(text) == files and pickle.loads(text).equals(files)


def test_wrong_key(files, tmp_path):
    write(files, "x", b"secret")
    checkpoint.new_key(tmp_path / "other")
    other = checkpoint_filesystem(str(tmp_path / "store"), key=str(tmp_path / "other"))
    for action in (lambda: read(other, "x"), lambda: other.get_file_info("x"), lambda: write(other, "x", b"mine")):
        with pytest.raises(TholeError) as refusal:
            action()
        assert refusal.value.reason == "KeyWrong"
    assert read(files, "x") == b"secret"
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(TholeError) as refusal:
        read(files, "x")
    assert refusal.value.reason == "KeyNotPrivate"


def test_a_file_in_anothers_place(files, tmp_path):
    write(files, "weights-1", b"one")
    write(files, "weights-2", b"two")
    (tmp_path / "store/weights-2.thole").rename(tmp_path / "store/weights-3.thole")
    with pytest.raises((TholeError, FileNotFoundError)):
        read(files, "weights-3")
    assert read(files, "weights-1") == b"one"


def test_damage(files, tmp_path):
    write(files, "x", DATA[:100_000])
    flipped = 0
    for path in sorted((tmp_path / "store").rglob("*")):
        if path.is_file() and path.stat().st_size:
            good = path.read_bytes()
            bad = bytearray(good)
            bad[len(bad) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(bad)
            with pytest.raises((TholeError, FileNotFoundError)):
                read(files, "x")
            path.write_bytes(good)
            flipped += 1
    assert read(files, "x") == DATA[:100_000] and flipped >= 2
    print(f"{flipped} of {flipped} files with one bit flipped are refused")


_CHANGES = """
import pickle, sys, thole.ray.filesystem
thole.ray.filesystem.SEGMENT = 1 << 16
files = pickle.load(open(sys.argv[1], "rb"))
old, new = b"a" * ((1 << 16) + 1), b"b" * ((1 << 16) + 1)

def write(path, data):
    with files.open_output_stream(path) as out:
        out.write(data)

steps = [lambda: write("d/x", old), lambda: write("d/x", new), lambda: files.copy_file("d/x", "d/c"), lambda: files.move("d/x", "d/y"),
         lambda: files.move("d", "e"), lambda: files.delete_file("e/c"), lambda: write("f/z", new), lambda: files.delete_dir("f"),
         lambda: files.handler.begin_attempt("e")]
"""
_CRASH = _CHANGES + """
import os, signal
left = int(sys.argv[2])
def count(frame, event, argument):
    global left
    # Every call into the core, and every change of the disk that this module makes itself.
    if event == 'c_call' and getattr(argument, '__name__', '') in ('mkdir', 'rename', 'unlink', 'rmdir') or (
            event == 'call' and frame.f_code.co_name == 'check'):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
for step in steps:
    sys.setprofile(count)
    step()
    sys.setprofile(None)
    print("done", flush=True)
print("end")
"""
_TRACED = _CHANGES + """
import os
for step in steps:
    os.path.exists("/the-next-step")
    step()
    print("done", flush=True)
print("end", flush=True)
"""


def whole_after(files, done):
    """That a kill in the step after `done` ones has left each file as it was or as it is to be,, and nothing half."""
    old, new = (letter * ((1 << 16) + 1) for letter in (b"a", b"b"))
    there = {path: read(files, path) for path in names(files) if files.get_file_info(path).type == fs.FileType.File}
    kept = {path: data for path, data in there.items() if not path.endswith(".attempt")}
    assert set(kept.values()) <= {old, new}, (done, list(kept))
    if done >= 1:
        assert new in kept.values() or (done == 1 and kept == {"d/x": old}), (done, list(kept))  # never is there nothing
    if done >= 2:
        assert old not in kept.values(), (done, list(kept))
    if done >= 4:
        assert "d/x" not in kept and ("d/y" in kept or "e/y" in kept), (done, list(kept))
    if done >= 5:
        assert "e/y" in kept and not any(path.startswith("d") for path in kept), (done, list(kept))
    if done >= 8:
        assert list(kept) == ["e/y"] and "f" not in names(files), (done, names(files))


def again(files):
    """Whatever a kill has left, work goes on: the same names are written, the attempt begun, and all of it removed."""
    for path in ("d/x", "e/y"):
        write(files, path, b"again")
        assert read(files, path) == b"again"
    token = files.handler.begin_attempt("e")
    assert read(files, "e/.attempt").decode() == token
    files.delete_dir_contents("", missing_dir_ok=True)
    assert names(files) == []


def test_killed_at_every_operation(files, tmp_path):
    """SIGKILL before each call: write, write over, copy, move of a file and of a directory, delete of either, begin of an attempt."""
    (tmp_path / "fs.pickle").write_bytes(pickle.dumps(files))
    number = good = 0
    while True:
        number += 1
        done = subprocess.run([sys.executable, "-c", _CRASH, str(tmp_path / "fs.pickle"), str(number)], capture_output=True,
                              text=True, check=False)
        whole_after(files, done.stdout.count("done"))
        again(files)
        if "end" in done.stdout:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        good += 1
    print(f"{good} of {number - 1} kills left every file whole, old or new, or gone where that was asked")
    assert good == number - 1 and good >= 60


@places.needs_strace
def test_killed_at_system_calls(files, tmp_path):
    """The same before the system calls themselves, those in the core's seal, fence and retire among them: every 11th of each kind, or every
    THOLE_FAULTS_STEP-th."""
    (tmp_path / "fs.pickle").write_bytes(pickle.dumps(files))

    def run(*strace):
        return subprocess.run(["strace", *strace, sys.executable, "-c", _TRACED, str(tmp_path / "fs.pickle")], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})

    trace = tmp_path / "trace"
    assert run("-o", trace, "-e", f"trace={','.join((*places.CALLS, 'stat', 'newfstatat'))}").returncode == 0
    files.delete_dir_contents("", missing_dir_ok=True)
    lines = re.sub(r"^\d+ +", "", trace.read_text(errors="replace"), flags=re.M).splitlines()
    begin = next(i for i, line in enumerate(lines) if "/the-next-step" in line)
    counted = collections.Counter(line.split("(")[0] for line in lines[:begin])
    kept = tmp_path / "kept"
    kept.write_text("\n".join(lines[begin:]))
    chosen = [(call, k + counted[call]) for call, k in places.every_place(kept)]
    pace = int(os.environ.get("THOLE_FAULTS_STEP", "11"))
    chosen = [place for call in places.CALLS for place in [p for p in chosen if p[0] == call][::pace]]
    killed = 0
    for call, k in chosen:
        done = run("-o", os.devnull, *places.killed_at(call, k))
        whole_after(files, done.stdout.count("done"))
        again(files)
        killed += "end" not in done.stdout
    print(f"{killed} of {len(chosen)} kills at system calls left every file whole, old or new, or gone where that was asked")
    assert killed == len(chosen) and killed >= 20


def test_partial_upload(files):
    out = files.open_output_stream("x")
    out.write(DATA)
    assert files.get_file_info("x").type == fs.FileType.NotFound and names(files) == []
    with pytest.raises(FileNotFoundError):
        read(files, "x")
    out.close()
    assert read(files, "x") == DATA


def _forgotten(files):
    out = files.open_output_stream("x")
    out.write(b"half")


def _left_by_an_exception(files):
    with pytest.warns(RuntimeWarning, match="x: what was written is not kept, because of ZeroDivisionError"), pytest.raises(ZeroDivisionError):
        with files.open_output_stream("x") as out:
            out.write(b"half")
            1 / 0


def _closed_on_the_way_out(files):
    with pytest.warns(RuntimeWarning), pytest.raises(ZeroDivisionError):
        out = files.open_output_stream("x")
        try:
            1 / 0
        finally:
            out.close()


def _of_a_source_that_fails(files):
    """As Ray Train uploads; the source's last bytes do not open."""
    write(files, "source", DATA)
    newest = max((pathlib.Path(files.handler.folder) / "source.thole").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    newest.chmod(0o600)
    with open(newest, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damaged")
    with pytest.raises(TholeError):
        fs.copy_files("source", "x", source_filesystem=files, destination_filesystem=files, use_threads=False)


@pytest.mark.parametrize("there", [None, b"older"])
@pytest.mark.parametrize("upload", [_forgotten, _left_by_an_exception, _closed_on_the_way_out, _of_a_source_that_fails])
def test_an_upload_that_does_not_end_leaves_what_was_there(files, upload, there):
    if there:
        write(files, "x", there)
    upload(files)
    gc.collect()
    if there:
        assert read(files, "x") == there
    else:
        assert files.get_file_info("x").type == fs.FileType.NotFound
    write(files, "x", b"whole")
    assert read(files, "x") == b"whole"


def test_a_file_is_written_while_an_exception_is_looked_into(files):
    try:
        1 / 0
    except ZeroDivisionError:
        write(files, "x", b"report")
        out = files.open_output_stream("y")
    out.close()
    assert read(files, "x") == b"report" and read(files, "y") == b""


def test_full_disk():
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small tmpfs")
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder) / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(small)], check=True)
        try:
            checkpoint.new_key(pathlib.Path(folder) / "key")
            files = checkpoint_filesystem(str(small / "store"), key=str(pathlib.Path(folder) / "key"))
            write(files, "kept", b"kept")
            with pytest.raises(TholeError) as refusal:
                write(files, "large", DATA)
            assert refusal.value.reason == "StoreFull"
            assert names(files) == ["kept"] and read(files, "kept") == b"kept"
            write(files, "small", DATA[:1_000_000])
            assert read(files, "small") == DATA[:1_000_000]
        finally:
            subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "x.thole", "a.thole/b"])
def test_bad_names(files, path):
    with pytest.raises(TholeError) as refusal:
        write(files, path, b"x")
    assert refusal.value.reason == "NameBad"


def test_no_key():
    with pytest.raises(TholeError) as refusal:
        checkpoint_filesystem("/nowhere")
    assert refusal.value.reason == "KeyMissing"
