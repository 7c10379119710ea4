"""Many gangs that come and go on simulated nodes, more than there is room for: nothing is ever held twice, and at the end nothing is held by nobody."""
from __future__ import annotations

import os
import random
import signal
import time

from conftest import begin_scheduler
from pods import MEMORY, add_node, audit, bound, pod

LONG = os.environ.get("THOLE_TEST_LONG") == "1"
NODES, GANGS, ASKS = (1000, 500, (4096, 8192, 8192)) if LONG else (40, 60, (2048, 4096, 8192))  # MiB of a member, one of these
MIB, DEMAND = 8192, 1.25  # of a GPU, one on each node; and how much more is asked for than there is


def test_gangs_come_and_go(cluster, programs):
    dice = random.Random(7)
    plenty = {MEMORY: str(16 * MIB)}  # so that nothing but the ledger keeps a GPU from being held twice: NodeResourcesFit counts a node's sum
    for n in range(NODES):
        add_node(cluster, f"n{n:04}", mib=MIB)
        cluster.api.patch("nodes", f"n{n:04}", {"status": {"capacity": plenty, "allocatable": plenty}}, part="status")
    alive: dict[str, dict[str, int]] = {}
    made = ended = audits = 0

    def end():
        for name in alive.pop(dice.choice(sorted(alive))):
            cluster.api.delete("pods", name)

    def full():
        """(GPUs held, gangs that wait) once no gang is in between: as long as one waits there are fewer free GPUs than it has members."""
        lie = set(bound(cluster))
        waiting = [g for g, members in alive.items() if not lie & members.keys()]
        held = audit(cluster)
        between = [g for g, members in alive.items() if lie & members.keys() and not members.keys() <= lie]
        return (len(held), len(waiting)) if not between and waiting and len(held) > 0.8 * NODES else None

    def fill(when):
        held, waiting = cluster.wait_for(full, "every gang for which there is room to be bound", said=lambda: cluster.log("thole-scheduler"))
        print(f"{when}: {held} of {NODES} GPUs are held, {waiting} of {len(alive)} gangs wait (simulated nodes)")

    for number in range(GANGS):
        size = dice.choice((1, 2, 4, 8))
        members = {f"g{number}-{i}": dice.choice(ASKS) for i in range(size)}
        for name, mib in members.items():
            cluster.api.create("pods", pod(name, mib, gang=f"g{number}", size=size))
        alive[f"g{number}"] = members
        made += 1
        while sum(sum(members.values()) for members in alive.values()) > DEMAND * MIB * NODES:
            end()
            ended += 1
        if number == GANGS * 3 // 4:
            fill("before the scheduler is killed")
            cluster.stop("thole-scheduler", signal.SIGKILL)
            begin_scheduler(cluster, programs)
        if number % (GANGS // 20) == 0:
            audit(cluster)
            audits += 1
    fill("at the end")
    # So many end that each of the others has room, wherever they lie.
    while sum(map(len, alive.values())) > NODES:
        end()
        ended += 1
    wanted = {name for members in alive.values() for name in members}
    since = time.monotonic()
    cluster.wait_for(lambda: wanted <= set(bound(cluster)), "all gangs that are left to be bound",
                     said=lambda: f"{sorted(wanted - set(bound(cluster)))}" + cluster.log("thole-scheduler"))
    held = audit(cluster)
    print(f"{made} gangs, {ended} ended, the scheduler killed once, {audits + 1} audits; {len(wanted)} of {len(wanted)} members lie on "
          f"{len(held)} of {NODES} GPUs, the last after {time.monotonic() - since:.1f} s (simulated nodes)")
    # All end; gangs then take every GPU, which they could not if anything were held by nobody.
    for name in wanted:
        cluster.api.delete("pods", name)
    most = 400
    names = []
    for begin in range(0, NODES, most):
        size = min(most, NODES - begin)
        for i in range(size):
            names.append(f"all-{begin}-{i}")
            cluster.api.create("pods", pod(names[-1], MIB, gang=f"all-{begin}", size=size))
    cluster.wait_for(lambda: set(names) <= set(bound(cluster)), "gangs to take every GPU", said=lambda: cluster.log("thole-scheduler"))
    assert sorted(audit(cluster).values()) == [MIB] * NODES
    print(f"gangs of at most {most} then took {NODES} of {NODES} GPUs")
