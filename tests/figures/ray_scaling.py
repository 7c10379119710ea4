#!/usr/bin/env python3
"""How fast a Ray cluster grows for a gang and shrinks after it, with Ray's own autoscaler (v2) and its FakeMultiNodeProvider: every
node is a simulated one, a raylet of its own on this machine, so what is timed is control, not the coming of a machine.

A gang of two members, each as large as a node, is asked for where no node is: until the autoscaler has started both nodes, until
the gang stands, and until the first task has run on each; then it is given back, and the nodes are watched until they are
gone. The phase against the autoscaler's interval is varied. Beside it the same with a plain placement group. [--long]
THOLE_ROUNDS says how many rounds (20), THOLE_INTERVAL the autoscaler's interval in seconds (1; Ray's default is 5).
"""
from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from ray_costs import in_rays_python  # noqa: E402

ROUNDS, INTERVAL = int(os.environ.get("THOLE_ROUNDS", "20")), int(os.environ.get("THOLE_INTERVAL", "1"))
IDLE = 0.1  # minutes after which Ray lets an idle node go
HEAD = "f" * 51 + "00000"


def configuration(port):
    worker = {"CPU": 2, "GPU": 1, "memory": 2 << 30, "object_store_memory": 100_000_000, "thole_memory_0": 24576, "thole_share_0": 1000, "thole_vgpus_0": 16}
    return {"cluster_name": "figures", "max_workers": 2, "head_node_type": "head", "upscaling_speed": 1.0, "idle_timeout_minutes": IDLE,
            "provider": {"type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
                         "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True, "launch_multiple": True,
                         "head_node_id": HEAD, "gcs_address": f"127.0.0.1:{port}"},
            "available_node_types": {"head": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
                                     "gpu": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 2,
                                             "labels": {"thole.dev/simulated": "true", "thole.dev/context-mib": "512"}}},
            **{name: {} for name in ("auth", "docker", "file_mounts")}, "file_mounts_sync_continuously": False,
            **{name: [] for name in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
                                     "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")}}


class Grown:
    """A head with an autoscaler, in a session of its own, in a folder of its own."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="thole-scale."))
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        (self.folder / "scale.json").write_text(json.dumps(configuration(port)))
        self.address = f"127.0.0.1:{port}"
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_AUTH_MODE="disabled",
                          RAY_RUNTIME_ENV_PLUGINS=plugins())
        environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": str(INTERVAL), "RAY_enable_autoscaler_v2": "1",
                       "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD, "RAY_CLOUD_INSTANCE_ID": HEAD, "THOLE_FIGURE": str(self.folder)}
        with open(self.folder / "head.log", "w", encoding="utf-8") as log:
            self.head = subprocess.Popen([pathlib.Path(sys.executable).parent / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
                                          f"--port={port}", "--num-cpus=1", "--include-dashboard=false", f"--temp-dir={self.folder}/ray",
                                          "--object-store-memory=100000000", f"--autoscaling-config={self.folder}/scale.json"],
                                         env=environment, stdout=log, stderr=log, start_new_session=True)
        wait(lambda: "Ray runtime started" in (self.folder / "head.log").read_text(), "the head", 60)

    def end(self):
        """By the folder's name, which all of them have in their environment."""
        self.head.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while (left := mine(self.folder)) and time.monotonic() < deadline + 20:
            if time.monotonic() > deadline - 10:
                for pid in left:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)


def mine(folder):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"THOLE_FIGURE={folder}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def plugins():
    from thole.ray import cluster

    return cluster._PLUGINS


def wait(seen, what, seconds):
    deadline = time.monotonic() + seconds
    while not (found := seen()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return found


def workers(ray):
    return [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("thole_share_0")]


def task_on(ray, options):
    @ray.remote(num_cpus=0.1)
    def up():
        return 1

    return up.options(**options).remote()


def ours(ray):
    import thole.ray

    gang = thole.ray.gang(thole.ray.Role(2, memory="20Gi", share=1.0, cpu="1", host_memory="64Mi"), timeout=120)
    return gang, [task_on(ray, {k: v for k, v in gang.options(i).items() if k == "scheduling_strategy"}) for i in range(2)], gang.release


def plain(ray):
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1, "GPU": 1}] * 2)
    if not group.wait(120):
        raise TimeoutError("the placement group does not stand")
    return group, [task_on(ray, {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, i)}) for i in range(2)], lambda: remove_placement_group(group)


def one_round(ray, side, dice):
    """Seconds until the gang stands, until its first tasks have run, and, after it is given back, until the nodes are gone."""
    time.sleep(dice.random() * INTERVAL)  # the phase is what is varied
    begun = time.monotonic()
    kept, refs, give_back = side(ray)
    stands = time.monotonic() - begun
    ray.get(refs)
    ran = time.monotonic() - begun
    del refs
    begun = time.monotonic()
    give_back()
    del kept
    wait(lambda: not workers(ray), "the nodes to be gone", 120)
    return stands, ran, time.monotonic() - begun


def spread(values):
    values = sorted(values)
    return {"p50": statistics.median(values), "p95": values[min(len(values) - 1, round(0.95 * (len(values) - 1)))], "max": values[-1]}


def main():
    in_rays_python()
    import ray

    grown = Grown()
    try:
        ray.init(address=grown.address, namespace="thole", log_to_driver=False, logging_level="error", _node_ip_address="127.0.0.1")
        dice = random.Random(3)
        rows = {ours: [], plain: []}
        cold = one_round(ray, ours, dice)
        for number in range(ROUNDS):
            for side in (ours, plain) if number % 2 else (plain, ours):
                rows[side].append(one_round(ray, side, dice))
        for at, name, goal in ((0, "stands", None), (1, "first_task", "<= 10"), (2, "gone", None)):
            mine_, other = spread([r[at] for r in rows[ours]]), spread([r[at] for r in rows[plain]])
            say = {"id": f"ray.scaling.{name}", "ours": round(mine_["p50"], 2), "unit": "s", "peer": round(other["p50"], 2), "limit": INTERVAL,
                   "ratio": round(other["p50"] / mine_["p50"], 2), "goal": goal,
                   "note": f"p95 {mine_['p95']:.2f}, max {mine_['max']:.2f}, first (cold) {cold[at]:.2f}; peer, a placement group: p95 {other['p95']:.2f}, max {other['max']:.2f}; "
                           f"{ROUNDS} rounds; simulated nodes; limit: the autoscaler's interval; idle time-out {IDLE * 60:.0f} s"}
            print(json.dumps(say), flush=True)
        ray.shutdown()
    finally:
        grown.end()


if __name__ == "__main__":
    main()
