"""What somebody may try who is careless, or means harm: nodes that lie, annotations of any size, names that are taken, objects that are
torn out, a store that is full. Nothing of it ends a program of ours, and others are served."""
from __future__ import annotations

import json
import os
import pathlib

import pytest
import yaml
from client import Client, Refused
from installed import ADAPTER, DIGITS, job, make_store, members, processes, status, wait_for_checkpoint, wait_for_phase
from pods import add_node, audit, bound, pod, why

# --- The scheduler, on simulated nodes. ------------------------------------------------------------------------------

CARD = {"uuid": "SIM-liar", "model": "simulated", "memoryMiB": 8192, "contextMiB": 0, "simulated": True}
LIES = {
    "not-json": "[{", "no-list": '{"uuid": "SIM-liar"}', "null": "null", "negative": json.dumps([{**CARD, "memoryMiB": -1}]),
    "no-number": json.dumps([{**CARD, "memoryMiB": "8192"}]), "too-large": json.dumps([{**CARD, "memoryMiB": 2**63}]),
    "no-name": json.dumps([{**CARD, "uuid": ""}]), "twice": json.dumps([CARD, CARD]), "same-as-a": json.dumps([{**CARD, "uuid": "SIM-a-0"}]),
    "odd-name": json.dumps([{**CARD, "uuid": "SIM-\n\u0000žluť"}]), "long-name": json.dumps([{**CARD, "uuid": "S" * 5000}]),
    "many": json.dumps([{"uuid": f"SIM-many-{i}", "model": "m", "memoryMiB": 8192} for i in range(4000)]),
}


def test_nodes_that_lie_about_their_gpus(cluster):
    """Each beside an honest one: nothing is placed on what cannot be, no GPU is held twice, and the scheduler goes on."""
    add_node(cluster, "a")
    cluster.api.create("pods", pod("first", 8192))
    cluster.wait_for(lambda: "first" in bound(cluster), "the honest node to be used")
    assert max(len(text) for text in LIES.values()) > 200 << 10
    for name, text in LIES.items():
        # From the first: nodes and pods are heard separately, and a node that was honest for a moment could be used in it.
        add_node(cluster, name, gpus=2, written=text)
        cluster.api.create("pods", pod(f"on-{name}", 8192, nodeSelector={"kubernetes.io/hostname": name}))
    told = {}
    for name in LIES:
        told[name] = cluster.wait_for(lambda: why(cluster, f"on-{name}"), f"the pod for {name} to be told to wait",
                                      said=lambda: f"{bound(cluster)}\n{cluster.log('thole-scheduler')}")
        assert f"on-{name}" not in bound(cluster), name
    held = audit(cluster)
    assert held["SIM-a-0"] == 8192
    add_node(cluster, "b")
    cluster.api.create("pods", pod("second", 8192, nodeSelector={"kubernetes.io/hostname": "b"}))
    cluster.wait_for(lambda: "second" in bound(cluster), "another honest node to be used", said=lambda: why(cluster, "second"))
    assert set(bound(cluster)) == {"first", "second"}  # by now all that was heard of the others was heard long ago
    assert cluster.pid("thole-scheduler")
    print(f"{len(told)} of {len(LIES)} lies hold nothing: {told['same-as-a']}")


