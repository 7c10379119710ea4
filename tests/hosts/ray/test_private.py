"""What the adapter uses of Ray that is not public, by name: when it moves, this says so first."""
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import thole.ray


def test_free_resources():
    from ray._private.state import available_resources_per_node

    assert list(inspect.signature(available_resources_per_node).parameters) == []


def test_runtime_env_plugin():
    from ray._private.runtime_env.plugin import RuntimeEnvPlugin

    from thole.ray.plugin import TholePlugin

    for name in ("validate", "get_uris", "create", "modify_context", "delete_uri"):
        theirs, ours = getattr(RuntimeEnvPlugin, name), getattr(TholePlugin, name)
        assert list(inspect.signature(theirs).parameters)[-len(inspect.signature(ours).parameters):], name
        assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(ours), name


def test_start_command():
    from ray.scripts import scripts

    assert isinstance(scripts.ray_constants.ENABLE_RAY_CLUSTER, bool) and callable(scripts.main)
    assert "ENABLE_RAY_CLUSTER" in inspect.getsource(scripts)


def test_where_the_gcs_keeps_its_tables():
    """RAY_gcs_storage and RAY_gcs_storage_path for a folder, RAY_external_storage_namespace for Redis: options of the GCS, which is a
    program of its own; and what a Node of ray._private.node does with them."""
    import ray
    from ray._private.node import Node

    program = (pathlib.Path(ray.__file__).parent / "core/src/ray/gcs/gcs_server").read_bytes()
    assert b"external_storage_namespace" in program
    if hasattr(Node, "_is_rocksdb_gcs"):
        assert b"gcs_storage" in program and b"gcs_storage_path" in program


def test_the_resource_that_only_the_head_has(small):
    """Actors that must outlive nodes lie on it: node:__internal_head__. Without it they would be placed anywhere, and nothing fails."""
    import ray

    with_it = [n["Labels"]["thole.dev/node"] for n in ray.nodes() if n["Alive"] and "node:__internal_head__" in n["Resources"]]
    assert with_it == [n["name"] for n in small.known()["nodes"] if n["head"]], (with_it, small.known()["nodes"])


def test_the_storage_of_a_run():
    """get_storage() is for developers, as Ray says: what is asked of it."""
    from ray.train import TrainContext
    from ray.train.v2._internal.execution.storage import StorageContext

    assert callable(TrainContext.get_storage) and isinstance(StorageContext.experiment_fs_path, property)
    assert "self.storage_filesystem" in inspect.getsource(StorageContext.__init__)


# In Ray's documentation; the last is ours.
PUBLIC = {"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_REDIS_ADDRESS", "RAY_REDIS_PASSWORD", "RAY_"}


def test_variables_of_ray():
    """RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO keeps Ray from clearing CUDA_VISIBLE_DEVICES of who has no GPU of its own; the plugin is found by
    RAY_RUNTIME_ENV_PLUGINS, and RAY_RUNTIME_ENV_THOLE_CACHE_SIZE_GB says that what it made goes at once; loopback stays loopback by
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, and a driver there by _node_ip_address."""
    import ray
    from ray._private import accelerators, ray_constants
    from ray._private.runtime_env import plugin

    folder = pathlib.Path(accelerators.__file__).parent
    assert "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO" in "".join(p.read_text() for p in [*folder.glob("*.py"), pathlib.Path(ray_constants.__file__)])
    constants = inspect.getsource(sys.modules["ray._private.runtime_env.constants"]) if "ray._private.runtime_env.constants" in sys.modules else ""
    assert "RAY_RUNTIME_ENV_PLUGINS" in inspect.getsource(plugin) + constants and "_CACHE_SIZE_GB" in inspect.getsource(plugin)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in inspect.getsource(ray_constants)
    assert "_node_ip_address" in inspect.getsource(ray.init)


def test_the_list_is_complete():
    """Whatever of the package's text names a private module or option of Ray is named in this file, too, and no version of Ray."""
    text, named = "", pathlib.Path(__file__).read_text()
    for file in sorted(pathlib.Path(thole.ray.__file__).parent.glob("*.py")):
        text += file.read_text()
    found = {f"{module}.{name}" for module, names in re.findall(r"^ *from (ray\.(?:\w+\.)*_\w+[\w.]*|ray\.scripts) import ([\w, ]+)", text, re.M)
             for name in names.split(", ")} | set(re.findall(r"\b_node_ip_address|\bRAY_\w+\b|node:__\w+|get_storage", text)) - PUBLIC
    lacking = sorted(name for name in found if not all(word in named for word in name.rsplit(".", 1)))
    assert len(found) >= 12 and not lacking, lacking
    assert not re.search(r"ray\.__version__|ray\.__commit__|version\([\"']ray", text)  # what this Ray has is looked for
    print(f"{len(found)} of {len(found)} private names: {', '.join(sorted(found))}")


