"""The digits, trained by a script that has never heard of Thole: it knows RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT."""
import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "samples" / "digits"))

import digits
import numpy as np

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
digits.join_ranks(rank, ranks, f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', 29500)}")
training, held_out = digits.load()
trainer = digits.Trainer(rank, ranks)
state = trainer.initial_state()
for step in range(1, int(sys.argv[1]) + 1 if sys.argv[1:] else 201):
    state, loss = trainer.step(state, step, *digits.batch(training, step, rank, ranks))
    float(loss)
parameters = np.asarray(state["parameters"].addressable_data(0))
if rank == 0:
    print(f"digest {hashlib.sha256(parameters.tobytes()).hexdigest()} accuracy {digits.accuracy(parameters, held_out):.4f}")
