"""`ray start`, which may also join a cluster on loopback, and whose workers with a vGPU start in half the time.

Where Ray is told to keep 127.0.0.1 (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0), its command refuses a second node, since that
is a setting for systems without clusters. Several nodes on one machine are what tests and first steps need, so the check of
the command, and nothing else, is told otherwise. And the raylet is given our setup_worker.py, which says why. A node that
was started without this program works the same, but for both. tests/hosts/ray/test_private.py notices when they move.
"""
from __future__ import annotations

import os
import sys
import types

from ray._private import ray_constants
from ray.scripts import scripts

from thole.ray import setup_worker

if __name__ == "__main__":
    scripts.ray_constants = types.SimpleNamespace(**{**vars(scripts.ray_constants), "ENABLE_RAY_CLUSTER": True})
    # Joined to a folder of Ray's where the path is made: an absolute one stands for itself.
    ray_constants.SETUP_WORKER_FILENAME = os.path.abspath(setup_worker.__file__)
    sys.exit(scripts.main())
