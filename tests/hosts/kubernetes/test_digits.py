"""The digits sample, unchanged, on two real kubelets with Thole installed by its manifests: whatever is killed, the parameters
are those of the local run."""
from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import incidents
import pytest
import yaml
from client import Refused
from installed import DIGITS, STORE, capacity, describe, first_process, inside, job, journal_of, leader, make_store, members, processes, rank_pid, wait_for_checkpoint, wait_for_phase


@pytest.fixture
def space(installed, request):
    """A namespace with a store and a key, and the job file applied to it."""
    name = request.node.name.replace("_", "-").replace("test-", "").replace("[", "-").replace("]", "")[:40]
    make_store(installed, name, os.environ["THOLE_COMMAND"])
    yield name
    installed.kubectl("delete", "tj", "--all", "-n", name, "--timeout=90s", seconds=120)
    installed.wait_for(lambda: not installed.api.list("pods", name, labelSelector="thole.dev/job"), "the deleted job's pods to be gone")


def begin(cluster, space):
    cluster.kubectl("apply", "-n", space, "-f", DIGITS / "job.yaml")


def logs(cluster, space, pod):
    return cluster.kubectl("logs", "-n", space, pod, "-c", "main", check=False).stdout


def until_it_goes_on(cluster, space):
    """Seconds until the second attempt has restored a checkpoint."""
    begun = time.monotonic()
    cluster.wait_for(lambda: "goes on after step" in logs(cluster, space, "digits-2-trainer-0"), "an attempt that goes on")
    return time.monotonic() - begun


def check_end(cluster, space, local_digest, incidents):
    end = wait_for_phase(cluster, space, "Complete")
    assert end["result"]["digest"] == local_digest and end["result"]["accuracy"] >= 0.95
    assert len(end.get("incidents", [])) == incidents, json.dumps(end, indent=1)
    assert end["attempt"] == incidents + 1
    if incidents:
        # What went on began at a checkpoint: no rank trained from the start again.
        texts = [logs(cluster, space, p["metadata"]["name"]) for p in members(cluster, space, end["attempt"])]
        began = {line.split("after step ")[1] for text in texts for line in text.splitlines() if "goes on after step" in line}
        assert len(began) == 1 and int(began.pop()) > 0, texts
    # Of the checkpoints, ten or more by now, `keep` stay: the newest three.
    kept = checkpoints(cluster, space)
    assert kept == [160, 180, 200], (kept, [logs(cluster, space, p["metadata"]["name"]) for p in members(cluster, space, end["attempt"])])
    return end


def checkpoints(cluster, space):
    """Steps of the committed ones in the store."""
    return sorted(int(m.parts[-3].split("-")[1]) for m in (cluster.d / f"store-{space}").glob("*/*/step-*/*/MANIFEST.thole"))


def test_unbroken(installed, thole, space, local_digest, tmp_path):
    scheduler = leader(installed)
    begin(installed, space)
    wait_for_phase(installed, space, "Running")
    pods = members(installed, space, 1)
    pids = {rank: rank_pid(installed, space, rank) for rank in range(4)}
    assert len(pods) == 4 and len(set(pids.values())) == 4
    # Of the process that has planned: another one has in its journal what it found written on the bound pods.
    assert leader(installed) == scheduler
    check_plan(pods, planned(thole, journal_of(installed, scheduler[0], tmp_path / "journal")))
    check_end(installed, space, local_digest, 0)
    shown = installed.kubectl("get", "tj", "digits", "-n", space, "-o", "wide").stdout
    assert all(word in shown for word in ("Complete", "CHECKPOINT", local_digest)), shown
    print(f"digest {local_digest} = {local_digest}; 4 of 4 ranks were a pod of their own, on the node and the GPU of the plan in the journal")


def planned(thole, folder):
    """What the core itself has written down of its plans, replayed: (gang, member) -> its node and devices."""
    replayed = json.loads(thole("--json", "journal", folder).stdout)
    return {(g["gang"], m["member"]): m for g in replayed["gangs"] for m in g["members"]}


