"""Ray Train over the encrypted filesystem: the digits sample as a run of its own, with a worker and a node killed, with its newest
checkpoint damaged, and a program that only fails."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import incidents
import pytest
from cluster import PATIENCE, ROOT, kill, until
from secret import search

SAMPLE = ROOT / "samples/ray/train_digits.py"


class Run:
    """The sample beside the test."""

    def __init__(self, small, folder):
        self.begun = time.time()
        self.cluster, self.folder, self.key = small, folder / "store", folder / "train.key"
        if not self.key.exists():
            subprocess.run([os.environ["THOLE_COMMAND"], "key", "new", "--file", self.key], check=True, stdout=subprocess.DEVNULL)
        address = small.known()["address"]
        self.process = subprocess.Popen([sys.executable, str(SAMPLE), "--storage", str(self.folder), "--key", str(self.key)], text=True,
                                        env={**os.environ, "RAY_ADDRESS": address}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def checkpoints(self):
        """The checkpoints that lie in the store, each with the parts of all four ranks."""
        found = sorted((self.folder / "runs/digits").glob("checkpoint_*"))
        return [c for c in found if len(list(c.glob("rank-*.npz.thole"))) == 4]

    def workers(self):
        """pid and node of each worker of the training that lives."""
        return [(pid, node) for pid, node, program in self.cluster.processes() if program.startswith(b"ray::") and b"TrainWorker" in program]

    def said(self, small, text):
        """Whether a worker of this run has said it; Ray keeps what workers print with the head's files."""
        logs = pathlib.Path(small.known()["temporary"]).glob("session_2*/logs/worker-*")
        return any(text in log.read_text(errors="replace") for log in logs if log.stat().st_mtime > self.begun)

    def at_checkpoint(self, number):
        def there():
            assert self.process.poll() is None, self.process.communicate()[1][-3000:]
            return len(self.checkpoints()) >= number

        until(there, what=f"checkpoint {number}")

    def end(self):
        out, err = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, err[-3000:]
        return json.loads(next(line for line in out.splitlines() if line.startswith("{"))), err  # Ray says of deaths there as well


@pytest.mark.parametrize("incident", ["none", "worker", "node"])
def test_digits(small, local, tmp_path, incident):
    run = Run(small, tmp_path)
    run.at_checkpoint(3)  # the first two are registered by then
    workers = until(lambda: len(run.workers()) == 4 and run.workers(), what="four workers")
    assert len({pid for pid, _ in workers}) == 4 and len({node for _, node in workers}) > 1
    head = small.known()["nodes"][0]["name"]
    victim = next((pid, node) for pid, node in workers if node != head)
    seconds = None
    if incident == "none":
        found, places = search(small, run.key, str(run.folder))
        assert not found and sum("TrainWorker" in text.decode(errors="replace") for where, text in places.items() if where.startswith("cmdline")) == 4, found
        print(f"{len(places)} of {len(places)} places without the key, the four workers' among them")
    if incident != "none":
        kill(victim[0] if incident == "worker" else small.raylet_of(victim[1]))
        begun = time.time()
        until(lambda: run.said(small, "goes on after step"), what="a worker that goes on")
        seconds = time.time() - begun
    result, _ = run.end()
    assert result["digest"] == local and result["step"] == 200, result
    plain = [p for p in run.folder.rglob("*") if p.is_file() and b"parameters" in p.read_bytes()]
    assert not plain, plain  # the name of an array is in every .npz that is not encrypted
    if incident == "none":  # CheckpointConfig(num_to_keep=3); what nobody had registered when a worker died is not known to Ray, and stays
        assert 1 <= len(run.checkpoints()) <= 3, run.checkpoints()
    if seconds is not None:
        incidents.record("Ray Train", f"{incident} killed", result["digest"], seconds)
    if incident == "node":
        small.start()


def test_a_damaged_checkpoint_is_passed_over(small, local, tmp_path):
    """All checkpoints but the oldest are damaged before the worker is killed: that one is restored, and the digest is the same."""
    run = Run(small, tmp_path)
    run.at_checkpoint(1)
    first = run.checkpoints()[0]
    until(lambda: not first.exists(), what="the end of the first checkpoint")  # three newer ones are registered: it is no longer kept
    pid = run.workers()[0][0]
    os.kill(pid, 19)  # SIGSTOP: no rank gets on
    for newer in run.checkpoints()[1:]:  # the last ones may not be registered yet, and then nobody would restore them
        part = max((p for p in newer.glob("rank-0.npz.thole/**/*") if p.is_file()), key=lambda p: p.stat().st_size)
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.chmod(0o600)
        part.write_bytes(data)
    kill(pid)
    result, _ = run.end()
    assert result["digest"] == local
    assert run.said(small, "is passed over")


def test_another_key_begins_nothing_anew(small, tmp_path):
    """A run that was cut off, started again with another key: it says so and ends, and what was saved is left."""
    run = Run(small, tmp_path)
    run.at_checkpoint(2)
    kill(run.process.pid)
    run.process.communicate()
    until(lambda: not run.workers(), what="the end of the workers")
    saved = run.checkpoints()
    run.key.unlink()
    again = Run(small, tmp_path)
    _, err = again.process.communicate(timeout=PATIENCE)
    assert again.process.returncode != 0 and "Key" in err, err[-2000:]
    assert run.checkpoints() == saved


