"""What can go wrong around thole-scheduler: nodes that go, pods that linger, gangs that are deleted at any moment, and leaders that change."""
from __future__ import annotations

import pathlib
import random
import signal
import subprocess
import time

import pytest
from conftest import begin_scheduler
from pods import MEMORY, add_node, audit, bound, pod, why

PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
APART = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
    {"labelSelector": {"matchLabels": {"app": "occupant"}}, "topologyKey": "kubernetes.io/hostname"}]}}
GROUP = {"label": "scheduling.x-k8s.io/pod-group", "resource": "podgroups.scheduling.x-k8s.io"}


def gang(cluster, name, mibs, **options):
    for i, mib in enumerate(mibs):
        cluster.api.create("pods", pod(f"{name}-{i}", mib, gang=name, size=len(mibs), **options))


def waits(cluster, name, *words):
    """Until a pod is told that it waits; the sentence."""
    return cluster.wait_for(lambda: (text := why(cluster, name)) and any(w in text for w in words) and text, f"{name} to be told to wait",
                            said=lambda: f"{bound(cluster)} {why(cluster, name)}\n{cluster.log('thole-scheduler')}")


def lie(cluster, *names):
    cluster.wait_for(lambda: set(names) <= set(bound(cluster)), f"{', '.join(names)} to be bound",
                     said=lambda: f"{bound(cluster)} {[why(cluster, n) for n in names]}\n{cluster.log('thole-scheduler')}")


def takes_all(cluster, gpus):
    """One gang gets every GPU whole, which it could not if anything were held by nobody."""
    gang(cluster, "all", [8192] * gpus)
    lie(cluster, *(f"all-{i}" for i in range(gpus)))
    assert sorted(audit(cluster).values()) == [8192] * gpus


# --- Nodes. ---------------------------------------------------------------------------------------------------------

def test_a_node_is_deleted_and_comes_back(cluster):
    """Nothing is placed on it while it is gone, and what lay on it holds nothing of the node that comes back."""
    for n in "ab":
        add_node(cluster, n)
    gang(cluster, "old", [8192, 8192])
    lie(cluster, "old-0", "old-1")
    cluster.api.delete("nodes", "b")
    gang(cluster, "new", [8192, 8192])
    waits(cluster, "new-0", "NoFit", "Larger")
    cluster.api.delete_all("pods", labelSelector="thole.dev/gang=old")
    waits(cluster, "new-0", "Larger")  # one node is there, two are needed
    assert not bound(cluster).keys() & {"new-0", "new-1"}
    add_node(cluster, "b")
    lie(cluster, "new-0", "new-1")
    assert sorted(bound(cluster).values()) == ["a", "b"]


def test_a_node_that_came_back_is_still_held(cluster):
    """The node object is made anew while a pod that was bound to it is still there: its GPU is not given away."""
    add_node(cluster, "a", kwok=False)
    cluster.api.create("pods", pod("stays", 6000))
    lie(cluster, "stays")
    cluster.api.delete("nodes", "a")
    add_node(cluster, "a", kwok=False)
    cluster.api.create("pods", pod("next", 6000))
    waits(cluster, "next", "NoFit")
    cluster.api.delete("pods", "stays", grace=0)
    lie(cluster, "next")


@pytest.mark.parametrize("how", ["tainted", "cordoned", "not ready"])
def test_a_node_that_is_closed_takes_nothing(cluster, how):
    closed = {"tainted": {"spec": {"taints": [{"key": "gpu", "value": "broken", "effect": "NoSchedule"}]}},
              "cordoned": {"spec": {"unschedulable": True}}, "not ready": {}}[how]
    opened = {"tainted": {"spec": {"taints": None}}, "cordoned": {"spec": {"unschedulable": None}}, "not ready": {}}[how]
    add_node(cluster, "a")
    add_node(cluster, "b", kwok=how != "not ready")
    cluster.api.create("pods", pod("first", 1024, nodeSelector={"kubernetes.io/hostname": "b"}))
    lie(cluster, "first")

    def set_to(change, ready):
        if how == "not ready":  # the node controller taints it for this
            state = {"status": {"conditions": [{"type": "Ready", "status": ready, "reason": "Test"}]}}
            cluster.api.patch("nodes", "b", state, part="status")
            cluster.wait_for(lambda: bool(cluster.api.get("nodes", "b")["spec"].get("taints")) == (ready == "False"), "the node controller")
        else:
            cluster.api.patch("nodes", "b", change)

    set_to(closed, "False")
    gang(cluster, "g", [7000, 7000])
    waits(cluster, "g-0", "NoFit", "Larger")
    assert not bound(cluster).keys() & {"g-0", "g-1"}
    assert "first" in bound(cluster)
    set_to(opened, "True")
    lie(cluster, "g-0", "g-1")


