"""KubeRay's operator, unmodified: its RayClusters are placed by us as gangs, and so are RayJobs, by labels in their pod templates."""
from __future__ import annotations

import json

import pytest
from pods import add_node, audit, bound, why

MEMORY = "thole.dev/vgpu-memory-mib"


@pytest.fixture(scope="module")
def served(whole_cluster):
    """KubeRay's resources."""
    for file in sorted((whole_cluster.parts / "share/kuberay").glob("*.yaml")):
        whole_cluster.kubectl("apply", "--server-side", "-f", file)
    whole_cluster.kubectl("wait", "--for=condition=Established", "crd/rayclusters.ray.io", "crd/rayjobs.ray.io")
    return whole_cluster


def begin_operator(cluster, *options):
    """KubeRay's operator."""
    cluster.start("ray-operator", cluster.parts / "bin/ray-operator", f"--kubeconfig={cluster.kubeconfig('kuberay', 'system:masters')}",
                  "--enable-leader-election=false", f"--metrics-addr={cluster.address}:26280", f"--health-probe-bind-address={cluster.address}:26281", *options)


@pytest.fixture
def operator(served, cluster, request):
    """The operator, with the options that a test wants."""
    begin_operator(served, *request.param)
    yield served
    for resource in ("rayjobs", "rayclusters"):
        for thing in served.api.list(resource):
            served.api.delete(resource, thing["metadata"]["name"])
    served.wait_for(lambda: not served.api.list("pods"), "the operator's pods to be gone")
    served.stop("ray-operator")


def template(name, mib, **metadata):
    asks = {"cpu": "100m", "memory": "64Mi", MEMORY: str(mib)}
    return {"metadata": metadata, "spec": {"containers": [{"name": name, "image": "ray", "resources": {"limits": asks, "requests": asks}}]}}


def cluster_spec(head, worker):
    return {"rayVersion": "2.52.0", "headGroupSpec": {"rayStartParams": {}, "template": head},
            "workerGroupSpecs": [{"groupName": "small", "replicas": 3, "minReplicas": 3, "maxReplicas": 3, "rayStartParams": {}, "template": worker}]}


@pytest.mark.parametrize("operator", [["--batch-scheduler=scheduler-plugins"]], indirect=True)
def test_raycluster(operator):
    """Head 4096 MiB and three workers of 40960 MiB on GPUs of 81920 MiB; a second one of the same size waits whole."""
    for n in range(2):
        add_node(operator, f"n{n}", mib=81920)
    for name in ("first", "second"):
        operator.api.create("rayclusters", {
            "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name, "namespace": "default", "labels": {"ray.io/gang-scheduling-enabled": "true"}},
            "spec": cluster_spec(template("head", 4096), template("worker", 40960))})
        if name == "first":
            operator.wait_for(lambda: len(bound(operator)) == 4, "the first RayCluster", said=lambda: operator.log("ray-operator"))
    group = operator.api.get("podgroups.scheduling.x-k8s.io", "first")
    assert group["spec"]["minMember"] == 4
    operator.wait_for(lambda: len(operator.api.list("pods")) == 8, "the second RayCluster's pods", said=lambda: operator.log("ray-operator"))
    waiting = [p["metadata"]["name"] for p in operator.api.list("pods") if not p["spec"].get("nodeName")]
    reason = operator.wait_for(lambda: next((w for w in (why(operator, p) for p in waiting) if "GangNoFitInCluster" in w), ""), "a reason")
    assert len(bound(operator)) == 4 and len(waiting) == 4
    assert sum(audit(operator, 81920).values()) == 4096 + 3 * 40960
    operator.wait_for(lambda: operator.api.get("rayclusters", "first").get("status", {}).get("state") == "ready", "KubeRay to call it ready (simulated nodes)")
    print(f"4 of 4 pods of the first on {len(set(bound(operator).values()))} nodes, 0 of 4 of the second: {reason}")


@pytest.mark.parametrize("operator", [["--batch-scheduler=scheduler-plugins"]], indirect=True)
def test_rayjob(operator):
    """The operator's scheduler-plugins backend refuses a RayJob, which gets no RayCluster; without it, labels in the templates are enough for the same object."""
    for n in range(2):
        add_node(operator, f"n{n}", mib=81920)
    ours = {"labels": {"thole.dev/gang": "job"}, "annotations": {"thole.dev/gang-size": "4"}}
    head, worker = template("head", 4096, **ours), template("worker", 40960, **ours)
    for t in (head, worker):
        t["spec"]["schedulerName"] = "thole-scheduler"
    operator.api.create("rayjobs", {
        "apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "job", "namespace": "default", "labels": {"ray.io/gang-scheduling-enabled": "true"}},
        "spec": {"entrypoint": "true", "submissionMode": "HTTPMode", "rayClusterSpec": cluster_spec(head, worker)}})
    refusal = "currently only RayCluster is supported, got *v1.RayJob"
    said = operator.wait_for(lambda: operator.log("ray-operator", 10000).count(refusal) >= 3 and refusal, "the backend to refuse it three times",
                             said=lambda: operator.log("ray-operator"))
    assert not operator.api.list("rayclusters") and not operator.api.list("pods")
    operator.stop("ray-operator")
    begin_operator(operator)
    operator.wait_for(lambda: len(bound(operator)) == 4, "the RayJob's cluster", said=lambda: operator.log("ray-operator") + json.dumps(bound(operator)))
    held = audit(operator, 81920)
    assert sum(held.values()) == 4096 + 3 * 40960
    print(f"with the backend: {said}; without it: 4 of 4 pods of the same RayJob are bound, holding {sum(held.values())} MiB")
