"""A node that dies under calls with a vGPU."""
import os

from cluster import PATIENCE, kill, until


def test_calls_for_a_node_that_is_lost_fail_and_do_not_wait_for_ever(small):
    """Each of four nodes has one GPU, and a call runs on each; twelve more wait for them. Then a node dies, and its calls fail."""
    import ray

    import thole.ray

    @thole.ray.vgpu(memory="20Gi", cpu=0.1, max_retries=0)
    def hold(file):
        import pathlib
        import time

        pathlib.Path(f"{file}.{os.getpid()}").touch()
        while not pathlib.Path(file).exists():
            time.sleep(0.05)
        return ray.get_runtime_context().get_node_id()

    file = small.folder / "let-go"
    refs = [hold.remote(str(file)) for _ in range(16)]
    until(lambda: len(list(small.folder.glob("let-go.*"))) == 4, what="four calls that run")
    victim = small.known()["nodes"][-1]["name"]
    kill(small.raylet_of(victim))
    file.touch()
    found, waiting = ray.wait(refs, num_returns=16, timeout=PATIENCE)
    lost = 0
    for ref in found:
        try:
            ray.get(ref)
        except ray.exceptions.RayError:
            lost += 1
    print(f"\n{len(found)} of 16 calls have ended, {lost} of them with their node")
    assert not waiting and lost >= 2  # the one that ran there, and some that waited for its place
    small.start()