# --- Pods. ----------------------------------------------------------------------------------------------------------

def test_a_pod_that_is_terminating_still_holds_its_gpu(cluster):
    """On a node whose kubelet does not answer, a deleted pod stays: its process may still be there."""
    add_node(cluster, "a", kwok=False)
    cluster.api.create("pods", pod("old", 5120, terminationGracePeriodSeconds=3600))
    lie(cluster, "old")
    cluster.api.delete("pods", "old")
    assert cluster.api.get("pods", "old")["metadata"]["deletionTimestamp"]
    cluster.api.create("pods", pod("new", 5120))
    waits(cluster, "new", "NoFit")
    assert "new" not in bound(cluster)
    cluster.api.delete("pods", "old", grace=0)
    lie(cluster, "new")


def test_a_pod_that_has_ended_holds_nothing(cluster):
    add_node(cluster, "a", kwok=False)
    for name, phase in (("done", "Succeeded"), ("broken", "Failed")):
        cluster.api.create("pods", pod(name, 8192))
        lie(cluster, name)
        cluster.api.patch("pods", name, {"status": {"phase": phase}}, part="status")
    cluster.api.create("pods", pod("next", 8192))
    lie(cluster, "next")


def test_init_containers_and_sidecars_count_as_the_kubelet_counts(cluster):
    """The largest of: an init container; what runs together. A sidecar runs together with all that follows it."""
    add_node(cluster, "a")

    def with_init(name, main, init, sidecar):
        thing = pod(name, main)
        more = {"name": "more", "image": "none", "resources": {k: {MEMORY: str(init)} for k in ("requests", "limits")}}
        thing["spec"]["initContainers"] = [{**more, "restartPolicy": "Always"} if sidecar else more]
        return thing

    cases = [("init", 2048, 6144, False, 6144), ("small-init", 6144, 2048, False, 6144), ("sidecar", 4096, 2048, True, 6144)]
    for name, main, init, sidecar, want in cases:
        cluster.api.create("pods", with_init(name, main, init, sidecar))
        lie(cluster, name)
        assert list(audit(cluster).values()) == [want], name
        cluster.api.delete("pods", name)
        cluster.wait_for(lambda: not cluster.api.list("pods"), "the pod to go")
    print(f"{len(cases)} of {len(cases)} pods hold what the kubelet would count")


def test_a_gated_member_is_not_there_yet(cluster):
    """A pod with a scheduling gate cannot be placed: its gang waits for it, and holds nothing while it does."""
    add_node(cluster, "a", gpus=2)
    cluster.api.create("pods", pod("g-0", 8192, gang="g", size=2))
    cluster.api.create("pods", pod("g-1", 8192, gang="g", size=2, schedulingGates=[{"name": "example.com/quota"}]))
    waits(cluster, "g-0", "1 of the 2 members")
    gang(cluster, "h", [8192, 8192])
    lie(cluster, "h-0", "h-1")
    cluster.api.delete_all("pods", labelSelector="thole.dev/gang=h")
    cluster.api.patch("pods", "g-1", {"spec": {"schedulingGates": None}})
    lie(cluster, "g-0", "g-1")