def check_plan(pods, journal):
    """The node and the GPU of the core's journal are those on which the pod is bound, which were written on it, and which its container finds."""
    for pod in pods:
        written = pod["metadata"]["annotations"]
        allocation = json.loads(written["thole.dev/allocation"])
        rank = next(v["value"] for v in pod["spec"]["containers"][0]["env"] if v["name"] == "RANK")
        [pid, *_] = processes("train.py", RANK=rank, THOLE_RUN=pod["metadata"]["ownerReferences"][0]["uid"])
        record = inside(pid, "thole/record/record").read_text()
        assert record == written["thole.dev/record"] and allocation["node"] == pod["spec"]["nodeName"]
        plan = journal[allocation["gang"], allocation["member"]]
        assert plan["node"] == pod["spec"]["nodeName"] and plan["grants"] == allocation["grants"], (plan, allocation)
        assert f"device {plan['grants'][0]['uuid']} vgpu 10240 250 simulated" in record
        assert b"\0CUDA_VISIBLE_DEVICES=\0" in b"\0" + pathlib.Path(f"/proc/{pid}/environ").read_bytes()


def test_rank_killed(installed, thole, space, local_digest):
    """And who follows the logs hears of both attempts."""
    begin(installed, space)
    step = wait_for_checkpoint(installed, space, 60)
    with ThreadPoolExecutor(1) as beside:
        follows = beside.submit(thole, "logs", "-f", "digits", "-n", space, seconds=300)
        os.kill(rank_pid(installed, space, 2), signal.SIGKILL)
        seconds = until_it_goes_on(installed, space)
        end = check_end(installed, space, local_digest, 1)
        lines = follows.result().stdout.splitlines()
    # The step 25 is of the first attempt, which had a checkpoint of a later one; what goes on is the second.
    for words in ("0| step 25: loss", *(f"{n}| rank {n}: goes on after step" for n in range(4)), f"0| digest {local_digest}"):
        assert sum(line.startswith(words) for line in lines) == 1, (words, lines)
    incidents.record("kubernetes", "rank killed", end["result"]["digest"], seconds)
    [incident] = end["incidents"]
    assert (incident["kind"], incident["rank"], incident["code"], incident["member"]) == ("Signal", 2, 9, "digits-1-trainer-2"), incident
    assert incident["step"] >= step - 20
    print(f"digest {local_digest} = {local_digest}: {incident['message']}; {incident['decision']}")


def test_container_killed(installed, space, local_digest):
    """With all that runs in it: nobody is left to say anything."""
    begin(installed, space)
    wait_for_checkpoint(installed, space, 40)
    rank_pid(installed, space, 1)
    os.kill(first_process(installed, space, 1), signal.SIGKILL)
    seconds = until_it_goes_on(installed, space)
    end = check_end(installed, space, local_digest, 1)
    incidents.record("kubernetes", "container killed", end["result"]["digest"], seconds)
    assert (end["incidents"][0]["kind"], end["incidents"][0]["rank"]) == ("Signal", 1), end["incidents"]
    print(f"digest {local_digest} = {local_digest}: {end['incidents'][0]['message']}")


def test_pod_deleted(installed, space, local_digest):
    """By somebody who drains a node: its rank is asked to save, and all leave together."""
    begin(installed, space)
    wait_for_checkpoint(installed, space, 40)
    rank_pid(installed, space, 3)
    installed.kubectl("delete", "pod", "-n", space, "digits-1-trainer-3", "--wait=false")
    seconds = until_it_goes_on(installed, space)
    end = check_end(installed, space, local_digest, 1)
    incidents.record("kubernetes", "pod deleted", end["result"]["digest"], seconds)
    assert "was deleted" in end["incidents"][0]["message"] and end["incidents"][0]["rank"] == 3, end["incidents"]
    print(f"digest {local_digest} = {local_digest}: {end['incidents'][0]['message']}")


