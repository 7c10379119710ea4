"""A node that is cut off with a rank on it that goes on: its job goes on elsewhere, and what the old rank saves then is refused."""
from __future__ import annotations

import json
import os
import subprocess

import pytest
import thole.checkpoint
from installed import capacity, describe, job, make_store, members, status, wait_for_checkpoint, wait_for_phase

# It depends on no other rank, so that nothing but the fence keeps it from saving. It does as its platform asks, too; but nobody who asks
# gets at it. What is refused to it is refused again and again.
RANK = """
import sys, time, thole
with thole.join() as run:
    done = saved["step"] if (saved := run.restore(like={"step": 0})) else 0
    print("begins after", done, flush=True)
    while True:
        done += 1
        run.step(done)
        try:
            if run.save_due(done) or run.should_stop:
                run.save(done, {"step": done})
                print("saved", done, flush=True)
        except thole.TholeError as refusal:
            print("refused", done, refusal.reason, flush=True)
        if run.should_stop:
            sys.exit(thole.EXIT_STOPPED)
        time.sleep(0.1)
"""


@pytest.fixture
def space(installed):
    name = "fencing"
    make_store(installed, name, os.environ["THOLE_COMMAND"])
    yield name
    installed.kubectl("delete", "tj", "--all", "-n", name, "--timeout=90s", seconds=120)


def apply(cluster, space):
    spec = {"roles": [{"name": "r", "members": 1, "vgpu": {"memory": "1Gi"}, "cpu": "250m", "memory": "64Mi", "command": ["python3", "-c", RANK]}],
            "gracePeriod": "5s", "checkpoint": {"store": "checkpoints", "key": "digits", "interval": 10, "keep": 3}}
    cluster.kubectl("apply", "-n", space, "-f", "-", given=json.dumps(
        {"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "one"}, "spec": spec}))


def committed(cluster, space, attempt):
    """Steps whose checkpoint in the store is one of an attempt."""
    run = job(cluster, space, "one")["metadata"]["uid"]
    store = thole.checkpoint.Checkpoints(cluster.d / f"store-{space}" / f"one-{run}", run=run, key=cluster.d / f"{space}.key")
    return sorted(i.step for i in store.list() if i.state == "committed" and i.attempt == attempt)


def test_a_rank_on_a_node_that_is_cut_off_cannot_save(installed, space):
    apply(installed, space)
    wait_for_checkpoint(installed, space, 30)
    [pod] = members(installed, space, 1, "one")
    node = next(n for n in installed.nodes if n.name == pod["spec"]["nodeName"])
    [log] = (node.d / "pods").glob(f"{space}_{pod['metadata']['name']}_*/main")
    subprocess.run(["ip", "link", "set", node.link, "down"], check=True)
    try:
        installed.wait_for(lambda: committed(installed, space, 2), "a checkpoint of the second attempt", said=lambda: describe(installed, space))
        lines = installed.wait_for(lambda: (found := [line for line in text_of(log) if "refused" in line])[2:] and found, "the old rank to be refused",
                                   said=lambda: "\n".join(text_of(log)))
        before, [second] = committed(installed, space, 1), members(installed, space, 2, "one")
    finally:
        subprocess.run(["ip", "link", "set", node.link, "up"], check=True)
    installed.wait_for(lambda: capacity(installed, node.name) and installed.is_ready(node.name), f"{node.name} to be back", said=node.said)
    installed.kubectl("annotate", "tj", "one", "-n", space, "thole.dev/stop=true")
    end = wait_for_phase(installed, space, "Stopped", name="one")
    assert second["spec"]["nodeName"] != node.name and end["attempt"] == 2
    assert all("AttemptFenced" in line for line in lines), lines
    # Of the old attempt nothing has come since, and less as `keep` has it.
    assert set(committed(installed, space, 1)) <= set(before) and end["checkpoint"] == max(committed(installed, space, 2))
    assert (end["incidents"][0]["kind"], end["incidents"][0]["node"]) == ("Node", node.name), end["incidents"]
    installed.wait_for(lambda: not members(installed, space, 1, "one"), "the old rank's pod to be gone")
    print(f"{len(lines)} of {len(lines)} saves of the old rank were refused while the node was cut off: {lines[0].split(' ', 3)[-1]}")


def text_of(log):
    return [line for file in sorted(log.glob("*.log")) for line in file.read_text(errors="replace").splitlines()]
