"""The suites: what each builds and runs. Their order is that of what a person wants to know first."""

import glob
import json
import os
import subprocess

import lint as lint_checks
from programs import last_lines, run_go, run_gtests, run_pytest
from results import FAILED, PASSED, SKIPPED

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


# Test vectors of others lie beside the checkout, where there are any.
if "THOLE_DATA" not in os.environ and os.path.isdir(os.path.join(ROOT, "../shared/data")):
    os.environ["THOLE_DATA"] = os.path.realpath(os.path.join(ROOT, "../shared/data"))


class Context:
    """Where things are, and what has been built already."""

    def __init__(self, long, named=True):
        self.long = long
        self.named = named  # the suites were asked for by name
        self.build_root = os.environ["THOLE_BUILD"]
        self.python = os.path.join(os.environ["THOLE_CACHE"], "python/bin/python")
        self._built = {}

    def folder(self, preset):
        return os.path.join(self.build_root, preset)

    def build(self, suite, preset, *targets):
        """Builds targets once; a build that fails is a failed test of the suite. True if it is there."""
        wanted = (preset, targets)
        if wanted not in self._built:
            command = [os.path.join(ROOT, "sdk/setup/build"), preset, *targets]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            self._built[wanted] = "" if done.returncode == 0 else last_lines(done.stdout + done.stderr, 40)
        problem = self._built[wanted]
        if problem:
            suite.add(f"build {preset} {' '.join(targets)}".strip(), FAILED, problem)
        return not problem

    def environment(self, preset="release"):
        """What the tests in Python find: the library, the command and the package of this checkout."""
        folder = self.folder(preset)
        return {
            "THOLE_ROOT": ROOT,
            "THOLE_TEST_BUILD": folder,
            "THOLE_LIBRARY": os.path.join(folder, "sdk/libthole.so.0"),
            "THOLE_COMMAND": os.path.join(folder, "adapters/local/thole"),
            "PATH": os.path.join(folder, "adapters/local") + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": os.path.join(ROOT, "sdk/python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "JAX_PLATFORMS": "cpu",
            **({"THOLE_TEST_HUGE": "1"} if self.long else {}),
        }

    def tests(self, preset, pattern):
        return sorted(
            path
            for path in glob.glob(os.path.join(self.folder(preset), "tests", "**", pattern), recursive=True)
            if os.access(path, os.X_OK) and os.path.isfile(path) and "." not in os.path.basename(path)
        )


def build(suite, context):
    if context.build(suite, "release"):
        suite.add("release, with all warnings as errors", PASSED)


def unit(suite, context):
    if context.build(suite, "release"):
        run_gtests(suite, context.tests("release", "unit_*"), context.environment())


def contract(suite, context):
    if not context.build(suite, "release"):
        return
    run_gtests(suite, context.tests("release", "contract_*"), context.environment())
    run_pytest(suite, os.path.join(ROOT, "tests/contract"), context.python, context.environment())


def _python_suite(*folders):
    def run(suite, context):
        if context.build(suite, "release"):
            for folder in folders:
                run_pytest(suite, os.path.join(ROOT, folder), context.python, context.environment())

    return run


