"""Kubernetes' own PodGroups (alpha gates on): placed by us in the framework's pod group cycle, beside the in-tree algorithm."""
from __future__ import annotations

import os
import tempfile

import pytest
from cluster import GATES, Cluster, processes_left
from conftest import may_schedule
from pods import add_node, audit, bound, pod, why, wipe

CONFIG = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {{leaderElect: false}}
clientConnection: {{kubeconfig: {kubeconfig}, qps: 5000, burst: 5000}}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 2
profiles:
- schedulerName: thole-scheduler
  plugins:
    multiPoint: {{enabled: [{{name: Thole}}]}}
    postFilter: {{enabled: [{{name: Thole}}]}}
    bind: {{enabled: [{{name: Thole}}]}}
    placementGenerate: {{disabled: [{{name: TopologyPlacementGenerator}}]}}
  pluginConfig: [{{name: Thole, args: {{gangTimeoutSeconds: 30, levels: [{{name: zone, label: topology.kubernetes.io/zone}}]}}}}]
- {{schedulerName: thole-plain}}
"""


@pytest.fixture(scope="module")
def gated(programs):
    """A cluster of its own: the gates are the API server's too."""
    folder = tempfile.mkdtemp(prefix="thole-k8s.", dir="/tmp")
    cluster = Cluster(folder)
    try:
        cluster.up(gates=GATES)
        may_schedule(cluster)
        cluster.start_scheduler("thole-scheduler", programs / "thole-scheduler", cluster.kubeconfig("thole-scheduler"), CONFIG,
                                environment={"THOLE_LIBRARY": os.environ["THOLE_LIBRARY"]}, options=("--authentication-skip-lookup=true", "-v=4"))
        yield cluster
    finally:
        cluster.down()
        assert not processes_left(folder)


@pytest.fixture
def cluster(gated):
    yield gated
    for p in gated.api.list("pods"):
        gated.api.delete("pods", p["metadata"]["name"], grace=0)
    for g in gated.api.list("podgroups"):
        gated.api.delete("podgroups", g["metadata"]["name"])
    wipe(gated)
    assert gated.pid("thole-scheduler"), "the scheduler has ended\n" + gated.log("thole-scheduler", 40)


def make(cluster, name, mibs, least=0, scheduler="thole-scheduler", topology="", cpu="10m", first=-1):
    """A PodGroup and its pods; the pod `first` has the higher priority, by which in-tree goes."""
    constraints = {"schedulingConstraints": {"topology": [{"key": topology}]}} if topology else {}
    cluster.api.create("podgroups", {"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup", "metadata": {"name": name, "namespace": "default"},
                                     "spec": {"schedulingPolicy": {"gang": {"minCount": least or len(mibs)}}, **constraints}})
    for i, mib in enumerate(mibs):
        more = {"priorityClassName": "first"} if i == first else {}
        cluster.api.create("pods", pod(f"{name}-{i}", mib, scheduler=scheduler, cpu=cpu, schedulingGroup={"podGroupName": name}, **more))


def condition(cluster, name):
    found = cluster.api.get("podgroups", name).get("status", {}).get("conditions", [])
    return next((f"{c['status']} {c['reason']}: {c.get('message', '')}" for c in found if c["type"] == "PodGroupScheduled"), "")


def lie(cluster, name, count):
    cluster.wait_for(lambda: sum(n.startswith(name + "-") for n in bound(cluster)) == count, f"{count} of {name} to be bound",
                     said=lambda: f"{bound(cluster)} {condition(cluster, name)} {why(cluster, name + '-0')}\n{cluster.log('thole-scheduler', 40)}")


