"""A small classifier of handwritten digits, trained data-parallel with JAX: the data, the model and one train step.

Nothing in this file knows how it is launched, saved or restarted; train.py does that.

The optimizer's state is spread over the ranks (as ZeRO stage 1 does it): all ranks hold the same parameters and
all-reduce their gradients, then each updates its own rows of the flat parameter vector with its own rows of Adam's
moments, and the ranks gather the result.
"""
import gzip
import os

# The ranks of one machine share its cores: one thread each. It also fixes the order of every sum.
os.environ.setdefault("NPROC", "1")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

from functools import partial
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, shard_map
from jax.sharding import Mesh, NamedSharding, PartitionSpec

HIDDEN = 64
LAYERS = {"w1": (64, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 10), "b2": (10,)}
BATCH = 32  # images of one rank in one step
HELD_OUT = 297
LEARNING_RATE, BETA1, BETA2, EPSILON = 5e-3, 0.9, 0.999, 1e-8
# The flat vector is padded so that 1 to 8 ranks can cut it evenly: a checkpoint of four can go on with three.
SIZE = -(-sum(int(np.prod(s)) for s in LAYERS.values()) // 840) * 840


def load():
    """The 1,797 digits that ship inside scikit-learn's wheel (which is not imported): images in 0..1, and labels."""
    files = metadata.distribution("scikit-learn").files or []
    path = next(f.locate() for f in files if f.name == "digits.csv.gz")
    with gzip.open(path, "rt") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.float32)
    order = np.random.default_rng(0).permutation(len(table))
    images, labels = table[order, :-1] / 16, table[order, -1].astype(np.int32)
    return (images[HELD_OUT:], labels[HELD_OUT:]), (images[:HELD_OUT], labels[:HELD_OUT])


def batch(data, step, rank, ranks):
    """What `rank` trains on in `step`: some of its own images. The ranks' images are disjoint."""
    images, labels = (part[rank::ranks] for part in data)
    chosen = np.random.default_rng([step, rank]).choice(len(images), BATCH, replace=False)
    return images[chosen], labels[chosen]


def initial_parameters():
    random = np.random.default_rng(1)
    parts = [random.normal(0, shape[0] ** -0.5, shape) if len(shape) == 2 else np.zeros(shape) for shape in LAYERS.values()]
    flat = np.concatenate([part.ravel() for part in parts])
    return np.pad(flat, (0, SIZE - len(flat))).astype(np.float32)


def logits(flat, images):
    layers, at = {}, 0
    for name, shape in LAYERS.items():
        layers[name] = flat[at : at + int(np.prod(shape))].reshape(shape)
        at += int(np.prod(shape))
    return jnp.tanh(images @ layers["w1"] + layers["b1"]) @ layers["w2"] + layers["b2"]


def loss(flat, images, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits(flat, images)), labels[:, None], 1))


class Trainer:
    """Holds the mesh of ranks and the compiled step."""

    def __init__(self, rank, ranks, all_reduce=True):
        self.rank, self.ranks = rank, ranks
        # One device of each process, in the order of the ranks.
        first = {d.process_index: d for d in reversed(jax.devices())}
        self.mesh = Mesh(np.array([first[r] for r in range(ranks)]), ("rank",))
        whole, rows = PartitionSpec(), PartitionSpec("rank")
        state = {"parameters": whole, "mean": rows, "variance": rows}
        over_ranks = partial(shard_map, mesh=self.mesh, check_vma=False)
        self._step = jax.jit(
            over_ranks(partial(self._one_step, all_reduce), in_specs=(state, rows, rows, whole), out_specs=(state, whole)))
        self._any = jax.jit(over_ranks(lambda asked: lax.pmax(asked, "rank"), in_specs=rows, out_specs=rows))

    def initial_state(self):
        flat = initial_parameters()
        return {"parameters": self._global(PartitionSpec(), flat),
                "mean": self._global(PartitionSpec("rank"), np.zeros_like(flat)),
                "variance": self._global(PartitionSpec("rank"), np.zeros_like(flat))}

    def step(self, state, step, images, labels):
        """Train step number `step` (the first is 1) on this rank's batch: the new state, and the loss over all ranks."""
        return self._step(state, self._cut(images), self._cut(labels), np.float32(step))

    def any_rank(self, asked):
        """True on every rank if `asked` is true on one. All ranks must call it."""
        return bool(self._any(self._cut(np.array([asked], np.int32))).addressable_data(0)[0])

    def _global(self, spec, array):
        return jax.make_array_from_callback(array.shape, NamedSharding(self.mesh, spec), lambda index: array[index])

    def _cut(self, mine):
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, PartitionSpec("rank")), mine)

    @staticmethod
    def _one_step(all_reduce, state, images, labels, step):
        parameters, mean, variance = state["parameters"], state["mean"], state["variance"]
        value, gradient = jax.value_and_grad(loss)(parameters, images, labels)
        if all_reduce:
            gradient = lax.pmean(gradient, "rank")
        rows = len(mean)
        first = lax.axis_index("rank") * rows
        mine = lax.dynamic_slice(gradient, (first,), (rows,))
        mean = BETA1 * mean + (1 - BETA1) * mine
        variance = BETA2 * variance + (1 - BETA2) * mine**2
        change = (mean / (1 - BETA1**step)) / (jnp.sqrt(variance / (1 - BETA2**step)) + EPSILON)
        moved = lax.dynamic_slice(parameters, (first,), (rows,)) - LEARNING_RATE * change
        parameters = lax.all_gather(moved, "rank", tiled=True)
        return {"parameters": parameters, "mean": mean, "variance": variance}, lax.pmean(value, "rank")


def accuracy(flat, data):
    images, labels = data
    return float(np.mean(np.argmax(np.asarray(logits(flat, images)), 1) == labels))


def join_ranks(rank, ranks, address):
    """Makes the processes one JAX program, with gloo for the CPU."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    if ranks > 1:
        # Where no platform ends them, ranks that wait for one that was killed leave after 15 s; JAX's own time was 96 s.
        jax.distributed.initialize(address, ranks, rank, shutdown_timeout_seconds=15)
