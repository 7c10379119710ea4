"""Gangs on a cluster that has no GPU yet: Ray's own autoscaler brings nodes for them, keeps those that came early, and lets all go."""
import concurrent.futures
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


def both():
    """A gang that needs two nodes."""
    import thole.ray

    return thole.ray.gang(thole.ray.Role(2, memory="20Gi", share=1.0, cpu="1", host_memory="64Mi"), timeout=PATIENCE)


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


def test_a_gang_that_gave_up_keeps_no_node(growing):
    """One node came, the time was over: the autoscaler is no longer asked for anything, and the node goes."""
    import thole.ray

    growing.scarce(1)
    with pytest.raises(thole.ray.GangError):
        thole.ray.gang(thole.ray.Role(2, memory="20Gi", share=1.0, cpu="1", host_memory="64Mi"), timeout=8)
    growing.scarce(None)
    growing.wait(lambda: not growing.nodes(), "the end of the node that came", PATIENCE)
