"""What the manifests install: who may do what, what is refused at the door, and what is said of a bad job file."""
from __future__ import annotations

import json
import os
import pathlib
import re
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


# Rights that nobody uses in these tests, and why they are there.
UNASKED = {("thole-controller", "update", "thole.dev", "trainingjobs/finalizers"): "asked for by the API server's plugin OwnerReferencesPermissionEnforcement, where it is on",
           ("thole-controller", "patch", "events.k8s.io", "events"): "an event that is repeated on the same version of an object"}


@pytest.mark.last
def test_no_right_is_left_unused(installed, whole_cluster, request):
    """The API servers have written down what our accounts asked for while all tests ran: each verb of each role is among it."""
    if lacking := {f.name for f in pathlib.Path(__file__).parent.glob("test_*.py")} - {item.path.name for item in request.session.items}:
        pytest.skip(f"needs the tests of all files: {', '.join(sorted(lacking))} were left out")
    used = set()
    for line in (line for c in (installed, whole_cluster) for line in (c.d / "log/audit.log").read_text().splitlines()):
        asked = json.loads(line)
        what = asked.get("objectRef", {})
        if asked["responseStatus"]["code"] < 400:
            part = f"/{what['subresource']}" if "subresource" in what else ""
            used.add((asked["user"]["username"].removeprefix(ACCOUNT), asked["verb"], what.get("apiGroup", ""), what.get("resource", "") + part))
    roles = [d for d in documents("controller-rights.yaml", "scheduler-rights.yaml", "node-rights.yaml") if d["kind"] in ("ClusterRole", "Role")]
    granted = {(role["metadata"]["name"].removesuffix("-leader"), verb, group, resource) for role in roles for rule in role["rules"]
               for verb in rule["verbs"] for group in rule["apiGroups"] for resource in rule["resources"]}
    # A watch that begins with what is there needs no list, where the API server has such watches.
    streamed = {(who, "list", *what) for who, verb, *what in used if verb == "watch"}
    unused = granted - used - streamed - set(UNASKED)
    print(f"{len(granted & used)} of {len(granted)} rights were used; {len(granted & streamed - used)} are lists in the place of which a watch was used; {len(UNASKED)} are named: "
          f"{'; '.join(f'{verb} {what}: {why}' for (_, verb, _, what), why in UNASKED.items())}")
    assert not unused, "\n".join(map(str, sorted(unused)))


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


@pytest.mark.parametrize("scheduler", ["thole-scheduler", "scheduler-plugins-scheduler"])
def test_let_in_at_the_door(installed, scheduler):
    """Both names of ours; the second is the one that KubeRay's operator gives to the pods of a RayCluster. Both profiles are there and place."""
    name = f"let-in-{scheduler}"
    thing = pod(name, 64, scheduler=scheduler)
    installed.api.create("pods", thing)
    try:
        node = installed.wait_for(lambda: installed.api.get("pods", name)["spec"].get("nodeName"), f"{name} to be bound")
        print(f"{scheduler}: bound to {node}")
    finally:
        installed.api.delete("pods", name)
        installed.wait_for(lambda: name not in [p["metadata"]["name"] for p in installed.api.list("pods")], "the pod to be gone")


def sentences(file):
    """What the local platform says of a file, without the places, which JSON does not have."""
    done = subprocess.run([os.environ["THOLE_COMMAND"], "--json", "validate", file], capture_output=True, text=True, check=False, timeout=60)
    return [n["message"] for f in json.loads(done.stdout)["files"] for n in f["notes"] if n["error"]]


# Bad by then, too, but not word for word: kubectl's YAML has made another value of it (010 is 8, 1e3 is 1000, on is true), which the sentence names.
CHANGED = ("integer-010", "integer-1e3", "integer-huge", "memory-exponent", "not-utf8", "queue-on", "string-no")


