"""The package as it is installed, and metrics."""
import ast
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import PACKAGE, run_python

import thole


ADAPTER = PACKAGE.parents[1] / "adapters/ray"


def pip(*words):
    """Without the network: with the setuptools that is there, which before 70.1 needs the package wheel to make one."""
    import setuptools

    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1) and importlib.util.find_spec("wheel") is None:
        pytest.skip("the packages setuptools >= 70.1, or wheel, are not installed")
    done = subprocess.run([sys.executable, "-m", "pip", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout


def copy_of(package, to):
    shutil.copytree(package, to, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    return to


def test_it_installs_with_pip(tmp_path):
    source, target = copy_of(PACKAGE, tmp_path / "source"), tmp_path / "target"
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", target, source)
    assert (target / "thole" / "py.typed").exists()
    assert sorted(p.name for p in (target / "thole").glob("*.py")) == sorted(p.name for p in (PACKAGE / "thole").glob("*.py"))
    code, output = run_python("import thole; print(thole.__file__, thole.join().rank)", {"PYTHONPATH": str(target)})
    assert (code, output) == (0, f"{target}/thole/__init__.py 0\n")


def test_thole_ray_installs_beside_it(tmp_path):
    """`pip install 'thole[ray]'` is the two packages and Ray; here without Ray, which is not asked for before it is needed."""
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    for package in (PACKAGE, ADAPTER):
        pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", wheels, copy_of(package, tmp_path / package.name))
    pip("install", "--quiet", "--no-deps", "--no-index", "--find-links", wheels, "--disable-pip-version-check", "--target", target, "thole[ray]", "thole-ray")
    found = {d.metadata["Name"]: d.requires or [] for d in importlib.metadata.distributions(path=[str(target)])}
    assert any(r.startswith("thole-ray==0.1.0") and "extra ==" in r and "ray" in r for r in found["thole"]), found
    assert {"thole==0.1.0", "ray>=2.52"} <= set(found["thole-ray"]), found
    assert (target / "thole/ray/py.typed").exists()
    assert sorted(p.name for p in (target / "thole/ray").glob("*.py")) == sorted(p.name for p in (ADAPTER / "thole/ray").glob("*.py"))
    code, output = run_python("import thole.ray; print(thole.ray.__file__, thole.ray.Role(2, memory='1Gi', share=0.5).members)", {"PYTHONPATH": str(target)})
    assert (code, output) == (0, f"{target}/thole/ray/__init__.py 2\n")
    shown = subprocess.run([target / "bin/thole-ray", "--help"], env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "submit" in shown.stdout, shown


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
