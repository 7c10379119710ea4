"""The package as it is installed, and metrics."""
import ast
import importlib.util
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import PACKAGE, run_python

import thole


def test_it_installs_with_pip(tmp_path):
    """Without the network: with the setuptools that is there, which before 70.1 needs the package wheel to make one."""
    import setuptools

    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1) and importlib.util.find_spec("wheel") is None:
        pytest.skip("the packages setuptools >= 70.1, or wheel, are not installed")
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
                           "--disable-pip-version-check", "--target", target, source], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert (target / "thole" / "py.typed").exists()
    assert sorted(p.name for p in (target / "thole").glob("*.py")) == sorted(p.name for p in (PACKAGE / "thole").glob("*.py"))
    code, output = run_python("import thole; print(thole.__file__, thole.join().rank)", {"PYTHONPATH": str(target)})
    assert (code, output) == (0, f"{target}/thole/__init__.py 0\n")


def test_it_is_python_3_9():
    """It parses as 3.9, and no annotation is evaluated there: `int | None` is a TypeError before 3.10."""
    paths = [path for path in PACKAGE.glob("**/*.py") if "generate" not in path.name]
    for path in paths:
        text = path.read_text()
        tree = ast.parse(text, feature_version=(3, 9))
        annotated = any(getattr(node, "annotation", None) or getattr(node, "returns", None) for node in ast.walk(tree))
        assert not annotated or "from __future__ import annotations" in text, path
    print(f"Python 3.9: {len(paths)} of {len(paths)} files")


def test_importing_it_imports_no_framework():
    code, output = run_python("import sys, thole\nthole.join()\nprint([m for m in ('numpy', 'jax', 'torch') if m in sys.modules])")
    assert (code, output) == (0, "[]\n")


@pytest.fixture
def metrics(library):
    if library.service("metrics") is None:
        pytest.skip("this libthole.so.0 has no metrics service")
    return thole.metrics


def test_metrics(metrics):
    images = metrics.counter("test_images", "Images trained on.")
    loss = metrics.gauge("test_loss", "Loss.", labels=("part",))
    seconds = metrics.histogram("test_step_seconds", "Time of a step.", bounds=(0.1, 1.0), unit="seconds")
    threads = [threading.Thread(target=lambda: [images.add(2) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loss.labels("train").set(3)
    loss.labels("train").add(0.5)
    loss.labels("held \"out\"").set(-1)
    for value in (0.05, 0.5, 0.5, 7):
        seconds.observe(value)
    lines = metrics.render().splitlines()
    for line in ("test_images_total 4000", 'test_loss{part="train"} 3.5', 'test_loss{part="held \\"out\\""} -1',
                 'test_step_seconds_bucket{le="0.1"} 1', 'test_step_seconds_bucket{le="+Inf"} 4', "test_step_seconds_count 4"):
        assert any(said.startswith(line) for said in lines), f"{line}\n" + "\n".join(lines)
    assert lines[-1] == "# EOF"


def test_metrics_that_are_wrong(metrics):
    with pytest.raises(thole.TholeError, match="MetricBad"):
        metrics.counter("test_down", "x").add(-1)
    with pytest.raises(thole.TholeError, match="MetricBad"):
        metrics.gauge("test_gauge", "x", labels=("a",)).labels("1", "2")
    with pytest.raises(thole.TholeError, match="MetricBad"):
        metrics.counter("not a name", "x").add()


def test_metrics_count_into_nothing_without_the_library():
    code, output = run_python("import thole\nthole.metrics.counter('a', 'b').add()\nprint(repr(thole.metrics.render()))",
                              {"THOLE_LIBRARY": "/nowhere/libthole.so.0"})
    assert (code, output) == (0, "''\n")