def test_bad_job_files_get_the_same_sentences(installed, thole, tmp_path):
    """Each bad job file of tests/files, sent as it is: `kubectl apply -f FILE`. What kubectl and the API server let in is refused with
    the local platform's sentence; what they do not let in is never there, and `thole submit` says the local sentence of it."""
    space = "bad-files"
    installed.kubectl("create", "namespace", space)
    files = [f for f in sorted((ROOT / "tests/files/bad").glob("*")) if not f.name.startswith("pool-")]
    by_us, by_others, mended = {}, {}, {}
    for file in files:
        local = sentences(file)
        done = installed.kubectl("apply", "-n", space, "-f", file, check=False)
        stored = installed.api.list("trainingjobs", space)
        assert local and (stored or done.returncode != 0), (file.name, done, local)
        if not stored:
            submitted = thole("submit", file, "-n", space, check=False)
            assert submitted.returncode == 65 and all(w in submitted.stderr for w in local), (file.name, submitted.stderr, local)
            by_others[file.name] = done.stderr.strip().splitlines()[-1]
            continue
        now = sentences(as_file(stored[0], tmp_path / "stored.json"))
        if now:
            check_refused(installed, space, stored[0]["metadata"]["name"], now)
            by_us[file.name] = now == local
        else:
            mended[file.name] = " ".join(local)
        installed.kubectl("delete", "tj", "--all", "-n", space)
    print(f"{len(files)} bad job files; {len(by_us)} of {len(by_us)} are refused with the local sentence, word for word as of the file itself: {sum(by_us.values())}")
    for title, found in (("by kubectl or the API server, and by `thole submit` with the local sentence", by_others), ("another job by then", mended)):
        print(f"{len(found)} {title}\n" + "\n".join(f"  {name}: {why}" for name, why in found.items()))
    assert (len(by_us), len(by_others), len(mended), len(files)) == (58, 17, 10, 85)
    assert {name for name, same in by_us.items() if not same} == {f"{name}.yaml" for name in CHANGED}, by_us


def as_file(stored, path):
    """The job that the API server has, as a file for the local platform."""
    path.write_text(json.dumps({"apiVersion": stored["apiVersion"], "kind": stored["kind"], "metadata": {"name": stored["metadata"]["name"]}, "spec": stored.get("spec")}))
    return path


def check_refused(cluster, space, name, wanted):
    found = wait_for_phase(cluster, space, "Refused", name=name, seconds=30)
    [accepted] = [c for c in found["conditions"] if c["type"] == "Accepted"]
    assert accepted["status"] == "False" and all(w in accepted["message"] for w in wanted), (accepted, wanted)
    assert not cluster.api.list("pods", space)


def test_waits_with_a_reason_and_explains(installed, thole, request):
    """Four members of 90 GiB do not fit four GPUs of 96 GiB of which two are taken."""
    space = "waits"
    make_store(installed, space, os.environ["THOLE_COMMAND"])
    text = (ROOT / "samples/digits/job.yaml").read_text().replace("memory: 10Gi, share: 0.25", "memory: 90Gi, share: 0.25")
    text = text.replace("[python3, train.py]", '[python3, train.py, --steps, "1000000"]')  # only who cancels it ends it
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
    described = installed.kubectl("describe", "tj", "digits", "-n", space).stdout
    assert "GangNoFitInCluster" in described and "the most memory free for one more vGPU on one GPU is" in described, described
    changed = installed.kubectl("patch", "tj", "digits", "-n", space, "--type=merge", "-p", '{"spec": {"gracePeriod": "1m"}}', check=False)
    assert changed.returncode != 0 and "cannot be changed" in changed.stderr
    installed.kubectl("delete", "tj", "holder", "-n", space)
    wait_for_phase(installed, space, "Running")
    stopped = thole("cancel", "digits", "-n", space)
    assert "asked to save first" in stopped.stdout
    wait_for_phase(installed, space, "Stopped")
    print(f"{why['reason']}: {why['message']}")


