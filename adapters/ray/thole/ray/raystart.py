"""`ray start`, which may also join a cluster on loopback.

Where Ray is told to keep 127.0.0.1 (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0), its command refuses a second node, since that
is a setting for systems without clusters. Several nodes on one machine are what tests and first steps need, so the check of
the command, and nothing else, is told otherwise. tests/hosts/ray/test_private.py notices when it moves.
"""
from __future__ import annotations

import sys
import types

from ray.scripts import scripts

if __name__ == "__main__":
    scripts.ray_constants = types.SimpleNamespace(**{**vars(scripts.ray_constants), "ENABLE_RAY_CLUSTER": True})
    sys.exit(scripts.main())
