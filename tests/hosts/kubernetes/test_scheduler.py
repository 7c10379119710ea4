"""thole-scheduler in a real cluster, beside the scheduler without the plugin: whole gangs, single GPUs, restarts."""
from __future__ import annotations

import signal

from conftest import begin_scheduler
from pods import add_node, allocation, audit, bound, pod, why


def test_a_gpu_is_not_a_sum(cluster):
    """6 x 5120 MiB on a node of four GPUs of 8192: plain Kubernetes counts 30720 of 32768; a GPU takes one of them."""
    add_node(cluster, "a", gpus=4)
    for i in range(6):
        cluster.api.create("pods", pod(f"plain-{i}", 5120, scheduler="thole-plain"))
    cluster.wait_for(lambda: len(bound(cluster)) == 6, "the plain scheduler to bind all six")
    plain = len(bound(cluster))
    cluster.api.delete_all("pods")
    cluster.wait_for(lambda: not cluster.api.list("pods"), "the pods to go")
    for i in range(6):
        cluster.api.create("pods", pod(f"ours-{i}", 5120))
    cluster.wait_for(lambda: len(bound(cluster)) == 4 and sum(1 for i in range(6) if why(cluster, f"ours-{i}")) == 2, "four bound, two refused")
    waits, said = next((f"ours-{i}", text) for i in range(6) if (text := why(cluster, f"ours-{i}")))
    assert "GangNoFitInCluster" in said and "3.0 GiB" in said, said
    cluster.wait_for(lambda: "3.0 GiB" in cluster.kubectl("describe", "pod", waits).stdout.split("Events:")[1], "the largest hole among the events of `kubectl describe`",
                     said=lambda: cluster.kubectl("describe", "pod", waits).stdout)
    assert sorted(audit(cluster).values()) == [5120] * 4
    print(f"6 x 5120 MiB on 4 x 8192: plain {plain} bound, ours 4 bound and 2 told why: {said}")


def test_a_gang_is_placed_as_one(cluster):
    """{8192, 4096} on nodes of 8192 and 4096 MiB, the small one made last: who takes pods one by one may take the wrong node."""
    add_node(cluster, "large", mib=8192)
    add_node(cluster, "small", mib=4096)
    rounds = 5
    for number in range(rounds):
        name = f"g{number}"
        cluster.api.create("pods", pod(f"{name}-b", 4096, gang=name, size=2))
        cluster.api.create("pods", pod(f"{name}-a", 8192, gang=name, size=2))
        cluster.wait_for(lambda: len(bound(cluster)) == 2, "both to be bound", said=lambda: cluster.log("thole-scheduler"))
        assert bound(cluster) == {f"{name}-a": "large", f"{name}-b": "small"}
        cluster.api.delete_all("pods")
        cluster.wait_for(lambda: not cluster.api.list("pods"), "the pods to go")
    print(f"{rounds} of {rounds} gangs lie where they fit")


def test_nothing_is_held_by_a_gang_that_waits(cluster):
    for n in "abc":
        add_node(cluster, n)
    for i in range(4):
        cluster.api.create("pods", pod(f"a-{i}", 8192, gang="a", size=4))
    cluster.wait_for(lambda: any("GangLargerThanPool" in why(cluster, f"a-{i}") for i in range(4)), "gang a to be refused",
                     said=lambda: str([why(cluster, f"a-{i}") for i in range(4)]))
    told = [text for i in range(4) if "GangLargerThanPool" in (text := why(cluster, f"a-{i}"))]
    assert all(text.endswith("Thole preempts nobody for a gang.") for text in told), told  # PostFilter's words
    for i in range(3):
        cluster.api.create("pods", pod(f"b-{i}", 8192, gang="b", size=3))
    cluster.wait_for(lambda: len(bound(cluster)) == 3, "gang b to be bound")
    assert set(bound(cluster)) == {"b-0", "b-1", "b-2"}
    # A node more, and what ended: a runs.
    add_node(cluster, "d")
    for i in range(3):
        cluster.api.delete("pods", f"b-{i}")
    cluster.wait_for(lambda: sum(n.startswith("a-") for n in bound(cluster)) == 4, "gang a to be bound", said=lambda: cluster.log("thole-scheduler"))
    assert len(audit(cluster)) == 4


