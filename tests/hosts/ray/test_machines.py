"""A state folder that several machines share: what cluster.json says of another machine's processes is left to that machine."""
import json
import os
import subprocess

import pytest
from thole.ray import cluster, command

HERE, ELSEWHERE = cluster._boot(), {"boot": "00000000-0000-0000-0000-000000000000 pid:[1]", "host": "the-other"}
REBOOTED = {"boot": ELSEWHERE["boot"], "host": os.uname().nodename}


@pytest.fixture
def stranger():
    """A process that lives here, and leads its session as a node's first process does."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)  # this process keeps its own
    return tmp_path


def write(folder, *nodes):
    (folder / "temporary").mkdir()
    known = {"address": "127.0.0.1:1", "auth": "disabled", "nodes": list(nodes), "gcsStore": "", "temporary": str(folder / "temporary")}
    (folder / "cluster.json").write_text(json.dumps(known))
    return known


def node(process, name="bench-0", head=True, **where):
    return {"name": name, "pid": process.pid, "start": cluster._start_of(process.pid), "head": head, "log": "", **where}


def dead(name="bench-1", head=False, **where):
    """Of a process that is no more here, as a pid of another machine is."""
    return {"name": name, "pid": 2 ** 22 + 1, "start": "5", "head": head, "log": "", **where}


def on_disk(folder):
    return json.loads((folder / "cluster.json").read_text())


def test_the_boot_is_told_once_and_the_same():
    assert len(HERE) > 36 and HERE == cluster._boot()


@pytest.mark.parametrize("address", ["", "10.0.0.1:6379"])
def test_a_head_of_another_machine_is_taken_for_living(folder, address):
    known = write(folder, dead(head=True, **ELSEWHERE))
    found = cluster.Cluster(folder)
    assert not found.head_has_died() and len(found.living()) == 1
    assert cluster._prepare(found, address, "") is False  # it joins, and all is as it was
    assert found.data == known and (folder / "temporary").exists()


def test_stop_leaves_what_another_machine_has_started(folder, stranger, capsys):
    known = write(folder, node(stranger, **ELSEWHERE))
    assert command.main(["stop", "--state", str(folder)]) == 66
    said = capsys.readouterr()
    assert "bench-0 was started by the-other" in said.err and "no node of this machine" in said.out
    assert on_disk(folder) == known and stranger.poll() is None and (folder / "temporary").exists()
    assert command.main(["stop", "bench-0", "--state", str(folder)]) == 66 and stranger.poll() is None


def test_stop_ends_its_own_and_keeps_the_others(folder, stranger, capsys):
    write(folder, node(stranger, boot=HERE, host=os.uname().nodename), dead(**ELSEWHERE))
    assert command.main(["stop", "--state", str(folder)]) == 0
    assert stranger.wait(10) != 0 and "stopped bench-0" in capsys.readouterr().out
    left = on_disk(folder)
    assert [n["name"] for n in left["nodes"]] == ["bench-1"] and left["address"] and not left["temporary"]
    assert not (folder / "temporary").exists()  # the head was ours: nobody else knows of it


@pytest.mark.parametrize("head", [False, True])
def test_what_ran_before_a_reboot_is_gone_and_its_pid_is_another_process(folder, stranger, head):
    write(folder, node(stranger, head=head, **REBOOTED))
    found = cluster.Cluster(folder)
    assert not found.living() and found.head_has_died() is head
    assert cluster._prepare(found, "", "") is True and not found.data["nodes"]
    assert stranger.poll() is None and not (folder / "temporary").exists()


def test_an_entry_of_an_older_version_is_of_this_machine(folder, stranger):
    write(folder, node(stranger))
    assert len(cluster.Cluster(folder).living()) == 1
    assert cluster.stop(folder) == ["bench-0"] and stranger.wait(10) != 0 and not on_disk(folder)["nodes"]