# --- Gangs. ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("first", ["group", "pods"])
def test_a_podgroup_and_its_pods_come_in_any_order(cluster, first):
    add_node(cluster, "a", gpus=4)

    def make_group():
        cluster.api.create(GROUP["resource"], {"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup",
                                               "metadata": {"name": "g", "namespace": "default"}, "spec": {"minMember": 3}})

    def make_pod(i):
        thing = pod(f"g-{i}", 4096)
        thing["metadata"]["labels"] = {GROUP["label"]: "g"}
        cluster.api.create("pods", thing)

    try:
        if first == "group":
            make_group()
        make_pod(0)
        make_pod(1)
        if first == "pods":
            waits(cluster, "g-0", "GangUnknown")
            make_group()
        waits(cluster, "g-1", "2 of the 3 members")  # minMember is above what exists
        assert not bound(cluster)
        make_pod(2)
        lie(cluster, "g-0", "g-1", "g-2")
        make_pod(3)  # one more than it needs joins when there is room
        lie(cluster, "g-3")
    finally:
        cluster.api.delete(GROUP["resource"], "g")


def test_gangs_are_deleted_at_any_moment(cluster):
    """100 gangs, each deleted at once or within 30 ms, a third before all members exist: not gathered, planned, half bound, bound."""
    dice = random.Random(11)
    add_node(cluster, "a", gpus=4)
    add_node(cluster, "b", gpus=4)
    rounds, seen = 100, {"none bound": 0, "some bound": 0, "all bound": 0}
    for number in range(rounds):
        name, size = f"g{number}", dice.choice((2, 4, 8))
        there = size if dice.random() < 0.67 else dice.randrange(1, size)
        for i in range(there):
            cluster.api.create("pods", pod(f"{name}-{i}", 8192, gang=name, size=size))
        time.sleep(max(0.0, dice.uniform(-0.02, 0.03)))  # the moment is what is varied
        if number % 10 == 9:  # in each phase at least so often: here when all that exist are bound
            there == size and lie(cluster, *(f"{name}-{i}" for i in range(size)))
        here = sum(n.startswith(f"{name}-") for n in bound(cluster))
        seen["none bound" if here == 0 else "some bound" if here < size else "all bound"] += 1
        for i in dice.sample(range(there), there):
            cluster.api.delete("pods", f"{name}-{i}", grace=0)
        audit(cluster)
    cluster.wait_for(lambda: not cluster.api.list("pods"), "all to be gone")
    takes_all(cluster, 8)
    assert seen["none bound"] and seen["all bound"], seen  # a moment between the bindings of one gang is not always met: see the next test
    print(f"{rounds} of {rounds} gangs deleted when {seen}; one gang then took 8 of 8 GPUs")


@pytest.fixture
def classes(cluster):
    """Priority classes, both above pods that name none."""
    made = {"high": 1000, "higher": 2000}
    for name, value in made.items():
        cluster.api.call("POST", PRIORITIES, {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value})
    yield
    for name in made:
        cluster.api.call("DELETE", f"{PRIORITIES}/{name}")


def told(cluster, *names):
    """All that was said of pods that could not be placed."""
    uids = {cluster.api.get("pods", n)["metadata"]["uid"] for n in names}
    return " ".join(e["message"] for e in cluster.api.list("events") if e["reason"] == "FailedScheduling" and e["involvedObject"]["uid"] in uids)


def occupy(cluster, node):
    """A pod of no GPU and no priority from which APART keeps away."""
    occupant = pod("occupant", 0, scheduler="default-scheduler", nodeName=node)
    occupant["metadata"]["labels"] = {"app": "occupant"}
    return cluster.api.create("pods", occupant)["metadata"]["uid"]


def is_left_alone(cluster, uid):
    meta = (cluster.api.find("pods", "occupant") or {"metadata": {}})["metadata"]
    return meta.get("uid") == uid and "deletionTimestamp" not in meta


def test_a_place_that_another_plugin_refuses(cluster, classes):
    """InterPodAffinity takes none of a gang on the only node: all of its members let go at once, so that others have the GPUs, and who is in
    their way stays though they have a higher priority; on the node that comes then the gang lies whole."""
    add_node(cluster, "a", gpus=2)
    occupant = occupy(cluster, "a")
    gang(cluster, "g", [8192, 8192], affinity=APART, priorityClassName="high")
    said = "Thole planned the gang with a, which another plugin refuses: its place is given back, and it is planned anew."
    cluster.wait_for(lambda: said in told(cluster, "g-0", "g-1"), "the gang to be told", said=lambda: told(cluster, "g-0", "g-1"))
    gang(cluster, "others", [8192, 8192])
    lie(cluster, "others-0", "others-1")
    add_node(cluster, "b", gpus=2)
    lie(cluster, "g-0", "g-1")
    where = bound(cluster)
    assert (where["g-0"], where["g-1"], where["others-0"], where["others-1"]) == ("b", "b", "a", "a")
    assert sorted(audit(cluster).values()) == [8192] * 4
    assert is_left_alone(cluster, occupant)


