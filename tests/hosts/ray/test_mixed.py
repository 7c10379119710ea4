"""A cluster of two models of GPU of different sizes: MiB and share are those of the GPU that a vGPU lies on."""
import pytest
from cluster import PATIENCE, Cluster

POOL = ("apiVersion: thole.dev/v1alpha1\nkind: NodePool\nmetadata: {{name: {name}}}\nspec:\n  simulated: true\n  nodes: [{{name: {name}}}]\n"
        "  gpus: {{count: 2, model: {model}, memory: {memory}, contextMemory: {context}}}\n  cpu: 4\n  memory: 4Gi\n")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pools")
    for name, model, memory, context in (("large", "NVIDIA H200", "141Gi", "600Mi"), ("little", "NVIDIA L4", "24Gi", "300Mi")):
        (folder / name).write_text(POOL.format(name=name, model=model, memory=memory, context=context))
    cluster = Cluster(str(folder / "large"), 1)
    try:
        cluster.program("start", "--pool", str(folder / "little"))
        cluster.connect()
        yield cluster
    finally:
        import ray

        ray.shutdown()
        cluster.stop()


@pytest.fixture
def look():
    """Made here, so that it travels by value: a worker cannot import this file."""
    def look():
        import ray

        import thole

        allocation = thole.allocation.read()
        held = {name: int(value) for name, value in ray.get_runtime_context().get_assigned_resources().items() if name.startswith("thole_memory_")}
        [device] = allocation.devices
        return allocation.node, device.memory_mib, device.share_milli, sum(held.values())

    return look


@pytest.mark.parametrize("model, node, context", [("NVIDIA H200", "large", 600), ("NVIDIA L4", "little", 300)])
def test_a_model_is_the_nodes(mixed, look, model, node, context):
    import ray

    import thole.ray

    task = thole.ray.vgpu(memory="10Gi", share=0.5, model=model, cpu=0.1)(look)
    # Four fit the two GPUs of the model, and the fifth waits for one of them rather than go to the other node.
    assert ray.get([task.remote() for _ in range(5)], timeout=PATIENCE) == [(node, 10240, 500, 10240 + context)] * 5
    with thole.ray.gang(thole.ray.Role(2, memory="10Gi", share=0.5, model=model, cpu="0.1"), timeout=30) as gang:
        assert [gang.node_name(i) for i in range(2)] == [node] * 2


def test_without_a_model_it_lies_where_it_fits(mixed, look):
    """30 GiB are more than the little ones have; what both could hold adds up on each to no more than it has."""
    import ray

    import thole.ray

    big = thole.ray.vgpu(memory="30Gi", share=0.5, cpu=0.1)(look)
    assert ray.get(big.remote(), timeout=PATIENCE) == ("large", 30720, 500, 30720 + 600)
    with pytest.raises(thole.ray.GangError) as refusal:
        thole.ray.vgpu(memory="30Gi", model="NVIDIA L4", cpu=0.1)(look).remote()
    assert refusal.value.reason == "DeviceTooSmall"
    with thole.ray.gang(thole.ray.Role(4, memory="20Gi", share=1.0, cpu="0.1"), timeout=30) as gang:
        assert sorted(gang.node_name(i) for i in range(4)) == ["large"] * 2 + ["little"] * 2
