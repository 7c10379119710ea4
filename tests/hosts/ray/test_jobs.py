"""Jobs on a real cluster: the digits sample as it is, with whatever happens to it, ends with the local run's digest."""
import json
import os
import pathlib
import subprocess
import sys
import time

import incidents
import pytest
from cluster import DIGITS, PATIENCE, ROOT, kill, until
from running import Running, check_ledger_is_empty
from secret import search


def test_digits_on_two_nodes(small, local):
    """Every rank is an actor of its own, on the GPU that the engine planned."""
    import ray

    from thole.ray.service import service

    running = Running(small)
    state, members = running.at_step(20)
    planned = [(m["node"], m["devices"][0]["uuid"]) for m in state["gang"]]
    assert len({m["pid"] for m in members}) == 4 and len({m["node"] for m in members}) == 2
    # What Ray itself holds is what was planned: each GPU's own resources, on that node.
    held = {(g["node"], g["uuid"]): g["holders"] for g in ray.get(service().usage.remote()) if g["holders"]}
    assert held == {place: planned.count(place) for place in planned}
    # And each member for itself: Ray's node, and the record that its rank has.
    name_of = {n["NodeID"]: n["Labels"]["thole.dev/node"] for n in ray.nodes() if n["Alive"]}
    for (node, uuid), member in zip(planned, members):
        rank = subprocess.run(["ps", "-o", "pid=", "--ppid", str(member["pid"])], capture_output=True, text=True, check=True).stdout.split()[0]
        environment = dict(word.split(b"=", 1) for word in pathlib.Path(f"/proc/{rank}/environ").read_bytes().split(b"\0") if b"=" in word)
        record = pathlib.Path(environment[b"THOLE_RECORD"].decode()).read_text()
        assert name_of[member["node"]] == node and f"node {node}" in record and f"device {uuid} vgpu 10240 250 simulated" in record, record
    print(f"{len(planned)} of 4 members on the GPU of the plan, on {len(held)} nodes")
    ended = running.end()
    assert ended["result"]["digest"] == local and ended["attempts"] == 1
    assert ended["simulated"] and ended["backend"] == "none (simulated)"
    check_ledger_is_empty(small)


def test_key_is_nowhere(small, local):
    """While a job trains, its key's bytes are in its file only: in no environment, command line, log, state, or table of the GCS."""
    running = Running(small)
    state, members = running.at_step(20)
    found, places = search(small, pathlib.Path(state["key"]), state["run"])
    trains = sum(b"train.py" in text for where, text in places.items() if where.startswith("cmdline"))
    assert not found and trains >= 4 and any("logs" in where for where in places), (found, len(places))
    assert running.end()["result"]["digest"] == local
    print(f"{len(places)} of {len(places)} places without the key, {len(members)} ranks among them")


@pytest.mark.parametrize("incident", ["worker", "rank", "raylet"])
def test_digest_after_an_incident(small, local, incident):
    """A killed worker of Ray, a killed rank in one, a killed raylet: attempt 2 restores, and ends with the same digest."""
    running = Running(small)
    state, members = running.at_step(50)
    head = small.known()["nodes"][0]["name"]
    victim = next(i for i, m in enumerate(state["gang"]) if m["node"] != head)
    killed = time.time()
    if incident == "worker":
        kill(members[victim]["pid"])
    elif incident == "rank":
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(members[victim]["pid"])], capture_output=True, text=True,
                                  check=True).stdout.split()
        kill(int(children[0]))
    else:
        kill(small.raylet_of(state["gang"][victim]["node"]))
    ended = running.end()
    first = ended["incidents"][0]
    assert ended["result"]["digest"] == local
    assert ended["attempts"] == 2 and len(ended["incidents"]) == 1
    assert first["kind"] == ("node" if incident == "raylet" else "signal"), first
    gone = {m["firstRank"] for m in state["gang"] if m["node"] == state["gang"][victim]["node"]}
    assert first["rank"] in (gone if incident == "raylet" else {victim}), first
    assert first["restoredStep"] >= 20 and ended["steps"]["run"] < 2 * ended["steps"]["newest"]
    incidents.record("ray", f"{incident} killed", ended["result"]["digest"], first["noticed"] + first["recoverySeconds"] - killed)
    if incident == "raylet":
        assert state["gang"][victim]["node"] not in {m["node"] for m in ended["gang"]}
        small.start()
    check_ledger_is_empty(small)