def test_a_member_that_waits_lets_go_when_another_is_refused(cluster, classes):
    """Only the second of two is refused, when the first has its place and waits in Permit: that one lets go at once, not when its gang's 30 s are over."""
    add_node(cluster, "a", gpus=2, unschedulable=True)
    occupant = occupy(cluster, "a")
    cluster.api.create("pods", pod("g-0", 8192, gang="g", size=2, priorityClassName="higher"))  # first in the queue
    cluster.api.create("pods", pod("g-1", 8192, gang="g", size=2, priorityClassName="high", affinity=APART))
    for name in ("g-0", "g-1"):
        waits(cluster, name, "NoSuchLabel")
    time.sleep(2.5)  # longer than any backoff of this scheduler: both then come into the queue at once, and leave it by their priority
    cluster.api.patch("nodes", "a", {"spec": {"unschedulable": None}})
    cluster.wait_for(lambda: "which another plugin refuses" in told(cluster, "g-1"), "the second to be refused", said=lambda: told(cluster, "g-0", "g-1"))
    gang(cluster, "others", [8192, 8192])
    cluster.wait_for(lambda: {"others-0", "others-1"} <= set(bound(cluster)), "the others to be bound long before 30 s", seconds=10,
                     said=lambda: f"{bound(cluster)} {told(cluster, 'g-0', 'g-1')}")
    cluster.wait_for(lambda: "GangBroken" in told(cluster, "g-0"), "the first to have waited", said=lambda: told(cluster, "g-0", "g-1"))
    assert sorted(audit(cluster).values()) == [8192] * 2 and is_left_alone(cluster, occupant)


def test_a_pod_that_is_none_of_ours_preempts(cluster, classes):
    """What has no GPU of ours is kube-scheduler's affair in our profile, too."""
    add_node(cluster, "a", cpu="1", kwok=False)  # kwok may give it more processors
    cluster.api.create("pods", pod("low", 0, cpu="600m"))
    lie(cluster, "low")
    cluster.api.create("pods", pod("urgent", 0, cpu="600m", priorityClassName="high"))
    lie(cluster, "urgent")
    assert not cluster.api.find("pods", "low")


def test_a_gang_of_which_a_part_cannot_be_bound(cluster, programs):
    """A member whose volume never comes is stuck before its binding, also when the scheduler is killed then; the gang goes, and leaves
    nothing behind."""
    add_node(cluster, "a", gpus=2)
    cluster.api.call("POST", "/apis/storage.k8s.io/v1/storageclasses", {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "never"}, "provisioner": "example.com/never",
        "volumeBindingMode": "WaitForFirstConsumer"})
    try:
        cluster.api.create("persistentvolumeclaims", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "never", "namespace": "default"},
                                                      "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "never", "resources": {"requests": {"storage": "1Gi"}}}})
        cluster.api.create("pods", pod("g-0", 8192, gang="g", size=2))
        cluster.api.create("pods", pod("g-1", 8192, gang="g", size=2, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "never"}}]))
        lie(cluster, "g-0")
        cluster.api.create("pods", pod("other", 8192))
        waits(cluster, "other", "NoFit")  # what g-1 is to have is not given away while it may still be bound
        held = cluster.api.get("pods", "g-0")["metadata"]["annotations"]["thole.dev/allocation"]
        cluster.stop("thole-scheduler", signal.SIGKILL)
        begin_scheduler(cluster, programs)
        # The gang has begun, so the next scheduler gives its GPU to nobody else, and the one that is left to g-1, `other` or `late`: never to two.
        cluster.api.create("pods", pod("late", 8192))  # of which nobody has said anything yet
        cluster.wait_for(lambda: "late" in bound(cluster) or "NoFit" in why(cluster, "late"), "the next scheduler to look at them",
                         said=lambda: f"{bound(cluster)} {why(cluster, 'late')}\n{cluster.log('thole-scheduler')}")
        assert cluster.api.get("pods", "g-0")["metadata"]["annotations"]["thole.dev/allocation"] == held and "g-1" not in bound(cluster)
        audit(cluster)
        for name in ("g-1", "g-0", "other", "late"):
            cluster.api.delete("pods", name, grace=0)
        takes_all(cluster, 2)
    finally:
        cluster.api.delete("persistentvolumeclaims", "never")
        cluster.api.call("DELETE", "/apis/storage.k8s.io/v1/storageclasses/never")


