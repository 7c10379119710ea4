"""thole-node: the GPUs of a node out of its driver (a fake one here: there is no GPU), and what is left when the driver fails."""
from __future__ import annotations

import os
import pathlib

import pytest
import yaml
from installed import ADAPTER
from pods import MEMORY, audit, bound, pod, why

FAKE = pathlib.Path(os.environ["THOLE_LIBRARY"]).parents[1] / "tests/contract/plugins/fake"
PLUGINS = pathlib.Path(os.environ["THOLE_LIBRARY"]).parents[1] / "plugins"
CARD = 143771 - 629  # MiB of the fake driver's two GPUs, less what it reserves


@pytest.fixture
def metal(cluster, programs):
    """The pool `metal` with the node `m`, and thole-node on it; the fixture's function starts it with a driver that does as told."""
    if not FAKE.exists():
        pytest.skip("needs nvml.h: the fake driver was not built")
    for crd in ("trainingjobs", "nodepools"):
        if not cluster.api.find("customresourcedefinitions", f"{crd}.thole.dev"):
            cluster.kubectl("apply", "-f", ADAPTER / "deploy/crds.yaml")
            cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}.thole.dev")
    if not cluster.api.find("clusterroles", "thole-node"):
        may_look_after_a_node(cluster)
    make_node(cluster)
    make_pool(cluster, simulated=False)

    def begin(wish="", driver=True):
        cluster.stop("thole-node")
        environment = {"THOLE_LIBRARY": os.environ["THOLE_LIBRARY"], "FAKE_NVML": wish, "LD_LIBRARY_PATH": str(FAKE) if driver else "",
                       "KUBECONFIG": str(cluster.kubeconfig("thole-node"))}
        cluster.start("thole-node", programs / "thole-node", "--node=m", f"--plugins={PLUGINS}", "--every=1s", environment=environment)

    yield begin
    cluster.stop("thole-node")
    cluster.api.delete("nodepools", "metal")


def may_look_after_a_node(cluster):
    """The user thole-node may do what the service account of that name may where Thole is installed."""
    role = next(d for d in yaml.safe_load_all((ADAPTER / "deploy/node-rights.yaml").read_text()) if d["kind"] == "ClusterRole")
    cluster.api.create("clusterroles", role)
    cluster.api.create("clusterrolebindings", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "thole-node"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "thole-node"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "thole-node"}]})


def make_pool(cluster, simulated):
    spec = {"simulated": True, "gpus": {"count": 2, "memory": "96Gi"}} if simulated else {}
    cluster.api.delete("nodepools", "metal")
    cluster.api.create("nodepools", {"apiVersion": "thole.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": "metal"},
                                     "spec": {**spec, "vgpu": {"memory": "10Gi", "count": 8}}})


def make_node(cluster):
    cluster.api.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {
        "name": "m", "labels": {"kubernetes.io/hostname": "m", "thole.dev/pool": "metal"}, "annotations": {"kwok.x-k8s.io/node": "fake"}}})
    have = {"cpu": "64", "memory": "64Gi", "pods": "200"}
    cluster.api.patch("nodes", "m", {"status": {"capacity": have, "allocatable": have, "conditions": [{"type": "Ready", "status": "True", "reason": "Test"}]}}, part="status")


def state(cluster):
    node = cluster.api.get("nodes", "m")
    return int(node["status"]["capacity"].get(MEMORY, -1)), node["metadata"]["annotations"].get("thole.dev/device-reason", "")


def becomes(cluster, mib, *words):
    def seen():
        have, reason = state(cluster)
        return have == mib and all(w in reason for w in words) and (reason or "ok")
    return cluster.wait_for(seen, f"{mib} MiB {words}", said=lambda: f"{state(cluster)}\n{cluster.log('thole-node')}")


def test_what_the_driver_knows_is_placed(cluster, metal):
    metal()
    becomes(cluster, 2 * CARD)
    for i in range(2):
        cluster.api.create("pods", pod(f"g-{i}", 10240, gang="g", size=2))
    cluster.wait_for(lambda: len(bound(cluster)) == 2, "the gang to be bound", said=lambda: why(cluster, "g-0") + cluster.log("thole-scheduler"))
    assert sum(audit(cluster, CARD).values()) == 20480
    record = cluster.api.get("pods", "g-0")["metadata"]["annotations"]
    assert "simulated" not in record["thole.dev/record"] and record["thole.dev/visible-devices"].startswith("GPU-"), record


def test_a_node_that_is_made_anew_gets_it_again(cluster, metal):
    metal()
    becomes(cluster, 2 * CARD)
    cluster.api.delete("nodes", "m")
    make_node(cluster)
    becomes(cluster, 2 * CARD)
    cluster.api.patch("nodes", "m", {"status": {"capacity": {MEMORY: "0"}, "allocatable": {MEMORY: "0"}}}, part="status")  # as a kubelet that begins anew does
    becomes(cluster, 2 * CARD)


@pytest.mark.parametrize("wish, driver, words", [("fail init 9", True, ["NoDriver"]), ("fail count 999", True, ["DriverFailed"]), ("", False, ["NoDriver"])])
def test_a_driver_that_fails_is_capacity_zero(cluster, metal, wish, driver, words):
    metal()
    becomes(cluster, 2 * CARD)
    cluster.api.create("pods", pod("holds", 10240))
    cluster.wait_for(lambda: bound(cluster), "the pod to be bound")
    metal(wish, driver)
    said = becomes(cluster, 0, *words)
    cluster.api.create("pods", pod("waits", 1024))
    cluster.wait_for(lambda: "NoFit" in why(cluster, "waits") or "Larger" in why(cluster, "waits") or "No" in why(cluster, "waits"), "a reason")
    assert "waits" not in bound(cluster) and "holds" in bound(cluster)
    metal()  # the driver comes back
    becomes(cluster, 2 * CARD)
    cluster.wait_for(lambda: "waits" in bound(cluster), "the other pod to be bound", said=lambda: why(cluster, "waits") + cluster.log("thole-scheduler"))
    print(f"capacity 0: {said}")


def test_a_pool_that_does_not_fit_the_gpus_is_told(cluster, metal):
    cluster.api.delete("nodepools", "metal")
    cluster.api.create("nodepools", {"apiVersion": "thole.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": "metal"},
                                     "spec": {"vgpu": {"memory": "100Gi", "count": 8}}})
    metal()
    print(becomes(cluster, 0, "PoolDoesNotFit"))


def test_a_simulated_pool_is_left_to_the_controller(cluster, metal):
    make_pool(cluster, simulated=True)
    metal()
    cluster.wait_for(lambda: "Starting workers" in cluster.log("thole-node", 100), "the agent to work", said=lambda: cluster.log("thole-node"))
    assert state(cluster) == (-1, "")
