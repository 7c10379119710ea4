"""The digits sample as a Ray Train run on four workers: its checkpoints are encrypted, and a worker or a node that is lost
costs the steps since the newest one. It ends with the digest of `thole run samples/digits/job.yaml`.

    eval "$(thole-ray environment)"
    python3 samples/ray/train_digits.py --storage /data/train --key /keys/train.key
"""
import argparse
import hashlib
import json
import os
import socket
import sys
import tempfile

import ray
import ray.train
import ray.train.collective
import thole.ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

DIGITS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "digits")
STEPS, EVERY = 200, 20


def train(config):
    sys.path.insert(0, config["digits"])
    import digits
    import numpy as np

    context = ray.train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    digits.join_ranks(rank, ranks, first_rank_address(rank))
    training, held_out = digits.load()
    trainer = digits.Trainer(rank, ranks)
    state, done = trainer.initial_state(), 0
    if checkpoint := thole.ray.newest_good_checkpoint():
        state, done = load(checkpoint, state)
        print(f"rank {rank}: goes on after step {done}", flush=True)

    while done < config["steps"]:
        images, labels = digits.batch(training, done + 1, rank, ranks)
        state, loss = trainer.step(state, done + 1, images, labels)
        done += 1
        if done % EVERY and done != config["steps"]:
            continue
        result = {"step": done, "loss": float(loss)}
        if done == config["steps"]:
            parameters = np.asarray(state["parameters"].addressable_data(0))
            result.update(digest=hashlib.sha256(parameters.tobytes()).hexdigest(), accuracy=digits.accuracy(parameters, held_out))
        with tempfile.TemporaryDirectory() as folder:
            save(folder, rank, state, done)
            ray.train.report(result, checkpoint=ray.train.Checkpoint.from_directory(folder))


def first_rank_address(rank):
    """Where the ranks meet: a free port of rank 0's node."""
    address = None
    if rank == 0:
        with socket.socket() as probe:
            probe.bind(("", 0))
            address = f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"
    return ray.train.collective.broadcast_from_rank_zero(address)


def save(folder, rank, state, step):
    """This rank's part of the state; Ray Train puts the parts of all ranks into one checkpoint."""
    import numpy as np

    parts = {name: np.asarray(array.addressable_data(0)) for name, array in state.items()}
    np.savez(os.path.join(folder, f"rank-{rank}.npz"), step=step, **parts)


def load(checkpoint, like):
    """The state as the ranks had it: every rank reads the rows that it has to hold."""
    import jax
    import numpy as np

    with checkpoint.as_directory() as folder:
        names = sorted(os.listdir(folder), key=lambda name: int("".join(c for c in name if c.isdigit()) or -1))
        parts = [dict(np.load(os.path.join(folder, name))) for name in names if name.startswith("rank-")]
    state = {}
    for name, array in like.items():
        whole = parts[0][name] if name == "parameters" else np.concatenate([part[name] for part in parts])
        state[name] = jax.make_array_from_callback(array.shape, array.sharding, lambda index, whole=whole: whole[index])
    return state, int(parts[0]["step"])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--storage", required=True, help="a folder that every node sees")
    options.add_argument("--key", required=True, help="path of the key's file, the same on every node: thole key new --file PATH")
    options.add_argument("--name", default="digits", help="of the run; a run of this name that was cut off goes on")
    options.add_argument("--steps", type=int, default=STEPS)
    options = options.parse_args()
    ray.init(log_to_driver=False)
    result = DataParallelTrainer(
        train, train_loop_config={"digits": DIGITS, "steps": options.steps},
        scaling_config=ScalingConfig(num_workers=4, resources_per_worker={"CPU": 1}, placement_strategy="SPREAD"),
        run_config=RunConfig(name=options.name, storage_path="runs", callbacks=[thole.ray.RecoveryPolicy()],
                             storage_filesystem=thole.ray.checkpoint_filesystem(options.storage, key=os.path.abspath(options.key)),
                             failure_config=FailureConfig(max_failures=-1), checkpoint_config=CheckpointConfig(num_to_keep=3)),
    ).fit()
    print(json.dumps({name: result.metrics[name] for name in ("step", "digest", "accuracy")}))


if __name__ == "__main__":
    main()