def slurm(suite, context):
    """Against the Slurm of this machine; its packages are of a group of their own."""
    if not context.build(suite, "release"):
        return
    plugins = os.path.join(context.build_root, "slurm-plugins")
    for command in (["sdk/setup/install", "slurm"], ["adapters/slurm/setup/build", plugins]):
        done = subprocess.run([os.path.join(ROOT, command[0]), *command[1:]], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            suite.add("tests/hosts/slurm", SKIPPED, f"needs slurm: {last_lines(done.stderr, 3)}")
            return
    folder = os.path.join(ROOT, "tests/hosts/slurm")
    run_pytest(suite, folder, context.python, {**context.environment(), "THOLE_SLURM_PLUGINS": plugins})
    for release in ("trixie", "sid") if context.long and os.geteuid() == 0 else ():
        root = os.path.join(os.environ["THOLE_CACHE"], "slurm", release)
        made = subprocess.run([os.path.join(folder, "chroot"), release, root], capture_output=True, text=True, check=False)
        if made.returncode == 0:
            subprocess.run([os.path.join(ROOT, "adapters/slurm/setup/build"), f"{plugins}.{release}", f"{root}/usr/include"], check=True)
            run_pytest(suite, folder, context.python, {**context.environment(), "THOLE_SLURM_PLUGINS": f"{plugins}.{release}",
                                                       "THOLE_SLURM_ROOT": root})
        else:
            suite.add(f"tests/hosts/slurm in {release}", SKIPPED, f"needs chroot: {last_lines(made.stderr, 3)}")


def ray(suite, context):
    """Against real Ray on loopback, in a Python environment of its own; with --long also the one about a year older."""
    if not context.build(suite, "release"):
        return
    for version in ("2.60", "2.52") if context.long else ("2.60",):
        made = subprocess.run([os.path.join(ROOT, "adapters/ray/setup/install"), version], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            suite.add(f"tests/hosts/ray with {version}", SKIPPED, f"needs ray: {last_lines(made.stderr, 3)}")
            continue
        programs = made.stdout.strip()
        environment = context.environment()
        environment["PYTHONPATH"] += os.pathsep + os.path.join(ROOT, "adapters/ray")
        environment["PATH"] = programs + os.pathsep + environment["PATH"]
        run_pytest(suite, os.path.join(ROOT, "tests/hosts/ray"), os.path.join(programs, "python"), environment)


def kubernetes(suite, context):
    """The adapter's Go tests, and a real cluster whose programs are built once, outside the tree: a quarter of an hour or more,
    so a run of all suites uses it only where somebody has built it."""
    if not context.named and not glob.glob(os.path.join(os.environ["THOLE_CACHE"], "kubernetes/ready-*")):
        suite.add("tests/hosts/kubernetes", SKIPPED, "needs kubernetes: `tests/run --suite kubernetes` builds it, in about 20 minutes")
        return
    if not context.build(suite, "release"):
        return
    for command in (["sdk/setup/install", "kubernetes"], ["tests/hosts/kubernetes/build"]):
        made = subprocess.run([os.path.join(ROOT, command[0]), *command[1:]], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            suite.add("tests/hosts/kubernetes", SKIPPED, f"needs kubernetes: {last_lines(made.stderr, 3)}")
            return
    adapter = os.path.join(ROOT, "adapters/kubernetes")
    go = subprocess.run([os.path.join(adapter, "setup/go")], capture_output=True, text=True, check=True).stdout.strip()
    environment = {**context.environment(), "CGO_ENABLED": "1", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    for check in ([os.path.join(adapter, "core/generate.py"), "--check"], [go, "vet", "./..."]):
        done = subprocess.run(check, cwd=adapter, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        suite.add(" ".join(os.path.basename(word) for word in check), PASSED if done.returncode == 0 else FAILED, last_lines(done.stderr))
    run_go(suite, adapter, go, environment)
    programs = os.path.join(context.build_root, "kubernetes")
    made = subprocess.run([go, "run", "./api/generate"], cwd=adapter, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    with open(os.path.join(adapter, "deploy/crds.yaml"), encoding="utf-8") as file:
        same = made.returncode == 0 and made.stdout == file.read()
    suite.add("crds.yaml is what api/generate makes", PASSED if same else FAILED, last_lines(made.stderr) or "go run ./api/generate >deploy/crds.yaml")
    run_pytest(suite, os.path.join(ROOT, "tests/hosts/kubernetes"), context.python,
               {**context.environment(), "THOLE_KUBERNETES_PROGRAMS": programs})


SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
    # Of the thousands of crash states and flipped bytes, which release looks at one and all, each nineteenth.
    "THOLE_TEST_ONE_IN": "19",
}


def _sanitized(preset):
    def run(suite, context):
        if not context.build(suite, preset, "unit_tests", "contract_tests"):
            return
        environment = {**context.environment(preset), **SANITIZER_OPTIONS}
        programs = context.tests(preset, "unit_*") + context.tests(preset, "contract_*")
        run_gtests(suite, programs, environment)

    return run


def _corpus(context, preset, name):
    """The first inputs of a parser: files of people, and what tests/fuzz/binary_corpus made in the build."""
    folders = [os.path.join(ROOT, "tests/files/good"), os.path.join(ROOT, "tests/files/bad"),
               os.path.join(ROOT, "tests/fuzz/corpus", name), os.path.join(context.folder(preset), "tests/fuzz/corpus", name)]
    return [folder for folder in folders if os.path.isdir(folder)]


def fuzz(suite, context):
    names = sorted(os.path.splitext(os.path.basename(p))[0] for p in glob.glob(os.path.join(ROOT, "tests/fuzz/*.cc")))
    if not context.build(suite, "clang", *(f"fuzz_{name}" for name in names)):
        return
    seconds = 3600 if context.long else 15
    for name in names:
        kept = os.path.join(context.build_root, "fuzz", name)
        os.makedirs(kept, exist_ok=True)
        command = [os.path.join(context.folder("clang"), f"tests/fuzz/fuzz_{name}"), f"-max_total_time={seconds}",
                   "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1",
                   f"-artifact_prefix={kept}/found-", kept, *_corpus(context, "clang", name)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False,
                              cwd=kept, stdin=subprocess.DEVNULL)
        runs = [line.split(":")[-1].strip() for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"    {name}: {''.join(runs) or 'no'} inputs in {seconds} s", flush=True)
        suite.add(f"fuzz {name}", PASSED if done.returncode == 0 else FAILED, last_lines(done.stderr, 40))


def replay(suite, context):
    """The corpora, once, in whatever build: what was found before is not found again."""
    names = sorted(os.path.splitext(os.path.basename(p))[0] for p in glob.glob(os.path.join(ROOT, "tests/fuzz/*.cc")))
    if not context.build(suite, "release"):
        return
    for name in names:
        program = os.path.join(context.folder("release"), f"tests/fuzz/replay_{name}")
        done = subprocess.run([program, *_corpus(context, "release", name)], capture_output=True, text=True,
                              errors="replace", check=False)
        suite.add(f"replay {name}", PASSED if done.returncode == 0 else FAILED, last_lines(done.stdout + done.stderr))


def lint(suite, context):
    for name, check in lint_checks.CHECKS:
        suite.check(name, check(ROOT))
    if not context.long:
        suite.add("clang-tidy", SKIPPED, "needs long: a file takes ten seconds")
    elif context.build(suite, "clang", "thole"):
        suite.check("clang-tidy", lint_checks.clang_tidy(ROOT, context.folder("clang")))


def figures(suite, context):
    """What can be counted meets its goal on every machine. What takes time is printed and not judged, because another
    machine, or this one with other work, takes longer: tests/bench judges it."""
    if not context.build(suite, "release"):
        return
    for name in ("boundary", "symbols"):
        done = subprocess.run([os.path.join(ROOT, "tests/bench"), name, "--json"], capture_output=True, text=True, check=False)
        lines = json.loads(done.stdout or "[]")
        for figure in lines:
            print(f"    {figure['id']}: {figure['ours']} {figure['unit']}, goal {figure['goal'] or 'none'}", flush=True)
        counted = [figure for figure in lines if figure["goal"] and figure["unit"] not in ("ns", "us", "ms", "s")]
        met = bool(counted) and all(figure["met"] for figure in counted)
        suite.add(f"figure {name}", PASSED if met else FAILED, last_lines(done.stdout + done.stderr))


# name: (function, in --fast, what it is)
ALL = {
    "build": (build, True, "everything, release"),
    "lint": (lint, True, "form, sizes, words and include order of the source"),
    "unit": (unit, True, "each folder of sdk/src by itself"),
    "contract": (contract, True, "the rules of the contract, through the library"),
    "abi": (_python_suite("tests/abi"), True, "headers, layouts, symbols and the recorded baseline"),
    "replay": (replay, True, "each parser's corpus once"),
    "python": (_python_suite("tests/python", "tests/peer"), True, "the Python package, and the second reader"),
    "figures": (figures, True, "the figures of the boundary"),
    "local": (_python_suite("tests/hosts/local"), False, "the thole command and the local platform"),
    "slurm": (slurm, False, "the platform Slurm, on a cluster of four nodes"),
    "ray": (ray, False, "the platform Ray, on clusters of two and three nodes"),
    "kubernetes": (kubernetes, False, "gangs, jobs and the guide in a real Kubernetes with two real nodes"),
    "faults": (_python_suite("tests/faults"), False, "what is killed, cut or full at every step"),
    "docs": (_python_suite("tests/docs"), False, "every command block of README and docs"),
    "asan-ubsan": (_sanitized("asan-ubsan"), False, "unit and contract under address and undefined behaviour"),
    "tsan": (_sanitized("tsan"), False, "unit and contract under the thread sanitizer"),
    "fuzz": (fuzz, False, "each parser for a short time"),
}
