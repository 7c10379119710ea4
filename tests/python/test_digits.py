"""The sample's training by hand: four processes, no platform but the test's own end of their sockets.

Unbroken, killed and stopped runs end in the same digest; a run without the all-reduce and one that restores a single
altered byte do not.
"""
import re
import signal

import numpy as np
import pytest
from conftest import DIGITS, ROOT, FakePlatform, free_port, python

pytest.importorskip("jax", reason="jax is not installed")
RANKS = 4


def start(*arguments, script=DIGITS / "train.py", environment=None, platforms=None):
    shared = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **(environment or {})}
    return [python(script, *arguments, environment={
        **shared, "RANK": str(r), **({"THOLE_SOCKET": platforms[r].path} if platforms else {})}) for r in range(RANKS)]


def finish(ranks, seconds=120):
    output = [p.communicate(timeout=seconds)[0] for p in ranks]
    return [p.returncode for p in ranks], output


def result(ranks):
    codes, output = finish(ranks)
    assert codes == [0] * RANKS, output
    digest, accuracy = re.search(r"digest (\w{64}) accuracy ([\d.]+)", output[0]).groups()
    return digest, float(accuracy), output


@pytest.fixture(scope="module")
def unbroken():
    digest, accuracy, _ = result(start())
    print(f"digest {digest} accuracy {accuracy}")
    return digest, accuracy


@pytest.fixture
def platforms(tmp_path):
    made = []

    def new():
        made.append([FakePlatform(tmp_path / f"{len(made)}-{r}") for r in range(RANKS)])
        return made[-1]

    yield new
    for each in made:
        for platform in each:
            platform.close()


def test_it_learns(unbroken):
    assert unbroken[1] >= 0.95


def test_a_script_without_thole_ends_the_same(unbroken):
    assert result(start(script=ROOT / "tests" / "python" / "train_plain.py"))[0] == unbroken[0]


def test_without_the_all_reduce_the_digest_is_another(unbroken):
    assert result(start("--no-allreduce"))[0] != unbroken[0]


def test_a_killed_rank_and_a_second_attempt(unbroken, store, platforms):
    first = platforms()
    ranks = start(environment=store.environment(THOLE_ATTEMPT=1, THOLE_CHECKPOINT_INTERVAL=20), platforms=first)
    first[2].wait(lambda m: m.get("step", 0) >= 70, 60)
    ranks[2].kill()
    codes, _ = finish(ranks)
    assert codes[2] == -signal.SIGKILL and all(codes)
    second = platforms()
    digest, accuracy, output = result(start(environment=store.environment(THOLE_ATTEMPT=2, THOLE_CHECKPOINT_INTERVAL=20),
                                            platforms=second))
    steps = {int(re.search(r"goes on after step (\d+)", text)[1]) for text in output}
    assert len(steps) == 1 and steps.pop() >= 60, "all ranks go on from the same checkpoint"
    assert (digest, accuracy) == unbroken
    for r, platform in enumerate(second):
        restored, told = platform.wait("restored")["restored"], platform.wait("result")["result"]
        assert restored["step"] >= 60 and told["digest"] == digest and abs(told["accuracy"] - accuracy) < 1e-3
        assert [c["step"] for c in platform.all("checkpoint")] == [s["step"] for s in platform.all("sealing")]
        assert platform.all("step") == list(range(restored["step"] + 1, 201))
    assert sum(c["committed"] for p in second for c in p.all("checkpoint") if c["step"] == 200) >= 1


def test_a_stop_request_and_a_second_attempt(unbroken, store, platforms):
    first = platforms()
    ranks = start(environment=store.environment(THOLE_CHECKPOINT_INTERVAL=50), platforms=first)
    first[3].wait(lambda m: m.get("step", 0) >= 20, 60)
    first[3].say({"stop": {"reason": "cancel", "grace": 30.0}})  # one rank is told: all leave
    codes, output = finish(ranks)
    assert codes == [75] * RANKS, output
    steps = {re.search(r"stopped after step (\d+)", text)[1] for text in output}
    assert len(steps) == 1
    digest, _, output = result(start(environment=store.environment(THOLE_ATTEMPT=2), platforms=platforms()))
    assert f"goes on after step {steps.pop()}" in output[1] and digest == unbroken[0]


def test_one_altered_byte_of_a_checkpoint_ends_in_another_digest(unbroken, store):
    codes, output = finish(start("--steps", "100", environment=store.environment(THOLE_ATTEMPT=1, THOLE_CHECKPOINT_INTERVAL=100)))
    assert codes == [0] * RANKS, output
    saved = store.rank(attempt=2).restore()
    assert saved["step"] == 100
    saved["state"]["parameters"].view(np.uint8)[1234] ^= 0x10
    store.rank(attempt=2).save(100, saved)
    altered, _, output = result(start(environment=store.environment(THOLE_ATTEMPT=3)))
    assert "goes on after step 100" in output[0] and altered != unbroken[0]
