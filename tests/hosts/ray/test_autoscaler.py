"""Gangs on a cluster that has no GPU yet: Ray's own autoscaler brings nodes for them, keeps those that came early, and lets all go."""
import concurrent.futures
import os
import pathlib
import signal
import time

import pytest
from cluster import PATIENCE
from growing import Growing

IDLE = 0.1  # minutes


@pytest.fixture(scope="module")
def growing():
    cluster = Growing(most=2, interval=1, idle_minutes=IDLE)
    try:
        cluster.connect()
        yield cluster
    finally:
        cluster.end()


def of(members, memory="20Gi", share=1.0, model="", timeout=PATIENCE):
    """A gang; a node has one GPU of 24 GiB, so each member of 20 GiB needs one of its own."""
    import thole.ray

    return thole.ray.gang(thole.ray.Role(members, memory=memory, share=share, model=model, cpu="0.5", host_memory="64Mi"), timeout=timeout)


def both():
    """A gang that needs two nodes."""
    return of(2)


def test_without_time_it_is_refused_at_once(growing):
    import thole.ray

    begun = time.monotonic()
    with pytest.raises(thole.ray.GangError) as refusal:
        thole.ray.gang(thole.ray.Role(1, memory="20Gi"), timeout=0)
    assert refusal.value.reason == "GangNoFitInCluster" and time.monotonic() - begun < 30 and not growing.nodes()


def test_nodes_that_came_early_wait_for_the_rest_of_the_gang(growing):
    """One node comes, the other is not to be had: the first one is kept for longer than an idle node lives. Then the second may
    come, the gang stands on both, and when it is given back both go."""
    growing.scarce(1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(both)
        first = growing.wait(growing.nodes, "the first node", PATIENCE)
        until = time.monotonic() + 2.5 * IDLE * 60  # that something does not happen has no event
        while time.monotonic() < until:
            assert growing.nodes() == first and not waiting.done()
            time.sleep(0.1)
        growing.scarce(None)
        gang = waiting.result(PATIENCE)
    assert {p.node for p in gang.placements} == set(growing.nodes()) > set(first)
    gang.release()
    growing.wait(lambda: not growing.nodes(), "the end of both nodes", PATIENCE)


def test_what_becomes_of_a_plain_placement_groups_first_node(growing):
    """Beside it: two bundles, of which the node of one came. Whether Ray keeps it is Ray's matter, and said; ours is kept, see above."""
    from ray.util.placement_group import placement_group, remove_placement_group

    growing.scarce(1)
    group = placement_group([{"CPU": 0.5, "GPU": 1}] * 2)
    first = growing.wait(growing.nodes, "the first node", PATIENCE)
    until, kept = time.monotonic() + 2.5 * IDLE * 60, True
    while kept and time.monotonic() < until:
        kept = growing.nodes() == first
        time.sleep(0.1)
    print(f"plain Ray: the node that came early was {'kept' if kept else 'taken'} within {2.5 * IDLE * 60:.0f} s, the group waits on")
    assert not group.wait(0.1)
    remove_placement_group(group)
    growing.scarce(None)
    growing.wait(lambda: not growing.nodes(), "the end of the nodes", PATIENCE)


def test_a_gang_that_gave_up_keeps_no_node(growing):
    """One node came, the time was over: the autoscaler is no longer asked for anything, and the node goes."""
    import thole.ray

    growing.scarce(1)
    with pytest.raises(thole.ray.GangError):
        thole.ray.gang(thole.ray.Role(2, memory="20Gi", share=1.0, cpu="1", host_memory="64Mi"), timeout=8)
    growing.scarce(None)
    growing.wait(lambda: not growing.nodes(), "the end of the node that came", PATIENCE)


def test_a_gang_that_waits_brings_a_node_to_a_full_cluster(growing):
    """Ray holds what is asked for against whole nodes: what the first gang has is asked for as well, or no second node would come."""
    with of(1) as first:
        [node] = growing.nodes()
        with of(1) as second:
            assert {p.node for p in (*first.placements, *second.placements)} == set(growing.nodes()) > {node}
    growing.wait(lambda: not growing.nodes(), "the end of both nodes", PATIENCE)


def test_two_halves_with_their_contexts_need_two_nodes(growing):
    """2 x 12 GiB are 24 GiB, but each has a context of 512 MiB beside it."""
    with of(2, memory="12Gi", share=0.5) as gang:
        assert len({p.node for p in gang.placements}) == 2
    growing.wait(lambda: not growing.nodes(), "the end of both nodes", PATIENCE)


def test_gangs_that_do_not_fit_together_come_one_after_the_other(growing):
    """Two nodes are all there are to be had. Two gangs of two each, and one of three that can never be: Ray brings nothing for a list that it
    cannot hold, so each gets its turn."""
    import thole.ray

    def stand_and_go(_):
        with of(2) as gang:
            return len({p.node for p in gang.placements})

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        never = pool.submit(of, 3, timeout=60)
        assert list(pool.map(stand_and_go, range(2))) == [2, 2]
        with pytest.raises(thole.ray.GangError):
            never.result(PATIENCE)
    growing.wait(lambda: not growing.nodes(), "the end of both nodes", PATIENCE)


def test_the_service_is_killed_while_a_gang_waits(growing):
    """With SIGKILL, when one node of two is there: Ray starts it again, who waits asks it again, and it asks for the nodes again."""
    growing.scarce(1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(both)
        growing.wait(growing.nodes, "the first node", PATIENCE)
        [service] = [p for p in growing.processes() if pathlib.Path(f"/proc/{p}/cmdline").read_bytes().startswith(b"ray::GangService")]
        os.kill(service, signal.SIGKILL)
        growing.scarce(None)
        gang = waiting.result(PATIENCE)
    assert {p.node for p in gang.placements} == set(growing.nodes()) and len(growing.nodes()) == 2
    gang.release()
    growing.wait(lambda: not growing.nodes(), "the end of both nodes", PATIENCE)
