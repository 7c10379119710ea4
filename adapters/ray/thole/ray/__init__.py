"""Thole on Ray: vGPUs that hold for each worker, gangs that start whole, jobs, and encrypted checkpoints.

    import ray, thole.ray

    @thole.ray.vgpu(memory="8Gi", share=0.25)
    def embed(batch): ...

    with thole.ray.gang(thole.ray.Role(8, memory="40Gi", share=0.5), thole.ray.Role(4, gpus=1)) as gang:
        workers = [Worker.options(**gang.options(i)).remote() for i in range(len(gang))]

docs/guide/ray.md is the way in, docs/reference/ray.md has every name. Ray itself is imported when it is first needed.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import GangError
from .gangs import Gang, Role, gang
from .vgpus import vgpu

__all__ = ["Gang", "GangError", "RecoveryPolicy", "Role", "checkpoint_filesystem", "gang", "newest_good_checkpoint", "vgpu"]


if TYPE_CHECKING:
    from .filesystem import checkpoint_filesystem
    from .train import RecoveryPolicy, newest_good_checkpoint
else:

    def __getattr__(name: str) -> Any:
        # pyarrow is only there where Ray Train is.
        if name == "checkpoint_filesystem":
            from .filesystem import checkpoint_filesystem

            return checkpoint_filesystem
        if name in ("RecoveryPolicy", "newest_good_checkpoint"):
            from . import train

            return getattr(train, name)
        raise AttributeError(f"module 'thole.ray' has no attribute {name!r}")
