"""What the manifests install: who may do what, what is refused at the door, and what is said of a bad job file."""
from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest
import yaml
from client import Client, Refused
from installed import ADAPTER, ROOT, capacity, describe, make_store, status, wait_for_phase
from pods import pod

ACCOUNT = "system:serviceaccount:thole-system:"


def documents(*names):
    return [d for name in names for d in yaml.safe_load_all((ADAPTER / "deploy" / name).read_text())]


def test_rights_of_the_controller_verb_by_verb(installed):
    """It may do what its role says, each, and nothing beside it that would hurt."""
    asked = 0
    for rule in next(d for d in documents("controller-rights.yaml") if d["kind"] == "ClusterRole")["rules"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                what, _, part = resource.partition("/")
                group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] else ""
                words = ["auth", "can-i", verb, what + group, "-A", f"--as={ACCOUNT}thole-controller", *([f"--subresource={part}"] if part else [])]
                assert installed.kubectl(*words, check=False).stdout.strip() == "yes", words
                asked += 1
    denied = [("get", "secrets"), ("list", "secrets"), ("create", "pods/exec"), ("delete", "nodes"), ("update", "nodes"), ("create", "pods/binding"),
              ("delete", "trainingjobs.thole.dev"), ("create", "trainingjobs.thole.dev"), ("create", "deployments.apps"), ("get", "configmaps")]
    for account in ("thole-controller", "thole-scheduler"):
        for verb, what in denied:
            what, _, part = what.partition("/")
            if (account, verb, what) in (("thole-scheduler", "create", "pods"), ("thole-scheduler", "get", "configmaps")):
                continue  # a scheduler binds
            words = ["auth", "can-i", verb, what, "-A", f"--as={ACCOUNT}{account}", *([f"--subresource={part}"] if part else [])]
            assert installed.kubectl(*words, check=False).stdout.strip() == "no", words
    print(f"{asked} of {asked} verbs of its role are allowed")


@pytest.mark.parametrize("resource, scheduler, sentence", [
    ("thole.dev/vgpu-memory-mib", "default-scheduler", "schedulerName: thole-scheduler"),
    ("thole.dev/gpu", "", "schedulerName: thole-scheduler"),
    ("vgpu.memory", "thole-scheduler", "must be a standard resource type or fully qualified"),  # Kubernetes itself, before any policy
    ("seed.example/vgpu.memory", "default-scheduler", "write `thole.dev/vgpu-memory-mib`"),
])
def test_refused_at_the_door(installed, resource, scheduler, sentence):
    """The default scheduler would overcommit single GPUs; the resource of another world would wait for ever."""
    thing = pod("bad", 0, scheduler=scheduler or "default-scheduler")
    if not scheduler:
        del thing["spec"]["schedulerName"]
    thing["spec"]["containers"][0]["resources"] = {"limits": {resource: "1"}, "requests": {resource: "1"}}
    with pytest.raises(Refused) as refusal:
        installed.api.create("pods", thing)
    assert sentence in refusal.value.message, refusal.value.message
    print(refusal.value.message)


def sentences(file):
    """What the local platform says of a file, without the places, which JSON does not have."""
    done = subprocess.run([os.environ["THOLE_COMMAND"], "--json", "validate", file], capture_output=True, text=True, check=False)
    return [n["message"] for f in json.loads(done.stdout)["files"] for n in f["notes"] if n["error"]]


def as_stored(thing):
    """As the API server has it: 1.0 is 1 there, what is null is not there, and what no 64 bits hold is another number."""
    def whole(text):
        assert abs(int(text)) < 1 << 63
        return int(text)

    def without_null(pairs):
        return {name: value for name, value in pairs if value is not None}

    return json.loads(json.dumps(thing), object_pairs_hook=without_null, parse_float=lambda f: int(float(f)) if float(f).is_integer() else float(f), parse_int=whole)


