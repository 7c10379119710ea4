"""How far a job is, while it runs: heard from its rank 0 by the controller, on two real kubelets."""
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess

import pytest
from installed import DIGITS, job, make_store, members, processes, rank_pid, status, wait_for_phase


@pytest.fixture
def space(installed, request):
    name = request.node.name.replace("_", "-").replace("test-", "").replace("[", "-").replace("]", "")[:48]
    make_store(installed, name, os.environ["THOLE_COMMAND"])
    yield name
    installed.kubectl("delete", "tj", "--all", "-n", name, "--timeout=90s", seconds=120)


def newest(cluster, space):
    """The newest committed step in the store."""
    found = (cluster.d / f"store-{space}").glob("*/*/step-*/*/MANIFEST.thole")
    return max((int(f.parts[-3].split("-")[1]) for f in found), default=0)


def test_steps_and_checkpoints_are_shown_while_it_runs(installed, space, thole):
    """Not one pod has ended. After a rank was killed what is shown is the second attempt's."""
    since = installed.api.call("GET", installed.api.path("trainingjobs", space))["metadata"]["resourceVersion"]
    installed.kubectl("apply", "-n", space, "-f", DIGITS / "job.yaml")
    heard = {1: [], 2: []}
    phases = shown = said = None
    for _, seen in installed.api.watch("trainingjobs", space, since, seconds=240):
        now = seen.get("status", {})
        told = now.get("progress", {})
        if now.get("phase") != "Running" or not told.get("step"):
            continue
        assert now.get("checkpoint", 0) <= newest(installed, space), "a checkpoint is shown that is not in the store"
        heard[told["attempt"]].append((told["step"], now.get("checkpoint", 0)))
        if phases is None and len({step for step, _ in heard[1]}) >= 2 and heard[1][-1][1] >= 20:
            phases = [p["status"]["phase"] for p in members(installed, space, 1)]
            shown = installed.kubectl("get", "tj", "-n", space).stdout
            said = thole("status", "digits", "-n", space).stdout
            os.kill(rank_pid(installed, space, 2), signal.SIGKILL)
        if len(heard[2]) == 2:
            break
    assert phases == ["Running"] * 4, heard
    header, line = (text.split() for text in shown.splitlines())
    assert int(line[header.index("STEP")]) > 0 and int(line[header.index("CHECKPOINT")]) >= 20, shown
    assert "progress   step " in said and "of attempt 1, heard " in said, said
    for attempt, words in heard.items():
        assert words == sorted(words), f"attempt {attempt} went back: {words}"
    assert heard[2][0][0] > 20 and heard[2][0][1] >= 20, heard
    end = wait_for_phase(installed, space, "Complete")
    assert end["progress"]["step"] == 200 and end["checkpoint"] == 200, end
    assert len(installed.api.list("pods", space, labelSelector="thole.dev/attempt=2")) == 4
    print(f"heard while it ran: {heard}")


ONE_RANK = """
import time, thole
with thole.join() as run:
    for step in range(1, 100000):
        run.step(step)
        time.sleep(0.1)
        if run.should_stop:
            break
"""


def test_who_cannot_be_asked_is_told_and_trains_on(installed, space):
    """As a NetworkPolicy does: nothing that rank 0 sends reaches the controller. It is said after some failures, and once."""
    spec = {"roles": [{"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "200m", "memory": "64Mi", "command": ["python3", "-c", ONE_RANK]}],
            "gracePeriod": "5s", "recovery": {"hangTimeout": "20s"}}
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps({"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "one"}, "spec": spec}))

    def progress():
        return status(installed, space, "one").get("progress", {})

    first = installed.wait_for(lambda: progress().get("step"), "the job to be heard", said=lambda: json.dumps(status(installed, space, "one")))
    run = job(installed, space, "one")["metadata"]["uid"]
    [pid] = [p for p in processes("range(1, 100000)", THOLE_RUN=run) if pathlib.Path(f"/proc/{p}/cmdline").read_bytes().startswith(b"python3")]
    halves = [node.pods.replace(".0/24", f".{start}/25") for node in installed.nodes for start in (0, 128)]
    for half in halves:
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "route", "add", "blackhole", half], check=True)
    said = installed.wait_for(lambda: progress().get("message"), "the job to be told that it is not heard")
    assert "does a NetworkPolicy keep thole-controller from it?" in said, said
    before = job(installed, space, "one")["metadata"]["resourceVersion"]
    stuck = progress()["step"]
    assert stuck >= first
    os.kill(pid, 0)  # it trains on
    for half in halves:
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "route", "del", "blackhole", half], check=True)
    installed.wait_for(lambda: progress().get("step", 0) > stuck and "message" not in progress(), "the job to be heard again", said=lambda: json.dumps(progress()))
    found = job(installed, space, "one")
    assert found["status"]["attempt"] == 1 and not found["status"].get("incidents"), found["status"]
    assert before != found["metadata"]["resourceVersion"]
    print(f"step {stuck}: {said}; then step {found['status']['progress']['step']}")


SOCKET_LIE = """
import json, os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["THOLE_SOCKET"])
for step in (2**64 - 1, 2**63, 10**30, -1):
    s.sendall(json.dumps({"step": step}).encode() + b"\\n" + json.dumps({"checkpoint": {"step": step, "committed": True}}).encode() + b"\\n")
s.sendall(json.dumps({"result": {"digest": 10**30, "deep": {"a": [1] * 100}}}).encode() + b"\\n")
raise SystemExit(1)
"""
# thole-rank ends the rank's group and writes its own word: a process of another session writes on until the container is gone.
MESSAGE_LIE = """
import os
if os.fork() == 0:
    os.setsid()
    lie = b'{"at": -9223372036854775808, "step": 18446744073709551615, "committed": 18446744073709551615, "code": 1}'
    with open("/dev/termination-log", "r+b", 0) as file:
        while True:
            os.pwrite(file.fileno(), lie.ljust(4096), 0)
raise SystemExit(1)
"""


@pytest.mark.parametrize("script", [SOCKET_LIE, MESSAGE_LIE], ids=["socket", "message"])
def test_a_rank_that_lies_spoils_nothing(installed, space, script):
    """Numbers that no status holds: the job ends as it would, and others are read."""
    spec = {"roles": [{"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "200m", "memory": "64Mi", "command": ["python3", "-c", script]}],
            "recovery": {"maxIncidents": 3, "maxWithoutProgress": 2}}
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps({"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "liar"}, "spec": spec}))
    end = wait_for_phase(installed, space, "Failed", name="liar")
    said = json.dumps(end)
    assert "18446744073709551615" not in said and "1.8446744073709552e+19" not in said, said
    assert len(end["incidents"]) == 2 and end.get("checkpoint", 0) == 0 and end["incidents"][0]["step"] == 0, json.dumps(end, indent=1)
    honest = {"roles": [{"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "10m", "memory": "64Mi", "command": ["true"]}]}
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps({"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "honest"}, "spec": honest}))
    wait_for_phase(installed, space, "Complete", name="honest")
    print(f"{end['incidents'][0]['message']}; {end['conditions'][-1]['message']}")