# --- Schedulers. ----------------------------------------------------------------------------------------------------

def test_a_gang_that_ends_the_process_is_set_aside(cluster, programs, tmp_path):
    """A defect of the library that one gang meets ends the scheduler once: the next one sets that gang aside and places the others."""
    here = pathlib.Path(__file__).resolve().parent
    library = tmp_path / "libthole.so.0"
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{here.parents[2] / 'abi/include'}", "-o", library, here / "crashing.c", "-ldl"], check=True, timeout=60)
    cluster.stop("thole-scheduler")
    begin_scheduler(cluster, programs, library=library)
    add_node(cluster, "a", gpus=4)
    gang(cluster, "bad", [256] * 13)
    cluster.wait_for(lambda: not cluster.pid("thole-scheduler"), "the scheduler to end")
    ended = 1
    gang(cluster, "good", [4096] * 2)
    for _ in range(2):  # and the one after that knows it, too
        begin_scheduler(cluster, programs, library=library)
        lie(cluster, "good-0", "good-1")
        said = waits(cluster, "bad-0", "GangSetAside")
        assert "report it" in said and cluster.pid("thole-scheduler")
        cluster.stop("thole-scheduler")
        for i in range(2):
            cluster.api.delete("pods", f"good-{i}", grace=0)
        gang(cluster, "good", [4096] * 2)
    begin_scheduler(cluster, programs)
    lie(cluster, "good-0", "good-1")
    print(f"{ended} crash, 3 starts after it: {said}")


def test_a_leader_that_is_killed_is_followed_by_the_other(cluster, programs):
    """Two schedulers, one lease. The leader is killed in the middle of a stream of gangs, three times; no GPU is held twice."""
    cluster.stop("thole-scheduler")
    add_node(cluster, "a", gpus=8)
    add_node(cluster, "b", gpus=8)
    names = ["thole-scheduler", "thole-scheduler-2"]
    for port, name in zip((10260, 10261), names):
        begin_scheduler(cluster, programs, name, port, lead=True)
    dice, kills, made = random.Random(5), 3, 0
    audits = 0
    for number in range(24):
        size = dice.choice((2, 4))
        gang(cluster, f"g{number}", [dice.choice((2048, 4096, 8192)) for _ in range(size)])
        made += 1
        if number >= 4:
            cluster.api.delete_all("pods", labelSelector=f"thole.dev/gang=g{number - 4}")
        if number % 8 == 3:
            leader = cluster.wait_for(lambda: _leader(cluster, names), "a leader")
            cluster.stop(leader, signal.SIGKILL)
            begin_scheduler(cluster, programs, leader, 10260 + names.index(leader), lead=True)
        audit(cluster)
        audits += 1
    last = [p["metadata"]["name"] for p in cluster.api.list("pods")]
    lie(cluster, *last)
    audit(cluster)
    cluster.api.delete_all("pods")
    takes_all(cluster, 16)
    cluster.stop("thole-scheduler-2")
    cluster.stop("thole-scheduler")
    begin_scheduler(cluster, programs)
    print(f"{made} gangs, {kills} leaders killed, {audits + 1} audits: {len(last)} of {len(last)} members of what was left were bound")


def _leader(cluster, names):
    """Which of the two holds the lease: its identity begins with the host's name, so the log tells."""
    for name in names:
        if cluster.pid(name) and "successfully acquired lease" in cluster.log(name, 10000).rsplit("Starting Kubernetes Scheduler", 1)[-1].lower():
            return name
    return None