def test_bad_job_files_get_the_same_sentences(installed, tmp_path):
    """Every bad TrainingJob of tests/files that is YAML for kubectl, too, and that the API server lets in."""
    looked, left_out = 0, []
    space = "bad-files"
    installed.kubectl("create", "namespace", space)
    for file in sorted((ROOT / "tests/files/bad").glob("*")):
        try:
            [thing] = yaml.safe_load_all(file.read_text())
            assert isinstance(thing, dict) and thing["kind"] == "TrainingJob" and isinstance(thing["spec"], dict)
            thing = as_stored(thing)
            text = json.dumps({**thing, "apiVersion": "thole.dev/v1alpha1", "metadata": {"name": f"bad-{looked}"}})
        except Exception:  # not a file that kubectl can send: it has no such YAML, kind or spec
            left_out.append(file.name)
            continue
        plain = tmp_path / "job.json"
        plain.write_text(text)
        wanted = sentences(plain)
        if not wanted:
            left_out.append(file.name)  # what was bad about it was its YAML or its metadata
            continue
        name = f"bad-{looked}"
        installed.kubectl("apply", "-f", "-", given=json.dumps({**json.loads(text), "metadata": {"name": name, "namespace": space}}))
        found = wait_for_phase(installed, space, "Refused", name=name, seconds=30)
        [accepted] = [c for c in found["conditions"] if c["type"] == "Accepted"]
        assert accepted["status"] == "False" and all(w in accepted["message"] for w in wanted), (file.name, accepted, wanted)
        assert not installed.api.list("pods", space)
        looked += 1
    assert looked >= 55, left_out
    print(f"{looked} of {looked} bad files have the local sentence; {len(left_out)} are not YAML or objects that kubectl can send")


def test_waits_with_a_reason_and_explains(installed, thole, request):
    """Four members of 90 GiB do not fit four GPUs of 96 GiB of which two are taken."""
    space = "waits"
    make_store(installed, space, os.environ["THOLE_COMMAND"])
    text = (ROOT / "samples/digits/job.yaml").read_text().replace("memory: 10Gi, share: 0.25", "memory: 90Gi, share: 0.25")
    holder = {"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "holder"}, "spec": {
        "roles": [{"name": "r", "members": 2, "vgpu": {"memory": "80Gi"}, "cpu": "10m", "memory": "32Mi", "command": ["sleep", "600"]}]}}
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps(holder))
    wait_for_phase(installed, space, "Running", name="holder")
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, seconds=120))
    installed.kubectl("apply", "-n", space, "-f", "-", given=text)

    def placed():
        return next((c for c in status(installed, space).get("conditions", []) if c["type"] == "Placed" and c["status"] == "False"), None)

    why = installed.wait_for(placed, "a reason why the job waits")
    assert why["reason"] == "GangNoFitInCluster" and "the most memory free for one more vGPU on one GPU is" in why["message"], why
    assert why["message"] in thole("explain", "digits", "-n", space).stdout
    assert "GangNoFitInCluster" in installed.kubectl("describe", "tj", "digits", "-n", space).stdout
    changed = installed.kubectl("patch", "tj", "digits", "-n", space, "--type=merge", "-p", '{"spec": {"gracePeriod": "1m"}}', check=False)
    assert changed.returncode != 0 and "cannot be changed" in changed.stderr
    installed.kubectl("delete", "tj", "holder", "-n", space)
    wait_for_phase(installed, space, "Running", "Complete")
    stopped = thole("cancel", "digits", "-n", space)
    assert "asked to save first" in stopped.stdout
    wait_for_phase(installed, space, "Stopped", "Complete")
    print(f"{why['reason']}: {why['message']}")


def test_command(installed, thole):
    assert thole("status", "nobody", check=False).returncode == 66
    assert thole("logs", "nobody", check=False).returncode == 66
    assert thole("status", "--colour", check=False).returncode == 64
    answer = json.loads(thole("--json", "status").stdout)
    assert answer == {"jobs": []} and "thole --on kubernetes" in thole("--help").stdout
    done = thole("submit", ROOT / "samples/digits/pool.yaml", check=False)
    assert done.returncode == 65 and "a TrainingJob is wanted here" in done.stderr
    lost = thole("--kubeconfig", "/nonexistent", "status", check=False)
    assert lost.returncode == 69, lost.stderr


def test_a_node_made_anew_gets_its_capacity(installed):
    """A kubelet that begins anew sets resources that it does not know to zero."""
    node = installed.nodes[-1].name
    before = capacity(installed, node)
    assert before > 0
    installed.api.patch("nodes", node, {"status": {"capacity": {"thole.dev/vgpu-memory-mib": "0"}, "allocatable": {"thole.dev/vgpu-memory-mib": "0"}}}, part="status")
    installed.wait_for(lambda: capacity(installed, node) == before, "the capacity to be written again")