LATE = """
import json, os, sys, time, ray, thole.ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

def train(config):
    storage = ray.train.get_context().get_storage()
    for _ in range(2):  # the second one is of the same attempt
        thole.ray.newest_good_checkpoint()
    if os.path.exists(config["folder"] + "/frozen"):
        with storage.storage_filesystem.open_output_stream(f"{storage.experiment_fs_path}/second-{ray.train.get_context().get_world_rank()}") as file:
            file.write(b"x")
        return
    with open(f"{config['folder']}/{os.getpid()}", "w") as log:
        print(ray.get_runtime_context().get_node_id(), file=log, flush=True)
        for number in range(100000):
            try:
                with storage.storage_filesystem.open_output_stream(f"{storage.experiment_fs_path}/loose/{os.getpid()}-{number}") as file:
                    file.write(b"x")
                print("wrote", number, file=log, flush=True)
            except thole.TholeError as refusal:
                print("refused", refusal.reason, file=log, flush=True)
            print("sleeps", file=log, flush=True)
            time.sleep(0.3)

folder, key = sys.argv[1:]
ray.init(log_to_driver=False)
DataParallelTrainer(train, train_loop_config={"folder": folder}, scaling_config=ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD"),
                    run_config=RunConfig(name="late", storage_path="runs", failure_config=FailureConfig(max_failures=-1),
                                         storage_filesystem=thole.ray.checkpoint_filesystem(folder + "/store", key=key))).fit()
"""


def stopped_asleep(pid, lines):
    """Stops a process if it is between two writes; what it has asked for already it would still do."""
    os.kill(pid, signal.SIGSTOP)
    if lines()[-1] == "sleeps":
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def test_a_worker_of_an_earlier_attempt_cannot_write(small, tmp_path):
    """A node stands still and is given up; the run goes on elsewhere, and then the worker on it wakes up, with nobody there to end it."""
    key = tmp_path / "train.key"
    subprocess.run([os.environ["THOLE_COMMAND"], "key", "new", "--file", key], check=True, stdout=subprocess.DEVNULL)
    known = small.known()
    trainer = subprocess.Popen([sys.executable, "-c", LATE, str(tmp_path), str(key)], env={**os.environ, "RAY_ADDRESS": known["address"]}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def lines():
        return {int(f.name): f.read_text().splitlines() for f in tmp_path.iterdir() if f.name.isdigit()}

    frozen = []
    try:
        until(lambda: len(lines()) == 2 and all(len(text) > 3 for text in lines().values()), what="both workers writing")
        head = next(n["name"] for n in known["nodes"] if n["head"])
        late, node = next((pid, node) for pid, node, _ in small.processes() if pid in lines() and node != head)
        (tmp_path / "frozen").touch()
        frozen = [small.raylet_of(node), late]
        os.kill(frozen[0], signal.SIGSTOP)
        until(lambda: stopped_asleep(late, lambda: lines()[late]), what="a worker that sleeps")
        out, err = trainer.communicate(timeout=PATIENCE)
        assert trainer.returncode == 0, err[-3000:]
        before, written = lines()[late], sorted((tmp_path / "store/runs/late/loose").glob(f"{late}-*"))
        assert written and (tmp_path / "store/runs/late/second-0.thole").is_dir()
        os.kill(late, signal.SIGCONT)
        since = until(lambda: (now := lines()[late][len(before):])[5:] and now, what="a late worker that writes")
    finally:
        trainer.kill()
        for pid in reversed(frozen):
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
        if frozen:
            small.start()
    assert set(since) == {"refused AttemptFenced", "sleeps"}, since
    assert sorted((tmp_path / "store/runs/late/loose").glob(f"{late}-*")) == written
    refused = since.count("refused AttemptFenced")
    print(f"{refused} of {refused} writes of the worker that woke up late were refused")


LOCAL = """
import ray, thole.ray
from ray.train import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
DataParallelTrainer(lambda config: print("begins with", thole.ray.newest_good_checkpoint(), flush=True), scaling_config=ScalingConfig(num_workers=0), train_loop_config={}).fit()
"""


def test_without_a_cluster_there_is_nobody_to_fence(tmp_path):
    done = subprocess.run([sys.executable, "-c", LOCAL], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "begins with None" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]


FAILS = """
import sys, ray, thole.ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

def train(config):
    open(config["tries"], "a").write("x")
    raise RuntimeError("no column is called 'labels'")

ray.init(log_to_driver=False)
DataParallelTrainer(train, train_loop_config={"tries": sys.argv[1] + "/tries"}, scaling_config=ScalingConfig(num_workers=1),
                    run_config=RunConfig(storage_path=sys.argv[1], callbacks=[thole.ray.RecoveryPolicy(max_same_cause=2)],
                                         failure_config=FailureConfig(max_failures=-1))).fit()
"""


def test_a_program_that_only_fails_is_stopped(small, tmp_path):
    """RecoveryPolicy: the same failure twice without progress is enough, though Ray Train would retry without end."""
    done = subprocess.run([sys.executable, "-c", FAILS, str(tmp_path)], env={**os.environ, "RAY_ADDRESS": small.known()["address"]},
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0 and "StopSameCause" in done.stderr, done.stderr[-2000:]
    assert (tmp_path / "tries").read_text() == "xx"