def test_annotations_of_any_size_are_told_in_a_sentence(cluster):
    """Up to the 256 KiB that an object may have; what is told is short, so that it can be told."""
    add_node(cluster, "a", gpus=4)
    huge = 250 << 10
    wishes = {"topology": ("thole.dev/topology", "[" * huge), "role-topology": ("thole.dev/role-topology", "x" * huge), "vgpus": ("thole.dev/vgpus", "9" * huge),
              "mode": ("thole.dev/role-topology", json.dumps([{"level": "l", "mode": "m" * (huge - 100)}])),
              "size": ("thole.dev/gang-size", "1" * huge), "model": ("thole.dev/gpu-model", "ž" * (huge // 2))}
    for name, (key, text) in wishes.items():
        thing = pod(name, 1024, gang=name)
        thing["metadata"]["annotations"] = {"thole.dev/gang-size": "1", key: text}
        cluster.api.create("pods", thing)
    for name in wishes:
        said = cluster.wait_for(lambda: why(cluster, name), f"{name} to be told", said=lambda: cluster.log("thole-scheduler"))
        assert len(said) < 2000, f"{name}: {len(said)} bytes: {said[:300]}"
        assert name not in bound(cluster)
    cluster.api.create("pods", pod("honest", 1024))
    cluster.wait_for(lambda: "honest" in bound(cluster), "an honest pod to be bound")
    print(f"{len(wishes)} of {len(wishes)} annotations of 250 KiB are told in a sentence")


# --- Jobs, on two real nodes. -----------------------------------------------------------------------------------------

ROLE = {"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "10m", "memory": "64Mi", "command": ["true"]}


@pytest.fixture
def space(installed, request):
    name = request.node.name.replace("_", "-").replace("test-", "")[:40].strip("-")
    installed.kubectl("create", "namespace", name)
    installed.wait_for(lambda: installed.api.find("serviceaccounts", "default", name), "the namespace to be ready")
    yield name
    installed.kubectl("delete", "tj", "--all", "-n", name, "--timeout=90s", seconds=120)


def apply(cluster, space, name, role=None, **spec):
    spec = {"roles": [{**ROLE, **(role or {})}], **spec}
    cluster.kubectl("apply", "-n", space, "-f", "-", given=json.dumps({"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}))


def condition(cluster, space, name, kind):
    return next((c for c in status(cluster, space, name).get("conditions", []) if c["type"] == kind), {})


def test_names_of_52_characters_and_words_of_any_script(installed, space):
    """The longest names that a job file takes, in every label, pod and event; and text that is not ASCII reaches the rank as it was written."""
    name, role = "j" * 52, "r" * 52
    word = "žluťoučký 馬 \U0001F40E"
    script = f"import os, sys; sys.exit(0 if os.environ['WORD'] == {word!r} and sys.argv[1] == {word!r} else 3)"
    apply(installed, space, name, {"name": role, "members": 2, "command": ["python3", "-c", script, word], "env": {"WORD": word}})
    end = wait_for_phase(installed, space, "Complete", name=name)
    assert not end.get("incidents"), end
    [one, _] = members(installed, space, 1, name)
    assert one["metadata"]["name"] == f"{name}-1-{role}-0"
    assert any(e["reason"] == "Complete" for e in installed.api.list("events", space))


def test_a_pod_name_that_is_taken_is_told(installed, space):
    """By a pod of somebody else, which is left alone."""
    installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x-1-r-0"}, "spec": {
        "containers": [{"name": "main", "image": "thole.local/digits:0.1.0", "command": ["sleep", "600"]}], "terminationGracePeriodSeconds": 0}}))
    apply(installed, space, "x")
    said = installed.wait_for(lambda: (c := condition(installed, space, "x", "Placed")).get("reason") == "PodNameTaken" and c["message"], "the job to say so",
                              said=lambda: json.dumps(status(installed, space, "x")))
    assert "x-1-r-0" in said and installed.api.get("pods", "x-1-r-0", space)["status"]["phase"] in ("Pending", "Running")
    installed.kubectl("delete", "pod", "x-1-r-0", "-n", space)
    wait_for_phase(installed, space, "Complete", name="x")
    print(said)


def test_a_job_that_is_torn_out_leaves_nothing(installed, space):
    """Somebody takes the finalizer off a job that runs, and deletes it. Its pods have finalizers too, and nobody to ask for them."""
    apply(installed, space, "torn", {"command": ["sleep", "600"], "members": 2}, gracePeriod="1s")
    wait_for_phase(installed, space, "Running", name="torn")
    installed.kubectl("delete", "tj", "torn", "-n", space, "--wait=false")
    installed.kubectl("patch", "tj", "torn", "-n", space, "--type=merge", "-p", '{"metadata": {"finalizers": null}}', check=False)
    installed.wait_for(lambda: not installed.api.find("trainingjobs", "torn", space) and not installed.api.list("pods", space), "the pods to be gone",
                       said=lambda: json.dumps([p["metadata"] for p in installed.api.list("pods", space)], indent=1))
    apply(installed, space, "torn")  # another one of that name
    wait_for_phase(installed, space, "Complete", name="torn")


def test_a_pod_patch_of_what_is_ours_is_refused_and_can_be_mended(installed, space):
    """`$patch: replace` gets by what the core looks at; the pod that it makes is compared."""
    patch = {"metadata": {"$patch": "replace", "labels": {"thole.dev/gang": "another"}}}
    apply(installed, space, "patched", platforms={"kubernetes": {"podPatch": patch}})
    found = wait_for_phase(installed, space, "Refused", name="patched")
    [accepted] = [c for c in found["conditions"] if c["type"] == "Accepted"]
    assert accepted["reason"] == "NativeOverrides" and "podPatch" in accepted["message"], accepted
    assert not installed.api.list("pods", space)
    apply(installed, space, "patched", platforms={"kubernetes": {"podPatch": {"metadata": {"labels": {"team": "a"}}}}})
    installed.wait_for(lambda: status(installed, space, "patched").get("observedGeneration") == 2, "the mended job to be looked at")
    wait_for_phase(installed, space, "Complete", name="patched")
    assert members(installed, space, 1, "patched")[0]["metadata"]["labels"]["team"] == "a"
    print(accepted["message"])


def test_nobody_writes_what_a_pod_was_given(installed, space):
    """The ledger is built again out of it: an administrator's slip, or a user's forgery, is refused at the door."""
    forged = pod("forged", 1024)
    forged["metadata"] = {"name": "forged", "namespace": space, "annotations": {"thole.dev/allocation": '{"gang": "0"}'}}
    with pytest.raises(Refused) as refusal:
        installed.api.create("pods", forged)
    assert "only Thole's scheduler writes" in refusal.value.message
    apply(installed, space, "given", {"command": ["sleep", "600"]}, gracePeriod="1s")
    wait_for_phase(installed, space, "Running", name="given")
    tries = [(name, value, part) for name in ("allocation", "record", "visible-devices") for value in ("x", None) for part in ("", "status")]
    for name, value, part in tries:
        with pytest.raises(Refused) as refusal:
            installed.api.patch("pods", "given-1-r-0", {"metadata": {"annotations": {f"thole.dev/{name}": value}}}, space, part)
        assert "only Thole's scheduler writes" in refusal.value.message, (name, value, part)
    installed.api.patch("pods", "given-1-r-0", {"metadata": {"annotations": {"mine": "x"}}}, space)
    print(f"{len(tries)} of {len(tries)} changes of what a pod was given are refused")


def test_a_full_store_is_told_and_four_checkpoints_fit_where_ten_do_not(installed, request):
    """A disk of 2 MiB of which a part is taken: the rank says that the store is full. With room for four checkpoints, `keep: 3` lives on it."""
    space = "full"
    make_store(installed, space, os.environ["THOLE_COMMAND"])
    request.addfinalizer(lambda: installed.kubectl("delete", "tj", "--all", "-n", space, "--timeout=90s", seconds=120))
    node, store = installed.nodes[0], installed.d / f"store-{space}"
    here = {"kubernetes": {"podPatch": {"spec": {"nodeSelector": {"kubernetes.io/hostname": node.name}}}}}
    spec = {**yaml.safe_load((DIGITS / "job.yaml").read_text())["spec"], "platforms": here, "recovery": {"hangTimeout": "20s", "maxSameCause": 2, "maxWithoutProgress": 2}}

    def run(name, size):
        node.enter("mount", "-t", "tmpfs", "-o", f"size={size},mode=700,uid=1000,gid=1000", "tmpfs", str(store))
        try:
            installed.kubectl("apply", "-n", space, "-f", "-", given=json.dumps({"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
                                                                                  "spec": {**spec, "checkpoint": {**spec["checkpoint"], "key": "digits"}}}))
            end = wait_for_phase(installed, space, "Complete", "Failed", name=name)
            installed.kubectl("delete", "tj", name, "-n", space, "--timeout=90s", seconds=120)
            return end
        finally:
            node.enter("umount", "-l", str(store))

    none = run("none", "96k")
    assert none["phase"] == "Failed" and any("StoreFull" in i["message"] for i in none["incidents"]), json.dumps(none, indent=1)
    four = run("four", "800k")
    assert four["phase"] == "Complete" and not four.get("incidents"), json.dumps(four, indent=1)
    print(next(i["message"] for i in none["incidents"] if "StoreFull" in i["message"]))


# --- Rights. ----------------------------------------------------------------------------------------------------------

EVERYBODY = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}  # of whoever is logged in


@pytest.mark.parametrize("account, roles", [("thole-controller", ["thole-controller"]), ("thole-node", ["thole-node"]),
                                            ("thole-scheduler", ["thole-scheduler", "system:kube-scheduler", "system:volume-scheduler"])])
def test_an_account_may_do_what_its_roles_say_and_nothing_beside(installed, account, roles):
    """Asked as the account itself, in a namespace where it has no role of its own."""
    made = installed.api.call("POST", f"/api/v1/namespaces/thole-system/serviceaccounts/{account}/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    api = Client(installed.address, 6443, installed.d / "pki/ca.crt", token=made["status"]["token"])
    review = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}})["status"]

    def flat(rules):
        return {(group, resource, name, verb) for r in rules for group in r["apiGroups"] for resource in r["resources"]
                for name in r.get("resourceNames", ["*"]) for verb in r["verbs"]}

    granted = {g for g in flat(review["resourceRules"]) if g[1] not in EVERYBODY}
    wanted = flat(rule for role in roles for rule in installed.api.get("clusterroles", role)["rules"])
    assert granted == wanted, (granted - wanted, wanted - granted)
    assert not any("*" in (group, resource, verb) for group, resource, _, verb in granted)
    if account != "thole-scheduler":  # whose rights are Kubernetes' own
        written = {d["metadata"]["name"]: d for file in ("controller-rights.yaml", "node-rights.yaml") for d in yaml.safe_load_all((ADAPTER / "deploy" / file).read_text())
                   if d["kind"] == "ClusterRole"}
        assert flat(written[account]["rules"]) == granted
    assert not any(resource.startswith("secrets") for _, resource, _, _ in granted)
    print(f"{account}: {len(granted)} of {len(wanted)} verbs, and no other")


def test_a_pod_of_a_job_has_no_right_and_few_mounts(installed, space):
    """No token, no host's folder: the store, the key and what is ours are all that is mounted into it."""
    make_store(installed, space, os.environ["THOLE_COMMAND"])
    installed.kubectl("apply", "-n", space, "-f", DIGITS / "job.yaml")
    wait_for_checkpoint(installed, space, 20)
    run = job(installed, space)["metadata"]["uid"]
    for thing in members(installed, space, 1):
        volumes = {v["name"] for v in thing["spec"]["volumes"]}
        assert volumes == {"thole-bin", "thole-run", "thole-record", "thole-store", "thole-key"}, volumes
        assert thing["spec"]["automountServiceAccountToken"] is False
    pids = processes("train.py", THOLE_RUN=run)
    for pid in pids:
        mounts = [line.split()[4] for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        own = sorted(m for m in mounts if not m.startswith(("/proc", "/sys", "/dev")) and m not in ("/", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))
        assert own == ["/thole/bin", "/thole/record", "/thole/run", "/thole/secret", "/thole/store"], own
    assert len(pids) >= 4
    print(f"{len(pids)} processes of 4 pods see five mounts")