def test_real_gpus_are_what_the_driver_of_a_node_says(installed, request):
    """A node of a pool that is not simulated: thole-node finds no driver, capacity is zero with the reason; before it looks, that is told."""
    node = installed.nodes[-1].name
    before = capacity(installed, node)
    request.addfinalizer(lambda: installed.wait_for(lambda: capacity(installed, node) == before, "the simulated capacity to be back"))
    request.addfinalizer(lambda: installed.kubectl("label", "--overwrite", "node", node, "thole.dev/pool=desk"))
    installed.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "thole.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": "real"},
                                                            "spec": {"vgpu": {"memory": "10Gi"}}}))
    installed.api.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare", "labels": {"thole.dev/pool": "real"}}})

    def ready():
        conditions = installed.api.get("nodepools", "real").get("status", {}).get("conditions", [])
        return next((f"{c['reason']}: {c['message']}" for c in conditions if c["type"] == "Ready"), "")

    installed.wait_for(lambda: ready().startswith("NoNodeAgent: node bare"), "the pool to say that nobody looks", said=ready)
    installed.api.delete("nodes", "bare")
    installed.kubectl("label", "--overwrite", "node", node, "thole.dev/pool=real")
    found = installed.wait_for(lambda: installed.api.get("nodes", node)["metadata"]["annotations"].get("thole.dev/device-reason"), "a reason",
                               said=lambda: describe(installed, "thole-system"))
    assert found.startswith(("NoDriver:", "PluginNotLoaded:")) and capacity(installed, node) == 0, found
    installed.wait_for(lambda: ready().startswith(f"NoDevices: node {node}"), "the pool to say why", said=ready)
    installed.kubectl("delete", "nodepool", "real")
    print(found)


def test_an_agent_changes_its_own_node_only(installed):
    """With the token of its pod, which says where it is."""
    first, other = (n.name for n in installed.nodes)
    agent = next(p for p in installed.api.list("pods", "thole-system") if p["metadata"]["labels"].get("app") == "thole-node" and p["spec"].get("nodeName") == first)
    made = installed.api.call("POST", "/api/v1/namespaces/thole-system/serviceaccounts/thole-node/token", {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": agent["metadata"]["name"], "uid": agent["metadata"]["uid"]}}})
    api = Client(installed.address, 6443, installed.d / "pki/ca.crt", token=made["status"]["token"])
    note = {"metadata": {"annotations": {"thole.dev/test": "1"}}}
    api.patch("nodes", first, note)
    with pytest.raises(Refused) as refusal:
        api.patch("nodes", other, note)
    assert "and no other" in refusal.value.message
    with pytest.raises(Refused) as refusal:
        api.patch("nodes", other, {"status": {"capacity": {"thole.dev/gpu": "9"}}}, part="status")
    assert "and no other" in refusal.value.message


def test_pods_that_the_cluster_does_not_take_are_offered_again(installed, request):
    """A quota that is used up is told, and is no end: once it is raised the job runs."""
    space = "quota"
    installed.kubectl("create", "namespace", space)
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, seconds=120))
    installed.kubectl("create", "quota", "few", "--hard=pods=1", "-n", space)
    job = {"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "two"}, "spec": {"timeLimit": "40s", "gracePeriod": "1s", "roles": [
        {"name": "r", "members": 2, "vgpu": {"memory": "1Gi"}, "cpu": "10m", "memory": "32Mi", "command": ["sleep", "600"]}]}}
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps(job))

    def placed():
        return next((c for c in status(installed, space, "two").get("conditions", []) if c["type"] == "Placed" and c["reason"] == "PodRefused"), None)

    said = installed.wait_for(placed, "the job to say that the cluster refuses it")
    assert "exceeded quota" in said["message"], said
    installed.kubectl("delete", "quota", "few", "-n", space)
    wait_for_phase(installed, space, "Running", name="two")
    found = wait_for_phase(installed, space, "Stopped", name="two")  # its time limit
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "TimeLimit" and "the time limit of 40s is over" in ready["message"], ready
    print(f"PodRefused, then Running, then {ready['reason']}: {ready['message']}")


def test_what_the_cluster_has_runs_locally_again(installed, tmp_path, request):
    """`kubectl get -o yaml` of a job, with status and all, is a job file."""
    space = "again"
    installed.kubectl("create", "namespace", space)
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, seconds=120))
    job = {"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "one"}, "spec": {"roles": [
        {"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "10m", "memory": "32Mi", "command": ["true"]}]}}
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps(job))
    wait_for_phase(installed, space, "Complete", name="one")
    file = tmp_path / "job.yaml"
    file.write_text(installed.kubectl("get", "tj", "one", "-n", space, "-o", "yaml").stdout)
    assert "status:" in file.read_text() and "managedFields" not in file.read_text()
    done = subprocess.run([os.environ["THOLE_COMMAND"], "--state", tmp_path / "state", "--json", "run", file, "--pool", ROOT / "samples/digits/pool.yaml"],
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
