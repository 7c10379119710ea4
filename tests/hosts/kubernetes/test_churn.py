"""Many gangs that come and go on simulated nodes: at the end nothing is held by nobody, and nothing was ever held twice."""
from __future__ import annotations

import os
import random
import signal
import time

from conftest import begin_scheduler
from pods import add_node, audit, bound, pod

LONG = os.environ.get("THOLE_TEST_LONG") == "1"
NODES, GANGS = (1000, 500) if LONG else (40, 60)


def test_gangs_come_and_go(cluster, programs):
    dice = random.Random(7)
    for n in range(NODES):
        add_node(cluster, f"n{n:04}", gpus=2)
    alive: dict[str, list[str]] = {}
    made = ended = audits = 0
    for number in range(GANGS):
        size = dice.choice((1, 2, 4, 8))
        members = [f"g{number}-{i}" for i in range(size)]
        for name in members:
            cluster.api.create("pods", pod(name, dice.choice((2048, 4096, 8192)), gang=f"g{number}", size=size))
        alive[f"g{number}"] = members
        made += 1
        if len(alive) > 12:
            for name in alive.pop(dice.choice(sorted(alive))):
                cluster.api.delete("pods", name)
            ended += 1
        if number == GANGS // 2:
            cluster.stop("thole-scheduler", signal.SIGKILL)
            begin_scheduler(cluster, programs)
        if number % 10 == 0:
            audit(cluster)
            audits += 1
    wanted = {name for members in alive.values() for name in members}
    since = time.monotonic()
    cluster.wait_for(lambda: wanted <= set(bound(cluster)), "all gangs that are left to be bound",
                     said=lambda: f"{sorted(wanted - set(bound(cluster)))}" + cluster.log("thole-scheduler"))
    held = audit(cluster)
    print(f"{made} gangs, {ended} ended, the scheduler killed once, {audits + 1} audits; {len(wanted)} of {len(wanted)} members lie on "
          f"{len(held)} of {2 * NODES} GPUs, the last after {time.monotonic() - since:.1f} s (simulated nodes)")
    # All end; gangs then take every GPU, which they could not if anything were held by nobody.
    for name in wanted:
        cluster.api.delete("pods", name)
    every, most = 2 * NODES, 400
    names = []
    for begin in range(0, every, most):
        size = min(most, every - begin)
        for i in range(size):
            names.append(f"all-{begin}-{i}")
            cluster.api.create("pods", pod(names[-1], 8192, gang=f"all-{begin}", size=size))
    cluster.wait_for(lambda: set(names) <= set(bound(cluster)), "gangs to take every GPU", said=lambda: cluster.log("thole-scheduler"))
    assert sorted(audit(cluster).values()) == [8192] * every
    print(f"gangs of at most {most} then took {every} of {every} GPUs")