def test_the_plan_comes_before_the_first_pod_is_assumed(cluster):
    """{8192, 4096} on nodes of 8192 and 4096 MiB: in-tree takes pods one by one, the small one first by its priority (else it is a race which
    of the two), and to it the larger node looks better, which has more processors."""
    cluster.api.call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "first"}, "value": 10, "preemptionPolicy": "Never"})
    add_node(cluster, "large", mib=8192)
    add_node(cluster, "small", mib=4096, cpu="2")
    rounds, greedy = 5, 0
    for number in range(rounds):
        make(cluster, f"plain{number}", [8192, 4096], scheduler="thole-plain", cpu="500m", first=1)
        cluster.wait_for(lambda: condition(cluster, f"plain{number}"), "the in-tree algorithm to say something")
        greedy += condition(cluster, f"plain{number}").startswith("False")
        clear(cluster)
        make(cluster, f"ours{number}", [8192, 4096], cpu="500m", first=1)
        lie(cluster, f"ours{number}", 2)
        assert bound(cluster) == {f"ours{number}-0": "large", f"ours{number}-1": "small"}
        cluster.wait_for(lambda: condition(cluster, f"ours{number}").startswith("True"), "the PodGroup to be told")
        audit(cluster)
        clear(cluster)
    assert greedy == rounds, f"in-tree has placed {rounds - greedy} of {rounds}: then this test shows nothing, look at its algorithm again"
    print(f"{{8192, 4096}} on nodes of as much: ours {rounds} of {rounds} placed; in-tree unschedulable in {greedy} of {rounds}")


def clear(cluster):
    for p in cluster.api.list("pods"):
        cluster.api.delete("pods", p["metadata"]["name"], grace=0)
    cluster.wait_for(lambda: not cluster.api.list("pods"), "the pods to go")


def test_one_that_does_not_fit_holds_nothing_and_says_why(cluster):
    for n in "abc":
        add_node(cluster, n)
    make(cluster, "four", [8192] * 4)
    said = cluster.wait_for(lambda: "Gang" in (text := why(cluster, "four-0")) and text, "the pods to be told", said=lambda: why(cluster, "four-0"))
    cluster.wait_for(lambda: condition(cluster, "four").startswith("False"), "the PodGroup to be told", said=lambda: condition(cluster, "four"))
    make(cluster, "three", [8192] * 3)
    lie(cluster, "three", 3)
    clear_of(cluster, "three")
    add_node(cluster, "d")
    lie(cluster, "four", 4)
    assert len(audit(cluster)) == 4
    print(f"four waited ({said}) while three ran")


def clear_of(cluster, name):
    for p in cluster.api.list("pods"):
        if p["metadata"]["name"].startswith(name + "-"):
            cluster.api.delete("pods", p["metadata"]["name"], grace=0)


def test_more_than_it_needs(cluster):
    """minCount 2 of 4 pods on three GPUs: three run, the fourth joins when there is room."""
    for n in "abc":
        add_node(cluster, n)
    make(cluster, "g", [8192] * 4, least=2)
    lie(cluster, "g", 3)
    add_node(cluster, "d")
    lie(cluster, "g", 4)
    assert len(audit(cluster)) == 4


def test_the_constraint_of_a_podgroup_counts(cluster):
    """All in one zone: 2 + 2 nodes in two zones and three pods is refused, two are placed together; a key that is no level is told."""
    for i, zone in enumerate(("x", "x", "y", "y")):
        add_node(cluster, f"n{i}")
        cluster.api.patch("nodes", f"n{i}", {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}})
    make(cluster, "three", [8192] * 3, topology="topology.kubernetes.io/zone")
    cluster.wait_for(lambda: "Gang" in why(cluster, "three-0"), "three to be refused", said=lambda: why(cluster, "three-0"))
    make(cluster, "two", [8192] * 2, topology="topology.kubernetes.io/zone")
    lie(cluster, "two", 2)
    assert {n in ("n0", "n1") for n in bound(cluster).values()} in ({True}, {False})
    make(cluster, "rack", [8192] * 2, topology="example.com/rack")
    cluster.wait_for(lambda: "none of the scheduler's `levels`" in why(cluster, "rack-0"), "the key to be told", said=lambda: why(cluster, "rack-0"))


def test_groups_come_and_go(cluster):
    """Twenty groups of 2 to 8 on 8 GPUs, deleted while they wait or run; then one takes all."""
    for n in "ab":
        add_node(cluster, n, gpus=4)
    for number in range(20):
        make(cluster, f"g{number}", [4096] * (2, 4, 8)[number % 3])
        if number >= 4:
            clear_of(cluster, f"g{number - 4}")
        audit(cluster)
    clear(cluster)
    make(cluster, "all", [8192] * 8)
    lie(cluster, "all", 8)
    assert sorted(audit(cluster).values()) == [8192] * 8