def apply_job(cluster, space, name, **spec):
    cluster.kubectl("apply", "-n", space, "-f", "-", given=json.dumps(
        {"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}))


def test_cancel_now_waits_for_nobody(installed, thole, request):
    """A rank that does not hear is killed at once, though the job's grace period is five minutes."""
    space = "cancel-now"
    installed.kubectl("create", "namespace", space)
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, seconds=120))
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    apply_job(installed, space, "deaf", gracePeriod="5m", roles=[
        {"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "200m", "memory": "32Mi", "command": ["python3", "-c", deaf]}])
    wait_for_phase(installed, space, "Running", name="deaf")
    installed.wait_for(lambda: "0| deaf" in thole("logs", "deaf", "-n", space, check=False).stdout, "the rank to be deaf")
    assert "is being killed" in thole("cancel", "deaf", "-n", space, "--now").stdout
    end = wait_for_phase(installed, space, "Stopped", name="deaf", seconds=60)
    assert end.get("incidents", []) == [], end


# What a launcher finds, and whether anybody in the container can change the record: the mount itself refuses, whoever asks.
LAUNCHER = """
import errno, json, os
seen = {"environment": dict(os.environ)}
record = os.environ["THOLE_RECORD"]
for what in (lambda: open(os.path.realpath(record), "a"), lambda: os.unlink(os.path.realpath(record)), lambda: os.symlink("other", os.path.dirname(record) + "/link")):
    try:
        what()
        seen["record"] = "changed"
    except OSError as refusal:
        seen.setdefault("record", []).append(errno.errorcode[refusal.errno])
seen["text"] = open(record).read()
seen["readable"] = sorted(n for n, path in os.environ.items() if n.startswith("THOLE_") and path.startswith("/") and os.access(path, os.R_OK))
print(json.dumps(seen), flush=True)
"""


def variables():
    """All that docs/reference/job-environment.md has: those of its table, and those of launchers."""
    text = (ROOT / "docs/reference/job-environment.md").read_text().split("## Variables")[1].split("## The socket")[0]
    table = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    return set(re.findall(r"`(\w+)`", table)) | set(re.findall(r"`(THOLE_[A-Z_]+)`", text.split("**Launchers.**")[1]))


def test_what_a_launcher_finds(installed, request):
    """Two members of two ranks each: one pod a member, with the first of its ranks, on a record that is mounted read-only."""
    space = "launcher"
    make_store(installed, space, os.environ["THOLE_COMMAND"])
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, seconds=120))
    apply_job(installed, space, "launcher", checkpoint={"store": "checkpoints", "key": "digits", "interval": 10, "keep": 2}, roles=[
        {"name": "r", "members": 2, "ranksPerMember": 2, "vgpu": {"memory": "1Gi"}, "cpu": "200m", "memory": "64Mi", "command": ["python3", "-c", LAUNCHER]}])
    wait_for_phase(installed, space, "Complete", name="launcher")
    run = installed.api.get("trainingjobs", "launcher", space)["metadata"]["uid"]
    first = installed.api.get("pods", "launcher-1-r-0", space)["status"]["podIP"]
    seen = [json.loads(installed.kubectl("logs", "-n", space, f"launcher-1-r-{n}", "-c", "main").stdout) for n in range(2)]
    every = variables()
    for n, one in enumerate(seen):
        found = one["environment"]
        assert one["record"] == ["EACCES", "EROFS", "EROFS"], one  # the file's mode, and the mount
        assert "vgpu 1024" in one["text"], one["text"]
        wanted = {"RANK": str(2 * n), "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": str(n), "MASTER_ADDR": first,
                  "THOLE_RANKS_PER_MEMBER": "2", "THOLE_FIRST_RANK": str(2 * n), "THOLE_JOB": "launcher", "THOLE_ATTEMPT": "1", "THOLE_RUN": run,
                  "THOLE_CHECKPOINT_INTERVAL": "10", "THOLE_CHECKPOINT_KEEP": "2", "CUDA_VISIBLE_DEVICES": ""}
        assert {name: found.get(name) for name in wanted} == wanted, found
        # Of a key and a program that has it there is one; all else that is written down is there, and what is a path leads somewhere.
        assert every - found.keys() == {"THOLE_KEY_HELPER"} and all(found[name] for name in every & found.keys() - {"CUDA_VISIBLE_DEVICES"}), found
        assert {"THOLE_RECORD", "THOLE_SOCKET", "THOLE_STORE", "THOLE_KEY", "THOLE_LIBRARY"} <= set(one["readable"]), one
    assert seen[0]["environment"]["MASTER_PORT"] == seen[1]["environment"]["MASTER_PORT"]
    print(f"{len(seen)} of {len(seen)} launchers found {len(every) - 1} of {len(every)} variables that are written down, all but THOLE_KEY_HELPER")


# Two ranks that know where they are to meet, and nothing of Thole.
PLAIN = """
import os, socket, time
rank, ranks, port = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["MASTER_PORT"])
if rank == 0:
    peer, _ = socket.create_server(("", port)).accept()
else:
    while True:
        try:
            peer = socket.create_connection((os.environ["MASTER_ADDR"], port), timeout=60)
            break
        except OSError:
            time.sleep(0.1)
peer.sendall(f"{rank} of {ranks}\\n".encode())
print("met", peer.makefile().readline(), flush=True)
"""


def test_a_script_that_knows_nothing_of_thole(installed, thole, request):
    space = "plain"
    installed.kubectl("create", "namespace", space)
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, seconds=120))
    apply_job(installed, space, "plain", roles=[
        {"name": "r", "members": 2, "vgpu": {"memory": "1Gi"}, "cpu": "200m", "memory": "32Mi", "command": ["python3", "-c", PLAIN]}])
    end = wait_for_phase(installed, space, "Complete", name="plain")
    said = thole("logs", "plain", "-n", space).stdout
    assert "0| met 1 of 2" in said and "1| met 0 of 2" in said and end.get("incidents", []) == [], said


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
    assert found.startswith(("NoDriver:", "PluginNotLoaded:")), found
    installed.wait_for(lambda: capacity(installed, node) == 0, "the capacity to be zero", said=lambda: str(capacity(installed, node)))  # written after the reason
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
