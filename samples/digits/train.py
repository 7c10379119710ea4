"""Trains the digits classifier on WORLD_SIZE ranks: one process each, started by `thole run`, by hand or by anything
that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

The lines with `run` are all that Thole needs: join, restore, step, save, report, and stopping when asked to.
Without Thole's variables in the environment they do nothing, and the training is the same.
"""
import argparse
import hashlib
import os
import sys

import digits
import numpy as np
import thole


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--no-allreduce", action="store_true", help="for comparison: every rank keeps its own gradients")
    options = options.parse_args()
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

    with thole.join() as run:
        digits.join_ranks(rank, ranks, f"{os.environ.get('MASTER_ADDR', '127.0.0.1')}:{os.environ.get('MASTER_PORT', 29500)}")
        training, held_out = digits.load()
        trainer = digits.Trainer(rank, ranks, all_reduce=not options.no_allreduce)

        state, done, loss = trainer.initial_state(), 0, None
        if saved := run.restore(like={"state": state, "step": done}):
            state, done = saved["state"], saved["step"]
            print(f"rank {rank}: goes on after step {done}", flush=True)

        while done < options.steps:
            images, labels = digits.batch(training, done + 1, rank, ranks)
            state, loss = trainer.step(state, done + 1, images, labels)
            loss = float(loss)  # waits for the step
            done += 1
            run.step(done)
            stop = trainer.any_rank(run.should_stop)  # all ranks leave after the same step
            if run.save_due(done) or stop or done == options.steps:
                run.save(done, {"state": state, "step": done})
            if stop and done < options.steps:
                print(f"rank {rank}: stopped after step {done}", flush=True)
                sys.exit(thole.EXIT_STOPPED)
            if rank == 0 and done % 25 == 0:
                print(f"step {done}: loss {loss:.4f}", flush=True)

        parameters = np.asarray(state["parameters"].addressable_data(0))
        digest = hashlib.sha256(parameters.tobytes()).hexdigest()
        accuracy = digits.accuracy(parameters, held_out)
        # Restarted after its last step there is no loss to report.
        run.report(digest=digest, accuracy=accuracy, **({} if loss is None else {"loss": loss}))
        if rank == 0:
            print(f"digest {digest} accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
