"""Gangs beside plain Ray: what does not hang, what is never half there, and whose GPU is whose."""
import concurrent.futures
import os
import time

import pytest
from cluster import PATIENCE, until

GIB = 1024


@pytest.fixture(autouse=True)
def _nothing_is_left(wide):
    yield
    import ray

    from thole.ray.service import service

    until(lambda: all(g["holders"] == 0 for g in ray.get(service().usage.remote())), what="the release of all GPUs")


def held_by_ray(given):
    """(node, UUIDs) of what Ray holds for each, out of the nodes' own labels. `given`: Ray's id of the node, and its GPUs' indices."""
    from thole.ray import capacity

    live = {n.ray_id: n for n in capacity.live_nodes()}
    return [(live[node].name, [live[node].node.gpus[i].uuid for i in held]) for node, held in given]


def records(gang):
    """What every member's own process finds in its record, and what Ray says that it has."""
    import ray

    @ray.remote
    class Worker:
        def look(self):
            import thole

            a = thole.allocation.read()
            context = ray.get_runtime_context()
            held = {int(name.split("_")[2]) for name in context.get_assigned_resources() if name.startswith("thole_share_")}
            return (a.node, os.getpid(), [(d.uuid, d.kind, d.memory_mib, d.share_milli, d.backend) for d in a.devices],
                    (context.get_node_id(), sorted(held)))

    workers = [Worker.options(**gang.options(i)).remote() for i in range(len(gang))]
    found = ray.get([w.look.remote() for w in workers], timeout=PATIENCE)
    for worker in workers:
        ray.kill(worker)
    return found


def test_halves_and_wholes_in_one_gang(wide):
    """8 x 0.5 and 4 x 1.0 on 8 GPUs: every GPU is full, each member is on the GPU of the plan, in a process of its own."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    import thole.ray

    group = placement_group([{"GPU": 0.5, "CPU": 0.1}] * 8 + [{"GPU": 1, "CPU": 0.1}] * 4)
    plain = group.wait(10)
    print("\nplain Ray, 8 x 0.5 and 4 x 1.0 on 8 GPUs:", "stands" if plain else "hangs (10 s)")
    remove_placement_group(group)
    assert plain  # the sums are enough here, and wholes find whole GPUs: on fragments it is another thing, see below
    roles = thole.ray.Role(8, memory="11Gi", share=0.5, cpu="0.1"), thole.ray.Role(4, gpus=1, cpu="0.1")
    with thole.ray.gang(*roles, timeout=30) as gang:
        planned = [(gang.node_name(i), [g.uuid for g in gang.devices(i)]) for i in range(len(gang))]
        found = records(gang)
        right = sum(node == plan[0] and [d[0] for d in devices] == plan[1] for plan, (node, _, devices, _) in zip(planned, found))
        assert held_by_ray([given for *_, given in found]) == planned  # not only what the record says: what Ray keeps from others
        print(f"thole: {right} of 12 members on the GPU of the plan")
        assert right == 12 and len({pid for _, pid, _, _ in found}) == 12
        halves = [d[0][0] for _, _, d, _ in found[:8]]
        wholes = [d[0][0] for _, _, d, _ in found[8:]]
        assert all(halves.count(u) == 2 for u in halves) and len(set(wholes)) == 4 and not set(halves) & set(wholes)
        with pytest.raises(thole.ray.GangError) as refusal:
            thole.ray.gang(thole.ray.Role(1, memory="12Gi", share=0.5, cpu="0.1"), timeout=0)
        assert refusal.value.reason == "GangNoFitInCluster" and refusal.value.largest_hole_mib < 12 * GIB
    assert ray.is_initialized()


def test_a_place_that_is_taken_between_plan_and_group(wide, monkeypatch):
    """By somebody who does not ask us: the placement group that cannot stand is removed whole, and the gang lies elsewhere."""
    import ray
    from ray.util.placement_group import placement_group_table
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    import thole.ray
    from thole.ray import gangs

    @ray.remote(num_cpus=0)
    class Thief:
        def up(self):
            return True

    make, thieves, planned = gangs._make_group, [], []

    def late(gang, answer, seconds):
        planned.append(answer["placements"][0]["grants"][0]["uuid"])
        if not thieves:
            node = NodeAffinitySchedulingStrategy(answer["placements"][0]["node"], soft=False)
            thieves.append(Thief.options(resources={k: v for k, v in answer["bundles"][0].items() if k.startswith("thole_")}, scheduling_strategy=node).remote())
            ray.get(thieves[0].up.remote(), timeout=PATIENCE)
            seconds = 2  # it cannot stand
        return make(gang, answer, seconds)

    monkeypatch.setattr(gangs, "_make_group", late)
    with thole.ray.gang(thole.ray.Role(2, gpus=1, cpu="0.1"), timeout=60) as gang:
        groups = [g for g in placement_group_table().values() if g["name"].startswith("thole:") and g["state"] != "REMOVED"]
        assert len(groups) == 1 and groups[0]["state"] == "CREATED", groups
        assert len(planned) >= 2 and planned[0] not in [g.uuid for i in range(2) for g in gang.devices(i)]
    ray.kill(thieves[0])


def test_fragments(wide):
    """Every GPU is 60 % used. A placement group that wants 80 % of one GPU hangs without a word: the node's sum has room.
    The core says at once that there is none, how large the largest hole is, and places what fits the holes."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    import thole.ray

    @ray.remote(num_gpus=0.6, num_cpus=0.1)
    class Holder:
        def up(self):
            return True

    # Four to a node, by name: left alone, Ray sends more than four to one, since its sum has room for six, and they hang.
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    holders = [Holder.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote()
               for n in ray.nodes() if n["Alive"] for _ in range(4)]
    ray.get([h.up.remote() for h in holders], timeout=PATIENCE)
    group = placement_group([{"GPU": 0.8, "CPU": 0.1}])
    plain = group.wait(10)
    print("\nplain Ray, 0.8 of a GPU where each has 0.4 left:", "stands" if plain else "hangs (10 s), no reason")
    remove_placement_group(group)
    for holder in holders:
        ray.kill(holder)
    assert not plain

    with thole.ray.gang(thole.ray.Role(8, memory="13Gi", share=0.6, cpu="0.1"), timeout=30) as held:
        assert len({g.uuid for i in range(8) for g in held.devices(i)}) == 8
        begun = time.monotonic()
        with pytest.raises(thole.ray.GangError) as refusal:
            thole.ray.gang(thole.ray.Role(1, memory="18Gi", share=0.8, cpu="0.1"), timeout=0)
        seconds = time.monotonic() - begun
        print(f"thole: refused in {seconds * 1000:.0f} ms: {refusal.value}")
        assert refusal.value.largest_hole_mib == 24 * GIB - 13 * GIB - 2 * 512
        with thole.ray.gang(thole.ray.Role(8, memory="10Gi", share=0.4, cpu="0.1"), timeout=30) as fits:
            print(f"thole: {len(fits)} of 8 members of 0.4 placed in the holes")
            assert len({g.uuid for i in range(8) for g in fits.devices(i)}) == 8


