"""What of a job file is Ray's own (`platforms.ray`), and what of it has no effect on Ray. Nothing is left out silently."""
from __future__ import annotations

from typing import Any, Dict, List, Mapping

from .errors import refused

_FIELD = "spec.platforms.ray.runtimeEnv"
# What reaches the job's command, since a member's command inherits the environment of its worker.
_HONOURED = ("env_vars", "pip", "uv", "conda", "py_modules", "config")
# What the core has not refused already, when it read the file.
_REFUSED = {"excludes": "it belongs to working_dir, in whose place is roles[].workdir", "thole": "it is made by Thole"}
_NO_EFFECT = {
    "queue": "there are no queues", "priority": "there are no queues", "account": "nobody is charged",
    "volumes": "a process sees its node's own files",
}
_NO_EFFECT_OF_ROLE = {"image": "its node's own programs are used", "sharedMemory": "processes share their node's /dev/shm"}


def runtime_env(spec: Mapping[str, Any]) -> Dict[str, Any]:
    """The runtime_env of every member, or nothing. Raises TholeError for what would not reach a command."""
    given = (spec.get("platforms", {}).get("ray") or {}).get("runtimeEnv") or {}
    for name in given:
        if name not in _HONOURED:
            raise refused("NativeOverrides" if name in _REFUSED else "FieldBad", f"{_FIELD}.{name}: " + _REFUSED.get(
                name, f"it would reach Ray's worker and not the job's command; there are {', '.join(_HONOURED)}"))
    for name, value in given.get("env_vars", {}).items():
        if not isinstance(value, str):
            raise refused("FieldWrongType", f"{_FIELD}.env_vars.{name}: a text is expected: put {value!r} in quotes")
    if given:
        from ray.runtime_env import RuntimeEnv

        try:
            RuntimeEnv(**given)
        except (TypeError, ValueError) as error:
            raise refused("FieldBad", f"{_FIELD}: {error}") from None
    return dict(given)


def without_effect(spec: Mapping[str, Any]) -> List[str]:
    """A sentence for each field that is given and does nothing here."""
    said = [f"spec.{name} has no effect on Ray: {why}" for name, why in _NO_EFFECT.items() if spec.get(name)]
    for index, role in enumerate(spec["roles"]):
        said += [f"spec.roles[{index}].{name} has no effect on Ray: {why}" for name, why in _NO_EFFECT_OF_ROLE.items()
                 if role.get(name)]
    return said
