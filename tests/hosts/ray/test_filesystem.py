"""The encrypted filesystem, as Ray Train uses one: streamed, atomic, bound to its path and its key."""
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile

import pytest

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: Ray Train brings it")
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
    print(f"{found} of {len(range(0, len(DATA) - 64, 65536))} runs of 64 plain bytes in the store")
    assert found == 0


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


_CRASH = """
import os, signal, sys, pickle
f = pickle.load(open(sys.argv[1], 'rb'))
left = int(sys.argv[2])
def count(frame, event, argument):
    global left
    # Every call into the core, and every change of the disk that this module makes itself.
    if event == 'c_call' and getattr(argument, '__name__', '') in ('mkdir', 'rename', 'unlink', 'rmdir') or (
            event == 'call' and frame.f_code.co_name == 'check'):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(count)
with f.open_output_stream('d/x') as out:
    for i in range(3):
        out.write(bytes([i]) * (8 << 20))
f.move('d/x', 'd/y')
f.delete_file('d/y')
sys.setprofile(None)
print('end')
"""


def test_killed_at_every_operation(files, tmp_path):
    """SIGKILL before each call: the file is whole under a name, or not there; and writing it again works."""
    (tmp_path / "fs.pickle").write_bytes(pickle.dumps(files))
    want = b"".join(bytes([i]) * (8 << 20) for i in range(3))
    number = good = 0
    while True:
        number += 1
        done = subprocess.run([sys.executable, "-c", _CRASH, str(tmp_path / "fs.pickle"), str(number)], capture_output=True,
                              text=True, check=False)
        there = [path for path in ("d/x", "d/y") if files.get_file_info(path).type == fs.FileType.File]
        assert all(read(files, path) == want for path in there), number
        assert all(n in ("d", "d/x", "d/y") for n in names(files)), (number, names(files))
        if "end" in done.stdout:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        good += 1
        files.delete_dir_contents("", missing_dir_ok=True)
    write(files, "d/x", b"again")
    assert read(files, "d/x") == b"again"
    print(f"{good} of {number - 1} kills left a whole file or none")
    assert good == number - 1 and good >= 20


def test_partial_upload(files):
    out = files.open_output_stream("x")
    out.write(DATA)
    assert files.get_file_info("x").type == fs.FileType.NotFound and names(files) == []
    with pytest.raises(FileNotFoundError):
        read(files, "x")
    out.close()
    assert read(files, "x") == DATA


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