def test_two_gangs_race(wide):
    """Two gangs of which only one fits, asked for at once: 100 rounds, one whole each time, none half held."""
    import ray
    from ray.util.placement_group import placement_group_table

    import thole.ray

    rounds, winners, half = int(os.environ.get("THOLE_TEST_ROUNDS", "100")), 0, 0
    role = thole.ray.Role(5, gpus=1, cpu="0.1")

    def ask():
        try:
            return thole.ray.gang(role, timeout=0)
        except thole.ray.GangError as error:
            assert error.reason in ("GangNoFitInCluster", "PlanStale"), error
            return None

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            first, second = pool.submit(ask), pool.submit(ask)
            got = [g for g in (first.result(PATIENCE), second.result(PATIENCE)) if g is not None]
            winners += len(got) == 1
            live = [g for g in placement_group_table().values() if g["name"].startswith("thole:") and g["state"] != "REMOVED"]
            half += len(live) != len(got) or any(g["state"] != "CREATED" for g in live)
            for gang in got:
                gang.release()
            until(lambda: sum(n.get("thole_share_0", 0) for n in free()) == 2000, what="the release")
    print(f"\n{winners} of {rounds} rounds with one whole gang, {half} with a half one")
    assert winners == rounds and half == 0
    assert ray.is_initialized()


def free():
    from thole.ray.capacity import free_resources

    return list(free_resources().values())


def test_time_out_leaves_nothing_and_waiting_gets_it(wide):
    import thole.ray

    everything = thole.ray.Role(8, gpus=1, cpu="0.1")
    held = thole.ray.gang(everything, timeout=30)
    begun = time.monotonic()
    with pytest.raises(thole.ray.GangError) as refusal:
        thole.ray.gang(thole.ray.Role(2, gpus=1), timeout=1.0)
    assert 1.0 <= time.monotonic() - begun < 30 and "0 of 8" not in refusal.value.message
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thole.ray.gang, everything, timeout=PATIENCE)
        time.sleep(0.5)
        assert not waiting.done()
        held.release()
        waiting.result(PATIENCE).release()


def test_the_service_may_be_killed(wide):
    """Its state is the GCS's: a restarted one knows what is held."""
    import ray

    import thole.ray
    from thole.ray.service import service

    with thole.ray.gang(thole.ray.Role(6, gpus=1, cpu="0.1"), timeout=30) as held:
        before = ray.get(service().usage.remote())
        ray.kill(service(), no_restart=False)
        after = ray.get(service().usage.remote(), timeout=PATIENCE)
        assert after == before and sum(g["holders"] for g in after) == 6
        with pytest.raises(thole.ray.GangError):
            thole.ray.gang(thole.ray.Role(3, gpus=1, cpu="0.1"), timeout=0)
        assert len(held) == 6


@pytest.mark.parametrize("role, reason", [
    (dict(members=1, memory="80Gi"), "DeviceTooSmall"), (dict(members=1, memory="8Gi", share=0), "FieldBad"),
    (dict(members=1, memory="8Gi", share=1.01), "FieldBad"), (dict(members=1, memory="8"), "UnitBad"),
    (dict(members=1, memory="8Gx"), "UnitBad"), (dict(members=1, memory=8), "UnitBad"), (dict(members=0, gpus=1), "FieldBad"),
    (dict(members=1, memory="8Gi", gpus=1), "RolesContradict"), (dict(members=1, share=0.5), "RolesContradict"),
    (dict(members=1, gpus=1, model="NVIDIA H900"), "NoSuchModel"), (dict(members=9, gpus=1), "GangLargerThanPool"),
    (dict(members=1, memory="1Gi", cpu="99"), "NodeTooSmall")])
def test_bad_gangs(wide, role, reason):
    import thole.ray
    from thole import TholeError

    with pytest.raises(TholeError) as refusal:
        thole.ray.gang(thole.ray.Role(**role), timeout=0)
    assert refusal.value.reason == reason and len(refusal.value.message) > 20, refusal.value
