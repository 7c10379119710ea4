"""The commands around a job: checkpoints, keys, pools and plugins; what they answer, and what they refuse."""
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

import pytest
from platform_tools import HERE, Host, job_file, mounted, tmpfs
from test_processes import chain, left

STEPS = 6


def saving_job(host, *options, steps=STEPS, name="fake", **spec):
    return job_file(host.folder, [sys.executable, HERE / "saving_rank.py", "--steps", steps, "--every", 2, *options], name=name,
                    **{"checkpoint": {"interval": 2, "keep": 2}, **spec})


def store_of(host, name="fake"):
    return pathlib.Path(host.raw(name)["store"])


def part_of(host, step=STEPS, part=1, name="fake"):
    file, = store_of(host, name).rglob(f"step-*{step:08d}/*/part-{part:05d}.thole")
    return file


@pytest.fixture
def saved(host):
    """A job that has ended, with two checkpoints."""
    code, end, said = host.run(saving_job(host))
    assert code == 0 and end["result"]["digest"] == chain(STEPS), said
    return host


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The same, for tests that change nothing."""
    host = Host(tmp_path_factory.mktemp("finished"))
    assert host.run(saving_job(host))[0] == 0
    return host


def refused(done, code, reason):
    """The answer is a reason, a sentence and the documented exit code, as text and as JSON."""
    assert done.returncode == code and re.search(rf"^thole: {reason}: .{{20}}", done.stderr, re.M), (done.stdout, done.stderr)
    error = json.loads(done.stdout)["error"]
    assert (error["reason"], error["exitCode"]) == (reason, code) and set(error) == {"reason", "message", "code", "exitCode", "notes"}


# --- What they answer. ---------------------------------------------------------------------------------------------------


def test_ckpt_ls(finished):
    rows = json.loads(finished("--json", "ckpt", "ls", "fake").stdout)["checkpoints"]
    assert [(r["step"], r["state"], r["attempt"], r["parts"], r["partsPresent"], r["fresh"]) for r in rows] == [
        (6, "committed", 1, 2, 2, True), (4, "committed", 1, 2, 2, True)]
    assert set(rows[0]) == {"checkpoint", "state", "step", "attempt", "sequence", "parts", "partsPresent", "bytes", "fileBytes",
                            "fresh", "committed", "path", "reason"}
    assert rows[0]["sequence"] == rows[1]["sequence"] + 1 and rows[0]["fileBytes"] > rows[0]["bytes"] > 4096
    text = finished("ckpt", "ls", "fake").stdout
    assert len(text.splitlines()) == 2 and "committed" in text and "2 of 2 parts" in text


def test_ckpt_inspect(finished):
    newest = json.loads(finished("--json", "ckpt", "inspect", "fake").stdout)
    assert newest["step"] == 6 and {i["name"] for i in newest["items"]} >= {"step", "state", "padding"}
    older = json.loads(finished("--json", "ckpt", "inspect", "fake", "--step", 4).stdout)
    assert older["step"] == 4
    text = finished("ckpt", "inspect", "fake").stdout
    assert text.startswith("step 6, attempt 1, 2 parts") and "freshness proven" in text


def test_ckpt_verify(finished):
    done = json.loads(finished("--json", "ckpt", "verify", "fake").stdout)
    assert done["parts"] == 2 and done["chunks"] >= 2 and done["bytes"] > 4096
    assert finished("ckpt", "verify", "fake", "--step", 4).stdout.startswith("good: 2 parts")


def test_key_new(host):
    answer = json.loads(host("--json", "key", "new", "mine").stdout)
    file = pathlib.Path(answer["key"])
    assert file == host.state / "keys" / "mine.key" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert host("key", "new", "--file", host.folder / "other.key").stdout.strip() == str(host.folder / "other.key")
    assert file.read_bytes() != (host.folder / "other.key").read_bytes()
    kept = file.read_bytes()
    refused(host("--json", "key", "new", "mine"), 69, "KeyExists")
    assert file.read_bytes() == kept
    for bad in ("../mine", ".mine", ""):
        refused(host("--json", "key", "new", bad), 65, "NameBad")
    assert sorted(p.name for p in (host.state / "keys").iterdir()) == ["mine.key"]


def test_pool(host):
    answer = json.loads(host("--json", "pool", "--pool", host.pool).stdout)
    assert (answer["pool"], answer["simulated"], len(answer["gpus"])) == ("desk", True, 2)
    assert set(answer["gpus"][0]) == {"node", "uuid", "model", "simulated", "healthy", "mig", "holders", "memoryMiB",
                                      "freeMemoryMiB", "freeShareMilli"}
    assert "pool desk (simulated)" in host("pool", "--pool", host.pool).stdout
    refused(host("--json", "pool", "--pool", saving_job(host)), 65, "KindUnknown")
    refused(host("--json", "pool", "--pool", host.folder / "nowhere.yaml"), 66, "SystemCallFailed")


def test_plugin_ls(host):
    answer = json.loads(host("--json", "plugin", "ls").stdout)
    sim, = [p for p in answer["plugins"] if p["id"] == "thole.device.sim"]
    assert set(sim) == {"id", "provides", "version", "manifest", "loaded", "reason", "message"}
    assert sim["loaded"] is True and sim["reason"] == "" and pathlib.Path(sim["manifest"]).exists()
    folder = host.folder / "plugins"
    folder.mkdir(mode=0o700)
    assert "no plugins" in host("plugin", "ls", "--folder", folder).stdout
    manifest = (pathlib.Path(answer["folder"]) / "thole-device-sim.yaml").read_text()
    (folder / "thole-device-sim.yaml").write_text(manifest)
    (folder / "libthole-device-sim.so").write_bytes(b"no library")
    for file in folder.iterdir():
        file.chmod(0o600)
    bad, = json.loads(host("--json", "plugin", "ls", "--folder", folder).stdout)["plugins"]
    assert bad["loaded"] is False and bad["reason"].startswith("Plugin") and len(bad["message"]) > 20
    assert bad["reason"] in host("plugin", "ls", "--folder", folder).stdout
    refused(host("--json", "plugin", "ls", "--folder", host.folder / "nowhere"), 66, "PluginFolderMissing")


def test_help_names_what_there_is(host):
    for command in ("ckpt", "ckpt ls", "ckpt inspect", "ckpt verify", "key new", "pool", "plugin ls", "schema", "validate"):
        done = host(*command.split(), "--help")
        assert done.returncode == 0 and "Examples:\n  thole" in done.stdout, command
        assert "\x1b" not in done.stdout
    for wrong, said in (("frob", "there is no command frob"), ("rnu", "is run meant?"), ("ckpt lss fake", "is ls meant?"),
                        ("run", "job is required"), ("run --injct x job.yaml", "--injct"), ("ckpt", "subcommand is required"),
                        ("run job.yaml --metrics-port 70000", "70000"), ("ckpt verify fake --step two", "two")):
        done = host(*wrong.split())
        assert done.returncode == 64 and said in done.stderr and "--help" in done.stderr, (wrong, done.stderr)
        assert not done.stdout


def test_no_colour_in_what_is_read_by_programs_or_asked_for_without(finished):
    for command in ("ckpt ls fake", "ckpt verify nobody", "status fake"):
        line = " ".join(finished.arguments(*command.split()))
        for env, coloured in (({}, None), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            text = subprocess.run(["script", "-qec", line, "/dev/null"], capture_output=True, text=True,
                                  env={**os.environ, "TERM": "xterm", **env}).stdout
            assert coloured is None or "\x1b" not in text, (command, env)


# --- What they refuse. ---------------------------------------------------------------------------------------------------

VERIFY = ("--json", "ckpt", "verify", "fake")


def test_no_such_job_or_checkpoint(finished):
    for command in ("ckpt ls", "ckpt inspect", "ckpt verify", "status", "logs", "cancel", "resume"):
        refused(finished("--json", *command.split(), "nobody"), 66, "JobUnknown")
    refused(finished(*VERIFY, "--step", 5), 66, "CheckpointNone")


def test_a_job_that_makes_no_checkpoints(host):
    assert host.run(host.fake("--steps", 2))[0] == 0
    refused(host("--json", "ckpt", "ls", "fake"), 66, "CheckpointNone")


def key_of(host):
    return pathlib.Path(host.raw()["keyFile"])


def test_the_key_is_gone(saved):
    key = key_of(saved)
    key.rename(key.with_suffix(".kept"))
    for command in ("ls", "inspect", "verify"):
        refused(saved("--json", "ckpt", command, "fake"), 66, "KeyMissing")
    assert not key.exists(), "no command makes another key in its place"
    key.with_suffix(".kept").rename(key)
    assert saved(*VERIFY).returncode == 0


def test_a_run_goes_on_only_with_its_key(host):
    code, _, said = host.run(saving_job(host, "--pace", 0.2, steps=400, gracePeriod="1s", timeLimit="3s"))
    assert code == 124, said
    key = key_of(host)
    key.unlink()
    refused(host("--json", "resume", "fake"), 66, "KeyMissing")
    assert not key.exists() and not left(host)


def test_another_key(saved):
    key = key_of(saved)
    key.unlink()
    assert saved("key", "new", "fake").returncode == 0
    refused(saved(*VERIFY), 77, "KeyWrong")
    refused(saved("--json", "ckpt", "ls", "fake"), 77, "KeyWrong")


def test_a_key_that_others_may_read(saved):
    key_of(saved).chmod(0o644)
    refused(saved(*VERIFY), 77, "KeyNotPrivate")


def test_a_bound_key_that_is_not_there(host):
    job = saving_job(host, platforms={"local": {"keys": {"fake": {"file": "secret.key"}}}})
    done = host("--json", "run", job, "--pool", host.pool)
    refused(done, 66, "KeyMissing")
    assert "thole key new --file" in done.stderr and not (host.folder / "secret.key").exists() and not left(host)
    assert host("key", "new", "--file", host.folder / "secret.key").returncode == 0
    code, end, said = host.run(job)
    assert code == 0 and end["key"] == str(host.folder / "secret.key"), said


def test_the_store_has_vanished(saved):
    shutil.rmtree(store_of(saved))
    for command in ("verify", "ls", "inspect"):
        refused(saved("--json", "ckpt", command, "fake"), 69, "StoreGone")
    assert not store_of(saved).exists(), "looking makes nothing"


def test_another_jobs_checkpoints_in_its_place(saved):
    assert saved.run(saving_job(saved, name="other"))[0] == 0
    mine, other = store_of(saved), store_of(saved, "other")
    shutil.rmtree(mine)
    shutil.copytree(other, mine)
    done = saved(*VERIFY)
    assert done.returncode in (66, 74) and json.loads(done.stdout)["error"]["reason"] in (
        "CheckpointNone", "CheckpointRolledBack", "CheckpointDamaged"), done.stderr
    # Under the name of this run's own folder it is another run's all the same.
    inner, = mine.iterdir()
    inner.rename(mine / saved.raw()["run"])
    done = saved(*VERIFY)
    assert done.returncode in (66, 74, 77), done.stderr
    assert json.loads(done.stdout)["error"]["reason"] in ("KeyWrong", "CheckpointDamaged", "CheckpointRolledBack", "CheckpointNone")


@pytest.mark.parametrize("harm", ("missing", "cut", "flipped", "of another run", "of another step"))
def test_a_part_that_is_not_what_it_was(saved, harm):
    part = part_of(saved)
    data = part.read_bytes()
    if harm == "missing":
        part.unlink()
    elif harm == "cut":
        part.write_bytes(data[:-1])
    elif harm == "flipped":
        part.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    elif harm == "of another step":
        shutil.copy(part_of(saved, step=4), part)
    else:
        assert saved.run(saving_job(saved, name="other"))[0] == 0
        shutil.copy(part_of(saved, name="other"), part)
    done = saved(*VERIFY)
    assert done.returncode == 74, (harm, done.stdout, done.stderr)
    message = json.loads(done.stdout)["error"]["message"]
    assert "part" in message, message
    older = saved(*VERIFY, "--step", 4)
    assert older.returncode == 0, "the older one is as good as before"


# --- Stores that are full, or cannot be written to. ----------------------------------------------------------------------


def test_the_store_is_full(host):
    with tmpfs(host.folder / "small", "size=96k") as small:
        job = saving_job(host, "--pace", 0.01, steps=40, platforms={"local": {"stores": {"checkpoints": str(small)}}},
                         checkpoint={"interval": 2, "keep": 100})
        code, end, said = host.run(job)
        assert code != 0 and end["phase"] == "failed" and "StoreFull" in end["message"] + said, said
        assert not left(host)
        mounted("-o", "remount,size=8m", small)
        again = host("--json", "resume", "fake")
        assert again.returncode == 0 and json.loads(again.stdout)["result"]["digest"] == chain(40), again.stderr


def test_the_store_is_read_only(host):
    with tmpfs(host.folder / "small", "size=1m") as small:
        mounted("-o", "remount,ro", small)
        job = saving_job(host, platforms={"local": {"stores": {"checkpoints": str(small)}}})
        done = host("--json", "run", job, "--pool", host.pool)
        refused(done, 77, "StoreReadOnly")
        assert not left(host)


def test_a_store_becomes_read_only(host):
    with tmpfs(host.folder / "small", "size=1m") as small:
        job = saving_job(host, platforms={"local": {"stores": {"checkpoints": str(small)}}})
        assert host.run(job)[0] == 0
        mounted("-o", "remount,ro", small)
        assert host(*VERIFY).returncode == 0, "it can still be read"


# --- The key helper of a job file. ---------------------------------------------------------------------------------------

HELPER = '''#!%s
"""Wraps with a pad and a tag of its own; %s"""
import base64, hashlib, hmac, json, os, sys
asked = json.loads(sys.stdin.readline())
secret = hashlib.sha256(asked["key"].encode() + b"secret").digest()
data = base64.b64decode(asked["data"])
def tag(wrapped):
    return hmac.new(secret, wrapped, "sha256").digest()
def pad(data):
    return bytes(a ^ b for a, b in zip(data, secret))
if os.path.exists(sys.argv[1]):
    print(json.dumps({"error": "the vault is locked: ask its keeper"}))
elif asked["op"] == "wrap":
    print(json.dumps({"data": base64.b64encode(pad(data) + tag(pad(data))).decode()}))
elif not hmac.compare_digest(tag(data[:32]), data[32:]):
    print(json.dumps({"error": "this was not wrapped here"}))
else:
    print(json.dumps({"data": base64.b64encode(pad(data[:32])).decode()}))
'''


def test_a_key_helper_given_by_the_job_file(host):
    helper, locked = host.folder / "helper", host.folder / "locked"
    helper.write_text(HELPER % (sys.executable, "a stand-in for a KMS"))
    helper.chmod(0o700)
    job = saving_job(host, platforms={"local": {"keys": {"fake": {"helper": ["./helper", str(locked)]}}}})
    code, end, said = host.run(job)
    assert code == 0 and end["result"]["digest"] == chain(STEPS) and end["key"] == "", said
    assert not list((host.state / "keys").iterdir())
    assert host(*VERIFY).returncode == 0
    locked.touch()
    done = host(*VERIFY)
    refused(done, 69, "KeyHelperFailed")
    assert "the vault is locked" in done.stderr
    locked.unlink()
    helper.unlink()
    refused(host(*VERIFY), 69, "KeyHelperFailed")
