#!/usr/bin/env python3
"""What Thole costs on Ray, beside plain Ray on the same cluster (two nodes of four simulated GPUs on this machine): tasks and actors
with a vGPU beside num_gpus and a process of its own, gangs beside placement groups, the encrypted filesystem beside pyarrow's.

Rounds alternate and the median of the pairs counts. THOLE_PAIRS says how many (7).
"""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAIRS = int(os.environ.get("THOLE_PAIRS", "7"))
POOL = """\
apiVersion: thole.dev/v1alpha1
kind: NodePool
metadata: {name: wide}
spec:
  simulated: true
  nodes: [{name: wide, count: 2}]
  gpus: {count: 4, memory: 24Gi, contextMemory: 512Mi}
  cpu: 2
  memory: 16Gi
"""


def in_rays_python():
    """Ray has a Python of its own: goes on in it."""
    programs = subprocess.run([ROOT / "adapters/ray/setup/install"], check=True, capture_output=True, text=True).stdout.strip()
    python = f"{programs}/python"
    if sys.executable != python or "RAY_AUTH_MODE" not in os.environ:
        paths = f"{ROOT}/sdk/python{os.pathsep}{ROOT}/adapters/ray"
        # Ray reads its own when it is imported, and without them looks for 127.0.0.1 elsewhere.
        rays = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        os.execve(python, [python, "-B", *sys.argv], {**os.environ, **rays, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": paths})
    sys.path.insert(0, str(ROOT / "tests/hosts/ray"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cut by a time limit it still ends its cluster


def seconds(what):
    begun = time.monotonic()
    what()
    return time.monotonic() - begun


def compare(figure, unit, amount, ours, peer, goal, note, settle=lambda: None):
    """`amount` things in the time of each side, or, without one, that time itself; the ratio is above 1 where ours is faster. `settle` waits
    until a round has left nothing that the next one would pay for."""
    rows = []
    for number in range(PAIRS + 1):  # the first is not counted
        both = {}
        for side in (ours, peer) if number % 2 else (peer, ours):
            settle()
            both[side] = seconds(side)
        rows.append((both[ours], both[peer]))
        print(f"  {figure}: {both[ours]:.3f} s, peer {both[peer]:.3f} s", file=sys.stderr)
    mine, other = (statistics.median(column) for column in zip(*rows[1:]))
    ratio = statistics.median(b / a for a, b in rows[1:])
    value = (lambda s: round(amount / s, 2)) if amount else (lambda s: round(s, 4))
    print(json.dumps({"id": figure, "ours": value(mine), "unit": unit, "peer": value(other), "limit": None, "ratio": round(ratio, 3), "goal": goal,
                      "note": f"{note}; {PAIRS} pairs"}), flush=True)


def calls(ray, thole_ray, cluster):
    def nothing():
        return 1

    def workers():
        return [p for _, _, p in cluster.processes() if p.startswith((b"ray::nothing", b"ray::Actor"))]

    def settle():  # what ends still needs a core
        from cluster import until

        until(lambda: not workers(), what="the end of the last round's workers")

    # As many at once as there are CPUs, on both sides: more would only measure how badly this machine bears it.
    task, plain = thole_ray.vgpu(memory="1Gi", share=0.05)(nothing), ray.remote(num_gpus=0.05, num_cpus=1, max_calls=1)(nothing)
    # A rate is one of many calls. What a burst on nodes that did nothing costs, where Ray starts a worker for nothing on each, is said too.
    for name, count, goal in (("ray.tasks", 96, "ratio >= 0.97"), ("ray.tasks.burst", 24, None)):
        compare(name, "tasks/s", count, lambda n=count: ray.get([task.remote() for _ in range(n)]), lambda n=count: ray.get([plain.remote() for _ in range(n)]),
                goal, f"{count} tasks, a process for each on both sides; peer: @ray.remote(num_gpus=0.05, max_calls=1)", settle)

    class Actor:
        def up(self):
            return 1

    ours, plain = thole_ray.vgpu(memory="8Gi", share=0.3, cpu=0.25)(Actor), ray.remote(num_gpus=0.3, num_cpus=0.25)(Actor)

    def start(kind):
        def body():
            actors = [kind.remote() for _ in range(8)]
            ray.get([a.up.remote() for a in actors])
            for a in actors:
                ray.kill(a)
        return body

    compare("ray.actors", "actors/s", 8, start(ours), start(plain), "ratio >= 0.97", "eight made, called and killed; peer: @ray.remote(num_gpus=0.3)", settle)


def gangs(ray, thole_ray):
    from ray.util.placement_group import placement_group, remove_placement_group

    from thole.ray.capacity import free_resources

    standing = []

    def ours(size):
        def body():
            standing.append(thole_ray.gang(thole_ray.Role(size, memory="1Gi", share=0.1, cpu="0.05", host_memory="16Mi"), timeout=60).release)
        return body

    def plain(size):
        def body():
            group = placement_group([{"GPU": 0.1, "CPU": 0.05}] * size)
            standing.append(lambda: remove_placement_group(group))
            if not group.wait(60):
                raise RuntimeError("the placement group does not stand")
        return body

    def gpus_of(resources):
        return {name: round(value, 4) for name, value in resources.items() if name == "GPU" or name.startswith("thole_")}

    def all_is_free():
        free = free_resources()
        return all(gpus_of(free.get(n["NodeID"], {})) == gpus_of(n["Resources"]) for n in ray.nodes() if n["Alive"])

    def give_back():
        """What stands is given back, and Ray has heard of it: neither is timed here."""
        while standing:
            standing.pop()()
        from cluster import until

        until(all_is_free, what="the end of what the last round held")

    def with_its_end(body):
        def timed():
            body()
            standing.pop()()
        return timed

    for size in (4, 16, 64):
        what = f"{size} members; peer: a placement group of as many bundles"
        compare(f"ray.gang{size}", "s", 0, ours(size), plain(size), None, f"asked for until it stands, {what}", give_back)
        compare(f"ray.gang{size}.whole", "s", 0, with_its_end(ours(size)), with_its_end(plain(size)), None, f"asked for, stands, given back, {what}", give_back)
    give_back()


def files(thole_ray):
    from pyarrow import fs

    folder = pathlib.Path(tempfile.mkdtemp(prefix="thole-ray-figures."))
    mib = 256
    data = os.urandom(1 << 20) * mib
    key = folder / "key"
    subprocess.run([os.environ["THOLE_COMMAND"], "key", "new", "--file", key], check=True, stdout=subprocess.DEVNULL)
    sides = {"ours": thole_ray.checkpoint_filesystem(str(folder / "ours"), key=str(key)), "plain": fs.SubTreeFileSystem(str(folder / "plain"), fs.LocalFileSystem())}
    (folder / "plain").mkdir()

    def write(side):
        def body():
            with sides[side].open_output_stream("f") as out:
                out.write(data)
            os.sync()  # ours is on the disk when it is closed
        return body

    def read(side):
        def body():
            for path in (p for p in (folder / side).rglob("*") if p.is_file()):  # from the disk: ours leaves nothing in the page cache
                with open(path, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with sides[side].open_input_file("f") as file:
                if file.read() != data:
                    raise RuntimeError("it is not what was written")
        return body

    try:
        note = f"a file of {mib} MiB, to the disk and from it; peer: pyarrow's LocalFileSystem, which does not encrypt or verify"
        compare("ray.filesystem.write", "MB/s", mib * 1.048576, write("ours"), write("plain"), None, note)
        compare("ray.filesystem.read", "MB/s", mib * 1.048576, read("ours"), read("plain"), None, note)
    finally:
        shutil.rmtree(folder)


def main():
    in_rays_python()
    from cluster import Cluster

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as pool:
        pool.write(POOL)
        pool.flush()
        cluster = Cluster(pool.name, 2, ray_options=["--num-gpus=4", "--object-store-memory=400000000"])
        try:
            cluster.connect()
            import ray

            import thole.ray
            calls(ray, thole.ray, cluster)
            gangs(ray, thole.ray)
            files(thole.ray)
        except BaseException:
            traceback.print_exc()  # before the end of the cluster, which ends this process too
            raise
        finally:
            cluster.stop()
            shutil.rmtree(cluster.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
