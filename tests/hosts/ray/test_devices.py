"""Nodes whose GPUs a driver has told (a fake one here: there is no GPU): what a worker finds when it begins is that GPU's UUID."""
import importlib
import os
import pathlib
import sys

import pytest
from cluster import PATIENCE, Cluster

BUILD = pathlib.Path(os.environ["THOLE_LIBRARY"]).parents[1]
FAKE = BUILD / "tests/contract/plugins/fake"
POOL = "apiVersion: thole.dev/v1alpha1\nkind: NodePool\nmetadata: {name: metal}\nspec: {vgpu: {memory: 10Gi, count: 8}, cpu: 4, memory: 4Gi}\n"
# Imported when a worker reads what it is to do, before the first line of that; and by the test itself, which has no record.
EARLY = """
import os, thole
devices = thole.allocation.read().devices if "THOLE_RECORD" in os.environ else []
SEEN = os.environ.get("CUDA_VISIBLE_DEVICES"), [d.uuid for d in devices], [d.backend for d in devices]
"""


@pytest.fixture(scope="module")
def metal(tmp_path_factory):
    if not FAKE.exists():
        pytest.skip("needs nvml.h: the fake driver was not built")
    folder = tmp_path_factory.mktemp("metal")
    (folder / "pool.yaml").write_text(POOL)
    (folder / "early.py").write_text(EARLY)
    paths = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    cluster = Cluster(str(folder / "pool.yaml"), 1, environment={"LD_LIBRARY_PATH": str(FAKE), "THOLE_PLUGINS": str(BUILD / "plugins"), "PYTHONPATH": paths})
    sys.path.insert(0, str(folder))
    try:
        cluster.connect()
        yield importlib.import_module("early")
    finally:
        import ray

        ray.shutdown()
        cluster.stop()
        sys.path.remove(str(folder))


def test_the_variable_is_the_records_gpu_before_the_first_line(metal):
    """Ray clears CUDA_VISIBLE_DEVICES of who asks for none of its own GPUs, unless it is told not to. A task, an actor, members of a gang."""
    import ray

    import thole.ray
    from thole.ray.service import service

    early = metal

    def look():
        return early.SEEN, os.environ["CUDA_VISIBLE_DEVICES"]

    class Looks:
        def look(self):
            return early.SEEN, os.environ["CUDA_VISIBLE_DEVICES"]

    pool = {g["uuid"]: g for g in ray.get(service().usage.remote())}
    assert len(pool) == 2 and all(uuid.startswith("GPU-") for uuid in pool), pool
    found = ray.get([thole.ray.vgpu(memory="60Gi", share=0.5, cpu=0.1)(look).remote() for _ in range(4)], timeout=PATIENCE)
    actors = [thole.ray.vgpu(memory="60Gi", share=0.5, cpu=0.1)(Looks).remote() for _ in range(2)]
    found += ray.get([a.look.remote() for a in actors], timeout=PATIENCE)
    for actor in actors:
        ray.kill(actor)
    with thole.ray.gang(thole.ray.Role(2, gpus=1, cpu="0.1", host_memory="16Mi"), timeout=60) as gang:
        members = [ray.remote(Looks).options(**gang.options(i)).remote() for i in range(2)]
        whole = ray.get([m.look.remote() for m in members], timeout=PATIENCE)
        assert [seen[1] for seen, _ in whole] == [[g.uuid for g in gang.devices(i)] for i in range(2)]
    for (first, uuids, backends), now in found + whole:
        assert first == now == uuids[0] and len(uuids) == 1 and uuids[0] in pool and "simulated" not in backends, found
    print(f"{len(found + whole)} of {len(found + whole)} workers found the UUID of their record's GPU when they began")