def test_members_that_are_missing_are_waited_for(cluster):
    add_node(cluster, "a", gpus=2)
    cluster.api.create("pods", pod("w-0", 8192, gang="g", size=2))
    cluster.wait_for(lambda: "1 of the 2 members" in why(cluster, "w-0"), "the first member to be told")
    cluster.api.create("pods", pod("w-1", 8192, gang="g", size=2))
    cluster.wait_for(lambda: len(bound(cluster)) == 2, "both to be bound")
    one = allocation(cluster.api.get("pods", "w-0"))
    record = cluster.api.get("pods", "w-0")["metadata"]["annotations"]["thole.dev/record"]
    assert record.startswith("thole-record 1\n") and f"device {one['grants'][0]['uuid']} vgpu 8192 0 simulated" in record
    assert cluster.api.get("pods", "w-0")["metadata"]["annotations"]["thole.dev/visible-devices"] == ""


def test_selectors_and_taints_count_when_the_gang_is_placed(cluster):
    add_node(cluster, "tainted", gpus=2, taints=[{"key": "gpu", "value": "true", "effect": "NoSchedule"}])
    add_node(cluster, "open", gpus=1)
    for i in range(2):
        cluster.api.create("pods", pod(f"p-{i}", 8192, gang="p", size=2))
    cluster.wait_for(lambda: "NoFit" in why(cluster, "p-0") or "Larger" in why(cluster, "p-0"), "the gang to be refused")
    for i in range(2):
        cluster.api.create("pods", pod(f"t-{i}", 8192, gang="t", size=2, tolerations=[{"key": "gpu", "operator": "Exists"}],
                                       nodeSelector={"kubernetes.io/hostname": "tainted"}))
    cluster.wait_for(lambda: len(bound(cluster)) == 2, "the tolerant gang to be bound", said=lambda: why(cluster, "t-0"))
    assert set(bound(cluster).values()) == {"tainted"}


def test_a_scheduler_that_was_killed_knows_what_is_held(cluster, programs):
    """kill -9, and the ledger is built again out of what is written on pods."""
    add_node(cluster, "a", gpus=4)
    for i in range(3):
        cluster.api.create("pods", pod(f"x-{i}", 5120, gang="x", size=3))
    cluster.wait_for(lambda: len(bound(cluster)) == 3, "the gang to be bound")
    before = audit(cluster)
    cluster.stop("thole-scheduler", signal.SIGKILL)
    for i in range(2):
        cluster.api.create("pods", pod(f"y-{i}", 5120))
    begin_scheduler(cluster, programs)
    cluster.wait_for(lambda: len(bound(cluster)) == 4 and any("GangNoFit" in why(cluster, f"y-{i}") for i in range(2)), "one more to fit, one not",
                     said=lambda: f"{bound(cluster)} {why(cluster, 'y-0')} {why(cluster, 'y-1')}" + cluster.log("thole-scheduler"))
    after = audit(cluster)
    assert {k: after[k] for k in before} == before and len(after) == 4
    # A member ends: its place is free for the one that waits, and nobody else's is.
    cluster.api.delete("pods", "x-1")
    cluster.wait_for(lambda: {"y-0", "y-1"} <= set(bound(cluster)), "the second to take the place", said=lambda: cluster.log("thole-scheduler"))
    assert sorted(audit(cluster).values()) == [5120] * 4


def test_a_pod_bound_behind_our_back_closes_its_node(cluster):
    add_node(cluster, "a", gpus=2)
    foreign = pod("foreign", 5120, scheduler="nobody")
    foreign["spec"]["nodeName"] = "a"
    cluster.api.create("pods", foreign)
    cluster.wait_for(lambda: "foreign" in cluster.log("thole-scheduler", 200), "the scheduler to have seen it")
    cluster.api.create("pods", pod("ours", 1024))
    cluster.wait_for(lambda: "takes 0" in why(cluster, "ours"), "ours to wait", said=lambda: why(cluster, "ours") + cluster.log("thole-scheduler"))
    cluster.api.delete("pods", "foreign")
    cluster.wait_for(lambda: "ours" in bound(cluster), "ours to be bound", said=lambda: f"{bound(cluster)} {why(cluster, 'ours')}" + cluster.log("thole-scheduler", 8))


def test_bad_pods_are_told_what_to_write(cluster):
    add_node(cluster, "a")
    bad = {"share": (pod("share", 0, share=100), "needs its memory"), "size": (pod("size", 1024, gang="s"), "thole.dev/gang-size"),
           "large": (pod("large", 9000), "DeviceTooSmall")}
    told = 0
    for name, (thing, want) in bad.items():
        cluster.api.create("pods", thing)
        cluster.wait_for(lambda: want in why(cluster, name), f"{name} to be told {want!r}", said=lambda: why(cluster, name))
        told += 1
    print(f"{told} of {len(bad)} bad pods are told what to write")
