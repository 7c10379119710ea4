"""What a raylet starts before a worker that has a runtime environment, in the place of Ray's own program of this name.

Ray's imports all of Ray only to set a few variables and to execute Python once more, which then imports Ray again: a call
with a vGPU would take twice as long to start as one without. Where the context has nothing but variables, as that of a vGPU, this
program sets them and executes the worker; with anything else it hands over to Ray's. It must not import Ray.
"""
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # for a type checker alone
    from typing import Any

# Each import here is paid by every worker that starts: `typing` and `json`, which imports `re`, would double what this costs.
_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context", "--language"
# Nobody reads these before a worker's first line runs. Others, such as LD_PRELOAD, PYTHONPATH or LANG, are for a process that begins.
_READ_LATER = ("THOLE_", "RAY_", "CUDA_", "NVIDIA_")


def cut(arguments: list[str]) -> tuple[str | None, str | None, list[str]]:
    """(context, language, the worker's own arguments)."""
    found: dict[str, str] = {}
    rest = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in (_CONTEXT, _LANGUAGE):
            found[name] = value if equals else next(words, "")
        else:
            rest.append(word)
    return found.get(_CONTEXT), found.get(_LANGUAGE), rest


class _Rules:
    """How json.loads reads, for the scanner that it has in C."""

    strict = True
    memo: dict[str, str] = {}
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def read(text: str) -> dict[str, Any]:
    try:
        from _json import make_scanner

        found, end = make_scanner(_Rules())(text, 0)  # type: ignore[arg-type]
        if end == len(text) and isinstance(found, dict):
            return found
    except (ImportError, AttributeError, TypeError, ValueError, StopIteration):
        pass  # another Python, or no JSON: json has the word
    import json

    return json.loads(text)  # type: ignore[no-any-return]


def is_plain(context: dict[str, Any]) -> bool:
    """Whether it says nothing but variables, of which none refers to another, and a Python that is a file."""
    variables, python = context.get("env_vars") or {}, context.get("py_executable")
    others = [k for k, v in context.items() if v and k not in ("env_vars", "py_executable")]
    return not others and not any("$" in str(v) for v in variables.values()) and (not python or os.path.isfile(python))


def rays_own() -> str:
    """The path of Ray's program, found without importing Ray."""
    from importlib.util import find_spec

    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    return os.path.join(os.path.dirname(spec.origin), "_private", "workers", "setup_worker.py")


def become(program: str, arguments: list[str]) -> None:
    """Runs a Python program in this process as if it had begun with it, which spares another start of Python.

    In /proc/PID/environ, unlike in os.environ and getenv(3), the variables set meanwhile are then not to be seen.
    """
    with open(program, "rb") as file:
        code = compile(file.read(), program, "exec")
    sys.argv = [program, *arguments]
    sys.path.insert(0, os.path.dirname(program))
    names = vars(sys.modules["__main__"])
    kept = {name: names[name] for name in ("__name__", "__builtins__", "__loader__")}
    names.clear()
    names.update(kept, __file__=program, __doc__=None, __package__=None, __spec__=None, __cached__=None, __annotations__={})
    exec(code, names)


def main(arguments: list[str]) -> None:
    text, language, rest = cut(arguments)
    context = read(text) if text else None
    if context is None or language != "PYTHON" or not is_plain(context):
        os.execv(sys.executable, [sys.executable, rays_own(), *arguments])
    variables, python = context.get("env_vars") or {}, context.get("py_executable") or sys.executable
    os.environ.update(variables)
    if python == sys.executable and rest[0].endswith(".py") and all(name.startswith(_READ_LATER) for name in variables):
        become(rest[0], rest[1:])
    else:
        os.execv(python, [python, *rest])


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its names are of the package, and not to be found without it
    main(sys.argv[1:])
