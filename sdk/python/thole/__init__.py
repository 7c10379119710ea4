"""The job's side of Thole: join a run, save and restore encrypted checkpoints, count, and stop when asked to.

    import thole

    with thole.join() as run:
        state = run.restore(like=initial) or initial
        for step in range(state["step"] + 1, last + 1):
            ...
            run.step(step)
            if run.save_due(step):
                run.save(step, state)

A script that never imports this package runs as well; docs/guide/python.md says what it gains.
"""
from pkgutil import extend_path

# Adapters add to this package from distributions of their own, such as thole.ray.
__path__ = extend_path(__path__, __name__)

from . import allocation, checkpoint, metrics
from .allocation import Allocation
from .checkpoint import Checkpoints, Rows
from .errors import TholeError
from .run import EXIT_STOPPED, Run, join

__version__ = "0.1.0"
__all__ = ["EXIT_STOPPED", "Allocation", "Checkpoints", "Rows", "Run", "TholeError", "__version__", "allocation", "checkpoint",
           "join", "metrics"]
