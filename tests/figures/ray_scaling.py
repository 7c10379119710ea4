#!/usr/bin/env python3
"""How fast a Ray cluster grows for a gang and shrinks after it, with Ray's own autoscaler (v2) and its FakeMultiNodeProvider: every
node is a simulated one, a raylet of its own on this machine, so what is timed is control, not the coming of a machine.

A gang of two members, each as large as a node, is asked for where no node is: until the autoscaler has started both nodes, until
the gang stands, and until the first task has run on each; then it is given back, and the nodes are watched until they are
gone. The phase against the autoscaler's interval is varied. Beside it the same with a plain placement group. Warm: one head for
all rounds. Cold: a head of its own for each, on which nothing has run. Each row has the middle of the rounds; .p95 and .max are rows of their own.
THOLE_ROUNDS says how many rounds of either (20), THOLE_INTERVAL the autoscaler's interval in seconds (1; Ray's default is 5).
"""
from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from ray_costs import in_rays_python  # noqa: E402

ROUNDS, INTERVAL = int(os.environ.get("THOLE_ROUNDS", "20")), int(os.environ.get("THOLE_INTERVAL", "1"))
IDLE = 0.1  # minutes after which Ray lets an idle node go


def task_on(ray, options):
    @ray.remote
    def up():
        return 1

    return up.options(**options).remote()


def ours(ray):
    """Each first task is the member itself: all that the bundle holds, its record, and a process of its own."""
    import thole.ray

    gang = thole.ray.gang(thole.ray.Role(2, memory="20Gi", share=1.0, cpu="1", host_memory="64Mi"), timeout=120)
    return gang, [task_on(ray, gang.options(i)) for i in range(2)], gang.release


def plain(ray):
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1, "GPU": 1}] * 2)
    if not group.wait(120):
        raise TimeoutError("the placement group does not stand")
    return group, [task_on(ray, {"num_cpus": 1, "num_gpus": 1, "scheduling_strategy": PlacementGroupSchedulingStrategy(group, i)}) for i in range(2)], lambda: remove_placement_group(group)


def one_round(ray, grown, side, dice):
    """Seconds until both nodes live, until the gang stands, until its first tasks have run, and, after it is given back, until the nodes
    are gone."""
    time.sleep(dice.random() * INTERVAL)  # the phase is what is varied
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(side, ray)
        grown.wait(lambda: len(grown.nodes()) == 2 or asked.done(), "two nodes", 120)
        alive = time.monotonic() - begun
        kept, refs, give_back = asked.result()
    stands = time.monotonic() - begun
    ray.get(refs)
    ran = time.monotonic() - begun
    del refs
    begun = time.monotonic()
    give_back()
    del kept, asked
    grown.wait(lambda: not grown.nodes(), "the nodes to be gone", 120)
    return alive, stands, ran, time.monotonic() - begun


def spread(values):
    values = sorted(values)
    return {"p50": statistics.median(values), "p95": values[min(len(values) - 1, round(0.95 * (len(values) - 1)))], "max": values[-1]}


FIGURES = ((0, "nodes_alive", None), (1, "stands", None), (2, "first_task", "<= 10"), (3, "gone", None))


def say(prefix, found, peers, what):
    for at, name, goal in FIGURES:
        mine, other = spread([r[at] for r in found]), spread([r[at] for r in peers])
        for point, wanted in (("p50", None), ("p95", None), ("max", goal)):
            print(json.dumps({
                "id": f"ray.scaling.{prefix}{name}" + (f".{point}" if point != "p50" else ""), "ours": round(mine[point], 2), "unit": "s", "peer": round(other[point], 2),
                "limit": INTERVAL, "ratio": round(other[point] / mine[point], 2), "goal": wanted,
                "note": f"{point} of {len(found)} rounds, {what}; simulated nodes (FakeMultiNodeProvider), Ray's autoscaler v2 at an interval of {INTERVAL} s, which is the limit; "
                        f"idle time-out {IDLE * 60:.0f} s; peer: a placement group"}), flush=True)


def warm():
    """Rounds of both sides in turn, after one of each that is not counted."""
    from growing import Growing

    grown = Growing(most=2, interval=INTERVAL, idle_minutes=IDLE)
    try:
        ray = grown.connect()
        dice = random.Random(3)
        rows = {ours: [], plain: []}
        for number in range(ROUNDS + 1):
            for side in (ours, plain) if number % 2 else (plain, ours):
                rows[side].append(one_round(ray, grown, side, dice))
        return rows[ours][1:], rows[plain][1:]
    except BaseException:
        traceback.print_exc()  # before the end of the cluster, which ends this process too
        raise
    finally:
        grown.end()


def one_cold(side, seed):
    """The first round of a cluster, in a process of its own; prints its seconds."""
    from growing import Growing

    grown = Growing(most=2, interval=INTERVAL, idle_minutes=IDLE)
    try:
        print(json.dumps(one_round(grown.connect(), grown, side, random.Random(seed))), flush=True)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        grown.end()


def cold():
    rows = {ours: [], plain: []}
    for number in range(ROUNDS):
        for side in (ours, plain) if number % 2 else (plain, ours):
            done = subprocess.run([sys.executable, __file__, "--cold", side.__name__, str(number)], stdout=subprocess.PIPE, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
            if not lines:  # the cluster's end may end the process with a signal: what it had to say was said before
                raise RuntimeError(f"a cold round of {side.__name__} said nothing, exit code {done.returncode}")
            rows[side].append(json.loads(lines[-1]))
    return rows[ours], rows[plain]


def main():
    in_rays_python()
    if sys.argv[1:2] == ["--cold"]:
        one_cold({"ours": ours, "plain": plain}[sys.argv[2]], int(sys.argv[3]))
        return
    say("", *warm(), "warm")
    say("cold.", *cold(), "cold: a head of its own for each")


if __name__ == "__main__":
    main()
