"""A Ray cluster on loopback that grows and shrinks by Ray's own autoscaler (v2). Every node that it brings is a simulated one: a raylet of
its own on this machine, started by Ray's FakeMultiNodeProvider, so what is seen is control, not the coming of a machine.

This file is also the provider's module, which the autoscaler's process imports.
"""
from __future__ import annotations

import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from ray._private import parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_TYPE, FakeMultiNodeProvider

HEAD = "f" * 51 + "00000"  # the ids of Ray's fake nodes count from it
MARK = "THOLE_RAY_GROWING"  # in the environment of all its processes: the folder


class Nodes(FakeMultiNodeProvider):
    """Ray's own, but for two things: the memory of a node is no custom resource; and while there is a file `scarce` in the cluster's
    folder, whose text is a number, there are no more nodes than that to be had."""

    def _create_node_with_resources_and_labels(self, node_config, tags, count, resources, labels):
        scarce = pathlib.Path(os.environ[MARK], "scarce")
        with self.lock:
            if scarce.exists() and len(self._nodes) - 1 >= int(scarce.read_text()):
                raise RuntimeError("there are no more nodes of this type at the moment")
            plain = parameter.RayParams
            rest = {k: v for k, v in resources.items() if k != "memory"}
            parameter.RayParams = functools.partial(plain, memory=resources.get("memory"))
            try:
                super()._create_node_with_resources_and_labels(node_config, tags, count, rest, labels)
            finally:
                parameter.RayParams = plain


def configuration(port, most, idle_minutes):
    """Nodes of one GPU of 24 GiB each; plain Ray is told of as many of its own, to show it beside."""
    worker = {"CPU": 2, "GPU": 1, "memory": 2 << 30, "object_store_memory": 100_000_000, "thole_memory_0": 24576, "thole_share_0": 1000, "thole_vgpus_0": 16}
    return {"cluster_name": "growing", "max_workers": most, "head_node_type": FAKE_HEAD_NODE_TYPE, "upscaling_speed": 1.0, "idle_timeout_minutes": idle_minutes,
            "provider": {"type": "external", "module": "growing.Nodes", "use_node_id_as_ip": True, "disable_node_updaters": True,
                         "disable_launch_config_check": True, "launch_multiple": True, "head_node_id": HEAD, "gcs_address": f"127.0.0.1:{port}"},
            "available_node_types": {FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
                                     "gpu": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": most,
                                             "labels": {"thole.dev/simulated": "true", "thole.dev/context-mib": "512"}}},
            **{name: {} for name in ("auth", "docker", "file_mounts")}, "file_mounts_sync_continuously": False,
            **{name: [] for name in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
                                     "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")}}


class Growing:
    """A head with an autoscaler, in a session of its own, in a folder of its own; this process becomes a driver of it."""

    def __init__(self, most=2, interval=1, idle_minutes=0.1):
        from thole.ray import cluster

        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="thole-grow.", dir="/tmp"))  # short: Ray's sockets have room for no more
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        (self.folder / "scale.json").write_text(json.dumps(configuration(port, most, idle_minutes)))
        os.environ["RAY_RUNTIME_ENV_PLUGINS"] = cluster._PLUGINS
        paths = os.pathsep.join([str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, MARK: str(self.folder), "PYTHONPATH": paths, "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1",
                       "AUTOSCALER_UPDATE_INTERVAL_S": str(interval), "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD, "RAY_CLOUD_INSTANCE_ID": HEAD}
        log = self.folder / "head.log"
        with open(log, "w", encoding="utf-8") as out:
            self.head = subprocess.Popen([sys.executable, "-m", "thole.ray.raystart", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
                                          f"--port={port}", "--num-cpus=1", "--include-dashboard=false", f"--temp-dir={self.folder}/ray",
                                          "--object-store-memory=100000000", f"--autoscaling-config={self.folder}/scale.json"],
                                         env=environment, stdout=out, stderr=out, start_new_session=True)
        self.wait(lambda: "Ray runtime started" in log.read_text() or self.head.poll() is not None, "the head", 60)
        assert self.head.poll() is None, log.read_text()[-2000:]

    def connect(self):
        import ray

        ray.init(address=self.address, namespace="thole", log_to_driver=False, logging_level="error", _node_ip_address="127.0.0.1")
        return ray

    @staticmethod
    def wait(seen, what, seconds):
        deadline = time.monotonic() + seconds
        while not (found := seen()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds} s for {what}")
            time.sleep(0.02)
        return found

    @staticmethod
    def nodes():
        """The nodes with a GPU that live."""
        import ray

        return [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("thole_share_0")]

    def scarce(self, most):
        """From now on no more than `most` nodes are to be had; None: as many as one wants."""
        file = self.folder / "scarce"
        file.unlink(missing_ok=True)
        if most is not None:
            file.write_text(str(most))

    def processes(self):
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if f"{MARK}={self.folder}".encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def end(self):
        """All of its processes, by pid."""
        import ray

        ray.shutdown()
        self.head.send_signal(signal.SIGTERM)
        try:
            self.head.wait(15)
        except subprocess.TimeoutExpired:
            pass  # what does not listen is killed
        while left := self.processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)