def test_a_node_is_lost_while_members_start(small, local):
    """Before any rank runs: an incident like any other."""
    import ray

    running = Running(small)
    until(lambda: ray.get(running.controller.status.remote())["phase"] == "running", what="the gang")
    head = small.known()["nodes"][0]["name"]
    victim = next(m["node"] for m in small.job("digits")["gang"] if m["node"] != head)
    kill(small.raylet_of(victim))
    assert not ray.get(running.controller.where.remote()), "the members were too quick"
    ended = running.end()
    assert ended["result"]["digest"] == local and ended["attempts"] == 2 and len(ended["incidents"]) == 1, ended["incidents"]
    assert ended["incidents"][0]["kind"] == "node" and ended["incidents"][0]["node"] == victim
    small.start()
    check_ledger_is_empty(small)


def test_cancel_and_names(small, tmp_path):
    text = open(DIGITS, encoding="utf-8").read().replace("[python3, train.py]", "[python3, train.py, --steps, \"20000\"]")
    (tmp_path / "job.yaml").write_text(text.replace("workdir: .", f"workdir: {ROOT}/samples/digits"))
    running = Running(small, str(tmp_path / "job.yaml"))
    running.at_step(20)
    again = small.program("submit", DIGITS, check=False)
    assert again.returncode == 69 and "JobExists" in again.stderr
    assert small.program("status").stdout.startswith("digits")
    done = json.loads(small.program("cancel", "digits", "--json").stdout)
    assert done["phase"] == "stopped" and done["exitCode"] == 75
    running._thread.join(PATIENCE)
    assert running.done.returncode == 75
    assert "stopped after step" in small.program("logs", "digits").stdout
    check_ledger_is_empty(small)