def test_rank_hangs(installed, space, local_digest):
    begin(installed, space)
    wait_for_checkpoint(installed, space, 40)
    pid = rank_pid(installed, space, 2)
    os.kill(pid, signal.SIGSTOP)
    seconds = until_it_goes_on(installed, space)
    end = check_end(installed, space, local_digest, 1)
    incidents.record("kubernetes", "rank stands still", end["result"]["digest"], seconds)
    assert (end["incidents"][0]["kind"], end["incidents"][0]["rank"]) == ("Hang", 2), end["incidents"]
    print(f"digest {local_digest} = {local_digest}: {end['incidents'][0]['message']}")


def deny_binding(cluster, space, name):
    """Until the policy that is answered is deleted, nobody binds this pod."""
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": f"unbound-{space}"}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/binding"]}]},
        "validations": [{"expression": f"!(request.namespace == '{space}' && request.name == '{name}')", "message": "not yet"}]}}
    binding = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": policy["metadata"],
               "spec": {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}}
    for thing in (policy, binding):
        cluster.kubectl("apply", "-f", "-", given=json.dumps(thing))

    def denied():
        try:
            cluster.api.call("POST", cluster.api.path("pods", space, name, "binding", dryRun="All"), {
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": space}, "target": {"kind": "Node", "name": "none"}})
        except Refused as refusal:
            return "not yet" in refusal.message  # not: there is no such pod
        return False

    cluster.wait_for(denied, "the policy to hold")
    return policy["metadata"]["name"]


def schedulers():
    """Pids of the installed ones, which are in containers: not of one that another cluster has."""
    return processes("/thole-scheduler", KUBERNETES_SERVICE_PORT="443")


def kill_schedulers():
    killed = schedulers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    return killed


def test_scheduler_killed_in_the_middle_of_a_gang(installed, space, local_digest):
    """With three of four members bound, and the fourth between Reserve and Bind again and again: who comes next has the three, and binds
    the fourth beside them."""
    policy = deny_binding(installed, space, "digits-1-trainer-3")
    begin(installed, space)

    def bound():
        return {p["metadata"]["name"]: p for p in installed.api.list("pods", space) if p["spec"].get("nodeName")}

    installed.wait_for(lambda: len(bound()) == 3, "three of the gang to be bound", said=lambda: describe(installed, space))
    before = {name: p["metadata"]["annotations"]["thole.dev/allocation"] for name, p in bound().items()}
    killed = kill_schedulers()
    installed.wait_for(lambda: set(schedulers()) - set(killed), "the next scheduler")
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        installed.kubectl("delete", kind, policy)
    end = check_end(installed, space, local_digest, 0)
    after = {p["metadata"]["name"]: p["metadata"]["annotations"]["thole.dev/allocation"] for p in members(installed, space, 1)}
    assert len(killed) == 2 and len(before) == 3 and len(after) == 4 and {n: after[n] for n in before} == before
    print(f"digest {end['result']['digest']} = {local_digest}; {len(before)} of 4 pods were bound when {len(killed)} schedulers were killed, and stayed where they were")


def test_scheduler_killed_between_reserve_and_bind(installed, thole, space, local_digest, tmp_path):
    """The volume of the checkpoints is not there yet, so all four have their places and stand in PreBind, none is bound: who comes next has nothing to
    go by, plans the gang as new, and binds it when the volume is there."""
    volume, claim = yaml.safe_load_all(STORE.format(namespace=space, folder=installed.d / f"store-{space}"))
    for kind, thing in (("pvc", claim), ("pv", volume)):
        installed.kubectl("delete", kind, thing["metadata"]["name"], "-n", space)
        thing["spec"]["storageClassName"] = f"later-{space}"
    del claim["spec"]["volumeName"]
    # As a first try leaves it: of four who write it at once one gets through, and the other three are planned again beside that one.
    node = installed.nodes[0].name
    claim["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": node}
    later = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": f"later-{space}"}, "provisioner": "example.com/never",
             "volumeBindingMode": "WaitForFirstConsumer"}
    for thing in (later, claim):
        installed.kubectl("apply", "-f", "-", given=json.dumps(thing))
    begin(installed, space)
    since = None

    def stand():
        """Each has a node in view, and so it stays: the last one's place lets all go on at once, and only the volume is waited for then."""
        nonlocal since
        pods = members(installed, space, 1)
        assert not any(p["spec"].get("nodeName") for p in pods)
        if len(pods) != 4 or {p["status"].get("nominatedNodeName") for p in pods} != {node}:
            since = None
            return False
        since = since or time.monotonic()
        return time.monotonic() - since > 3

    installed.wait_for(stand, "all four to stand in PreBind", said=lambda: describe(installed, space))
    journal = json.loads(thole("--json", "journal", journal_of(installed, leader(installed)[0], tmp_path / "journal")).stdout)
    reserved = [len(g["members"]) for g in journal["gangs"] if not g["confirmed"]]
    killed = kill_schedulers()
    assert reserved == [4] and len(killed) == 2 and not any(p["spec"].get("nodeName") for p in members(installed, space, 1)), journal
    installed.kubectl("apply", "-f", "-", given=json.dumps(volume))
    end = check_end(installed, space, local_digest, 0)
    installed.kubectl("delete", "storageclass", later["metadata"]["name"])
    print(f"digest {end['result']['digest']} = {local_digest}; 4 of 4 were reserved and 0 of 4 bound when {len(killed)} schedulers were killed")


def test_controller_killed(installed, space, local_digest):
    """The one with the lease, while a rank is dead: the next one finds what it left."""
    begin(installed, space)
    wait_for_checkpoint(installed, space, 40)
    first, since = leader(installed, "thole-controller")
    pid = rank_pid(installed, space, 0)
    [controller] = processes("/thole-controller", HOSTNAME=first)
    os.kill(controller, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    seconds = until_it_goes_on(installed, space)
    end = check_end(installed, space, local_digest, 1)
    assert leader(installed, "thole-controller")[1] > since  # the other one has the lease, or who came in the killed one's place
    incidents.record("kubernetes", "rank and controller killed", end["result"]["digest"], seconds)
    assert (end["incidents"][0]["kind"], end["incidents"][0]["rank"]) == ("Signal", 0), end["incidents"]
    print(f"digest {local_digest} = {local_digest} with the controller killed as well")


def test_stop_saves_first(installed, thole, space):
    begin(installed, space)
    wait_for_checkpoint(installed, space, 40)
    assert "asked to save first" in thole("cancel", "digits", "-n", space).stdout
    end = wait_for_phase(installed, space, "Stopped")
    assert end.get("incidents", []) == [] and 40 <= end["checkpoint"] < 200
    # No step is lost. That of the last checkpoint is no multiple of the interval but by chance: it was made because the job was to stop.
    assert end["checkpoint"] == end["progress"]["step"] == checkpoints(installed, space)[-1], (end, checkpoints(installed, space))
    print(f"stopped with a last checkpoint of step {end['checkpoint']}, which was the last that was done")


def test_key_is_nowhere(installed, space):
    """Its bytes are in no object but the Secret, no event, no log and no environment; no other namespace gets at them."""
    begin(installed, space)
    wait_for_checkpoint(installed, space, 20)
    key = (installed.d / f"{space}.key").read_bytes()
    word = key.split()[1]  # docs/reference/checkpoint-format.md has the file's form; 40 digits of base64 are the same with the sum at its end and without
    secret = base64.b64decode(word)[:32]
    assert base64.b64decode(word)[32:] == hashlib.sha256(secret).digest()[:4]
    forms = [base64.b64encode(key), key.strip().hex().encode(), word[:40], secret, secret.hex().encode(), secret.hex().upper().encode()]
    run = job(installed, space)["metadata"]["uid"]
    places = {}
    for pod in members(installed, space, 1):
        places[f"log of {pod['metadata']['name']}"] = logs(installed, space, pod["metadata"]["name"]).encode()
    for pod in installed.api.list("pods", "thole-system"):
        for container in pod["spec"]["containers"]:
            where = f"log of {pod['metadata']['name']}, {container['name']}"
            places[where] = installed.kubectl("logs", "-n", "thole-system", pod["metadata"]["name"], "-c", container["name"]).stdout.encode()
    for name in ("thole-scheduler", "thole-controller"):
        assert sum(where.startswith(f"log of {name}-") and len(text) > 0 for where, text in places.items()) == 2, list(places)  # both of each
    for node in installed.nodes:
        places[f"log of {node.name}, kubelet"] = (node.d / "kubelet.log").read_bytes()
    for pid in processes("train.py", THOLE_RUN=run):
        places[f"environment of {pid}"] = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    pid = rank_pid(installed, space, 0)
    assert inside(pid, "thole/run/key").stat().st_mode & 0o777 == 0o400
    # Every object of every kind that can be listed, and a look at the one that has it, to know that it would be found.
    kinds = installed.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    assert {"secrets", "pods", "events", "configmaps", "leases.coordination.k8s.io", "trainingjobs.thole.dev"} <= set(kinds), kinds
    for kind in kinds:
        places[kind] = installed.kubectl("get", kind, "-A", "-o", "json").stdout.encode()
    found = [where for where, text in places.items() if any(form in text for form in forms)]
    assert found == ["secrets"] and len(places) >= 10 + len(kinds), (found, list(places))
    for account in ("thole-controller", "thole-scheduler"):
        for namespace in (space, "default"):
            answer = installed.kubectl("auth", "can-i", "get", "secrets", "-n", namespace, f"--as=system:serviceaccount:thole-system:{account}", check=False)
            assert answer.stdout.strip() == "no", account
    # A pod of another namespace that names the Secret does not get one.
    other = f"{space}-other"
    installed.kubectl("create", "namespace", other)
    thief = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "thief", "namespace": other}, "spec": {
        "containers": [{"name": "main", "image": "thole.local/digits:0.1.0", "command": ["cat", "/key/key"],
                        "volumeMounts": [{"name": "key", "mountPath": "/key"}]}],
        "volumes": [{"name": "key", "secret": {"secretName": "digits"}}]}}
    installed.wait_for(lambda: installed.api.find("serviceaccounts", "default", other), "the namespace to be ready")
    installed.api.create("pods", thief)
    installed.wait_for(lambda: any('secret "digits" not found' in e.get("message", "") for e in installed.api.list("events", other)),
                       "the kubelet to say that there is no such Secret")
    installed.kubectl("delete", "namespace", other, "--wait=false")
    print(f"{len(places) - 1} of {len(places)} places, {len(kinds)} of them kinds of objects, without the key, which only the Secret has; another namespace's pod does not start")


