"""What the adapter uses of Ray that is not public, by name: when it moves, this says so first."""
import inspect


def test_free_resources():
    from ray._private import state

    assert list(inspect.signature(state.available_resources_per_node).parameters) == []


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


def test_bundle_labels():
    from ray.util.placement_group import placement_group

    assert "bundle_label_selector" in inspect.signature(placement_group).parameters
