"""The decorator: every call has its own vGPU, its own record and its own process."""
import os

import pytest
from cluster import PATIENCE, until
from test_gangs import held_by_ray


@pytest.fixture(scope="module")
def tasks(wide):
    import thole.ray

    def look(number, memory, share):
        import ray

        import thole

        allocation = thole.allocation.read()
        device = allocation.devices[0]
        right = (len(allocation.devices), device.memory_mib, device.share_milli, device.kind, device.backend) == (
            1, memory, share, "vgpu", "simulated")
        private = os.stat(os.environ["THOLE_RECORD"]).st_mode & 0o777 == 0o400
        context = ray.get_runtime_context()
        held = sorted({int(name.split("_")[2]) for name in context.get_assigned_resources() if name.startswith("thole_share_")})
        return number, os.getpid(), right and private and os.environ["CUDA_VISIBLE_DEVICES"] == "", device.uuid, (context.get_node_id(), held)

    sizes = [(2, 0.05), (3, 0.1), (5, 0.25), (8, 0.5)]
    return [(gib * 1024, round(share * 1000), thole.ray.vgpu(memory=f"{gib}Gi", share=share, cpu=0.25)(look))
            for gib, share in sizes]


def test_mixed_tasks_each_with_its_record(wide, tasks):
    """Mixed vGPUs over two nodes: each checks its own record; no process is used for a second one."""
    import ray

    count = int(os.environ.get("THOLE_TEST_TASKS", "200"))
    refs = []
    for number in range(count):
        memory, share, task = tasks[number % len(tasks)]
        refs.append(task.remote(number, memory, share))
    found = ray.get(refs, timeout=600)
    right, pids, gpus = sum(f[2] for f in found), {f[1] for f in found}, {f[3] for f in found}
    plain = ray.remote(num_cpus=8)(lambda: os.getpid())
    reused = len(set(ray.get([plain.remote() for _ in range(24)], timeout=PATIENCE)))
    print(f"\n{right} of {count} tasks found the right record; {len(pids)} processes, where 24 tasks of plain Ray had {reused}; {len(gpus)} GPUs")
    assert right == count and len(pids) == count and [f[0] for f in found] == list(range(count))
    assert [uuids for _, uuids in held_by_ray([f[4] for f in found])] == [[f[3]] for f in found]  # the record's GPU is the one that Ray holds
    assert len(gpus) == 8 or count < 200


def test_actors(wide):
    import ray

    import thole.ray

    @thole.ray.vgpu(memory="20Gi", share=0.75, cpu=0.1)
    class Holder:
        def __init__(self, more=0):
            self.more = more

        def look(self):
            import thole

            return os.getpid(), thole.allocation.read().devices[0].uuid, self.more

    holders = [Holder.remote(more=i) for i in range(8)]
    found = ray.get([h.look.remote() for h in holders], timeout=PATIENCE)
    assert len({f[0] for f in found}) == 8 and len({f[1] for f in found}) == 8  # two do not fit one GPU
    assert [f[2] for f in found] == list(range(8))
    for holder in holders:
        ray.kill(holder)


def test_a_gang_sees_what_tasks_hold(wide):
    """One ledger: a gang is not planned where a decorated actor is."""
    import ray

    import thole.ray
    from thole.ray.service import service

    @thole.ray.vgpu(memory="20Gi", cpu=0.1)
    class Holder:
        def look(self):
            return True

    holder = Holder.remote()
    ray.get(holder.look.remote(), timeout=PATIENCE)
    until(lambda: sum(g["holders"] for g in ray.get(service().usage.remote())) == 1, what="its being seen")
    with pytest.raises(thole.ray.GangError):
        thole.ray.gang(thole.ray.Role(8, gpus=1, cpu="0.1"), timeout=0)
    with thole.ray.gang(thole.ray.Role(7, gpus=1, cpu="0.1"), timeout=30) as gang:
        assert len(gang) == 7
    ray.kill(holder)


@pytest.mark.parametrize("given, reason", [
    (dict(memory="80Gi"), "DeviceTooSmall"), (dict(memory="8Gi", share=0), "FieldBad"), (dict(memory="8Gi", share=1.1), "FieldBad"),
    (dict(memory="8"), "UnitBad"), (dict(memory="8Gx"), "UnitBad"), (dict(memory="8Gi", num_gpus=1), "NativeOverrides"),
    (dict(memory="8Gi", runtime_env={"thole": {}}), "NativeOverrides"), (dict(memory="8Gi", model="NVIDIA H900"), "NoSuchModel")])
def test_bad_decorations(wide, given, reason):
    import thole.ray
    from thole import TholeError

    def nothing():
        return None

    with pytest.raises(TholeError) as refusal:
        thole.ray.vgpu(**given)(nothing).remote()
    assert refusal.value.reason == reason


def test_what_cannot_carry_it(wide):
    import ray

    import thole.ray
    from thole import TholeError

    def nothing():
        return None

    async def later():
        return None

    for what in (ray.remote(nothing), 7, nothing.__call__, later):
        with pytest.raises(TholeError) as refusal:
            thole.ray.vgpu(memory="8Gi")(what)
        assert refusal.value.reason == "RolesContradict"
    with pytest.raises(TypeError):
        thole.ray.vgpu(memory="8Gi")(nothing)()