def test_bundle_labels():
    from ray.util.placement_group import placement_group

    assert "bundle_label_selector" in inspect.signature(placement_group).parameters


def test_setup_worker_is_ours(small):
    """Ray joins the name to a folder of its own, so that an absolute one stands; the raylet begins its workers with it."""
    from ray._private import node, ray_constants

    from thole.ray import setup_worker

    assert ray_constants.SETUP_WORKER_FILENAME == os.path.basename(setup_worker.__file__)
    assert "ray_constants.SETUP_WORKER_FILENAME" in inspect.getsource(node)
    assert os.path.isfile(setup_worker.rays_own())
    for known in small.known()["nodes"]:
        command = pathlib.Path(f"/proc/{small.raylet_of(known['name'])}/cmdline").read_bytes()
        assert os.path.abspath(setup_worker.__file__).encode() in command, known["name"]


def set_up(context, *arguments, language="PYTHON"):
    """What a worker that is only a print would see."""
    from thole.ray import setup_worker

    program = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('THOLE_TEST'), sys.executable, 'ray' in sys.modules]))"
    command = [sys.executable, setup_worker.__file__, "-c", program, *arguments, f"--language={language}",
               f"--serialized-runtime-env-context={json.dumps(context)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("text", ['{}', '{"a": {"b": "\\u00e4 \\"\\\\ \\n", "c": ["x", 1, 2.5, true, null]}}', ' {"a": 1}', '{"a": 1} ', '{"a": 1}x', '{', '', '[1]', 'null'])
def test_a_context_is_read_as_json_reads_it(text):
    from thole.ray import setup_worker

    def outcome(reads):
        try:
            return reads(text)
        except ValueError:
            return ValueError

    assert outcome(setup_worker.read) == outcome(json.loads)


@pytest.mark.parametrize("context, variable, plain", [
    ({"env_vars": {"THOLE_TEST": "a b '\"\\ ü"}}, "a b '\"\\ ü", True), ({}, None, True),
    ({"env_vars": {"THOLE_TEST": "x"}, "command_prefix": [], "java_jars": [], "override_worker_entrypoint": None}, "x", True),
    ({"env_vars": {"THOLE_TEST": "${HOME}/x"}}, os.path.expandvars("${HOME}/x"), False),
    ({"command_prefix": ["export", "THOLE_TEST=prefixed", "&&"]}, "prefixed", False),
    ({"py_executable": f"{sys.executable} -B", "env_vars": {"THOLE_TEST": "x"}}, "x", False)])
def test_a_worker_is_set_up_as_by_ray(context, variable, plain):
    """Whatever the context says, the worker finds what Ray's own program would have made."""
    from thole.ray import setup_worker

    assert setup_worker.is_plain(context) == plain
    found = set_up(context, "--a=1", "--language", "x y", "-b")
    assert isinstance(found, list), found
    arguments, seen, python, imported = found
    assert (arguments, seen, imported) == (["--a=1", "-b"], variable, False) and os.path.realpath(python) == os.path.realpath(sys.executable)


STATE = """\
'''What a program sees of itself.'''
import json, os, sys
def here(): return __name__
print(json.dumps([sys.argv, sys.path, sys.flags.no_user_site, sorted(globals()), __name__, __file__, __doc__, here.__module__, sys.modules["__main__"] is not None
                  and sys.modules["__main__"].here is here, type(__loader__).__name__, str(__spec__), os.environ.get("THOLE_A"), os.environ.get("LANG_A")]))
"""


@pytest.mark.parametrize("variable", ["THOLE_A", "LANG_A"])
def test_a_worker_cannot_tell_how_it_was_started(tmp_path, variable):
    """In this process or in a new one, as the variables need it: what its first line finds is the same."""
    from thole.ray import setup_worker

    worker = tmp_path / "worker.py"
    worker.write_text(STATE)
    context = json.dumps({"env_vars": {variable: "x"}, "py_executable": sys.executable})
    plain = subprocess.run([sys.executable, worker, "--a=1"], capture_output=True, text=True, check=True, env={**os.environ, variable: "x"})
    ours = subprocess.run([sys.executable, setup_worker.__file__, worker, "--a=1", "--language=PYTHON", f"--serialized-runtime-env-context={context}"],
                          capture_output=True, text=True, check=True)
    assert json.loads(ours.stdout) == json.loads(plain.stdout)