def test_node_lost(installed, space, local_digest):
    """All of a node is killed at once, as if it had lost its power; what it ran goes on elsewhere."""
    begin(installed, space)
    wait_for_checkpoint(installed, space, 60)
    name = members(installed, space, 1)[0]["spec"]["nodeName"]
    node = next(n for n in installed.nodes if n.name == name)
    # What of ours goes with the node: where both replicas are on it, others have to be made first, after the 30 s of their tolerations.
    lead = {leader(installed, program)[0] for program in ("thole-scheduler", "thole-controller")}
    lost = [p["metadata"]["name"] + " (leads)" * (p["metadata"]["name"] in lead) for p in installed.api.list("pods", "thole-system") if p["spec"].get("nodeName") == name]
    node.stop()
    at = time.time()
    try:
        seconds = until_it_goes_on(installed, space)
        end = check_end(installed, space, local_digest, 1)
        incidents.record("kubernetes", "node killed", end["result"]["digest"], seconds)
    finally:
        node.start(installed.nodes)
        installed.wait_for(lambda: capacity(installed, name) and installed.is_ready(name), f"{name} to be back", said=node.said)
    assert (end["incidents"][0]["kind"], end["incidents"][0]["node"]) == ("Node", name), end["incidents"]
    after = datetime.fromisoformat(end["incidents"][0]["time"].replace("Z", "+00:00")).timestamp() - at
    print(f"digest {local_digest} = {local_digest}: {end['incidents'][0]['message']}, seen after {after:.1f} s (grace period of the cluster: 20 s); with it: {', '.join(lost)}")