def test_logs_are_followed_to_the_end_and_what_does_not_fit_is_explained(small, tmp_path):
    """Through `thole --on ray`: `logs -f` begun in the middle shows all ranks and ends with the job; `explain` names the tightest
    constraint with its numbers, for a job that would fit if nothing else ran."""
    def thole(*words):
        return subprocess.Popen([os.environ["THOLE_COMMAND"], "--on", "ray", *words], env=small.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def job(name, members, steps):
        text = open(DIGITS, encoding="utf-8").read().replace("members: 4", f"members: {members}").replace("name: digits", f"name: {name}", 1)
        text = text.replace("[python3, train.py]", f'[python3, train.py, --steps, "{steps}"]')
        (tmp_path / f"{name}.yaml").write_text(text.replace("workdir: .", f"workdir: {ROOT}/samples/digits"))
        return str(tmp_path / f"{name}.yaml")

    def explain(members):
        asked = thole("explain", "--json", job("other", members, 1))
        out, err = asked.communicate(timeout=PATIENCE)
        return asked.returncode, json.loads(out or "null"), err

    code, fits, _ = explain(8)
    assert code == 0 and fits["fits"] == 1, fits
    running = Running(small, job("digits", 4, 20000))
    running.at_step(20)
    following = thole("logs", "-f", "digits")
    code, found, err = explain(8)  # four nodes of two each, and four of the eight are taken
    assert code == 69 and found["fits"] == 0 and found["reason"] and "the most memory free for one more vGPU on one GPU is" in found["message"], (found, err)
    assert explain(2)[0] == 0
    small.program("cancel", "digits")
    out, err = following.communicate(timeout=PATIENCE)
    said = (out + err).splitlines()
    assert following.returncode == 75 and all(any(f"{rank}| rank {rank}: stopped after step" in line for line in said) for rank in range(4)), said[-9:]
    running._thread.join(PATIENCE)
    check_ledger_is_empty(small)
    print(f"{len(said)} lines were followed, of 4 of 4 ranks; {found['reason']}: {found['message']}")


BAD = {
    "a gang larger than the cluster": ("members: 4", "members: 40", "GangLargerThanPool", 69),
    "a vGPU larger than a GPU": ("memory: 10Gi", "memory: 80Gi", "DeviceTooSmall", 69),
    "no unit": ("memory: 10Gi", "memory: 10", "UnitBad", 65),
    "share above 1": ("share: 0.25", "share: 1.5", "FieldBad", 65),
    "a level that no node has": ("gracePeriod: 10s", "topology: [{level: rack}]", "TopologyUnknown", 65),
    "a misspelt field": ("gracePeriod", "graceperiod", "FieldUnknown", 65),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_jobs(small, what, tmp_path):
    old, new, reason, code = BAD[what]
    text = open(DIGITS, encoding="utf-8").read()
    assert old in text
    (tmp_path / "job.yaml").write_text(text.replace(old, new, 1))
    done = small.program("submit", str(tmp_path / "job.yaml"), check=False)
    assert done.returncode == code and f"thole: {reason}: " in done.stderr, done.stderr
    check_ledger_is_empty(small)


def test_a_command_that_is_not_there(small, tmp_path):
    text = open(DIGITS, encoding="utf-8").read().replace("[python3, train.py]", "[no-such-program]")
    (tmp_path / "job.yaml").write_text(text)
    done = small.program("submit", str(tmp_path / "job.yaml"), "--wait", check=False)
    assert done.returncode == 127 and "no-such-program" in done.stdout
    check_ledger_is_empty(small)


def test_bindings_are_checked(small, tmp_path):
    key = tmp_path / "open.key"
    key.write_text("x")
    key.chmod(0o644)
    for arguments, reason in ((["--key", f"digits={key}"], "KeyNotPrivate"), (["--key", "digits=/none"], "KeyMissing"),
                              (["--key", f"other={key}"], "ArgumentBad"), (["--store", "checkpoints"], "ArgumentBad")):
        done = small.program("submit", DIGITS, *arguments, check=False)
        assert done.returncode != 0 and reason in done.stderr, (arguments, done.stderr)


def test_environment_of_a_program(small):
    said = small.program("environment").stdout.splitlines()
    assert f"export RAY_ADDRESS={small.known()['address']}" in said and "export RAY_AUTH_MODE=disabled" in said


def test_no_cluster(tmp_path):
    done = subprocess.run([sys.executable, "-m", "thole.ray", "--state", str(tmp_path / "s"), "--address", "127.0.0.1:1", "pool"],
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 69 and "no Ray answers at 127.0.0.1:1" in done.stderr


def test_a_rank_that_joins_and_never_begins(small, tmp_path):
    text = open(DIGITS, encoding="utf-8").read().replace("hangTimeout: 10s", "startTimeout: 2s\n    maxIncidents: 1")
    text = text.replace("[python3, train.py]", "[python3, -c, 'import thole, time; thole.join().__enter__(); time.sleep(600)']")
    (tmp_path / "job.yaml").write_text(text)
    done = small.program("submit", str(tmp_path / "job.yaml"), "--wait", "--json", check=False)
    ended = json.loads(done.stdout)
    assert done.returncode == 125 and ended["incidents"][0]["kind"] == "hang" and ended["reason"] == "StopIncidentLimit", ended
    check_ledger_is_empty(small)


def test_a_full_disk_below_the_store(small, tmp_path):
    """The ranks say what is wrong, twice, and then the job is over; what it holds is given back."""
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True, check=False).returncode:
        pytest.skip("needs root and mount: a small disk is a tmpfs")
    try:
        done = small.program("submit", DIGITS, "--wait", "--json", "--store", f"checkpoints={tmp_path}", check=False)
        ended = json.loads(done.stdout)
        assert done.returncode == 1 and ended["reason"] == "StopSameCause" and "StoreFull" in ended["message"], ended
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    check_ledger_is_empty(small)
