"""One Slurm for all tests of this folder that leave it as it was; and others for those that do not."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import Cluster, processes_left  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUILD = pathlib.Path(os.environ.get("THOLE_TEST_BUILD", ""))
PLUGINS = pathlib.Path(os.environ.get("THOLE_SLURM_PLUGINS", BUILD / "adapters/slurm"))
# A chroot with another Slurm (see chroot). This checkout, its build and its Python are seen inside.
CHROOT = os.environ.get("THOLE_SLURM_ROOT", "")
BINDS = [ROOT, BUILD, pathlib.Path(sys.prefix), pathlib.Path(sys.base_prefix)]
INCLUDE = f"{CHROOT}/usr/include"
SAMPLE = ROOT / "samples/digits/job.yaml"


def missing():
    for program in ("slurmctld", "slurmd", "munged", "unshare", "nsenter", "ip"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return f"needs slurm: {program} is not there (sdk/setup/install slurm)"
    if not (PLUGINS / "spank_thole.so").exists():
        return "needs slurm: the plugins were not built, since libslurm-dev was not there"
    return ""


def pytest_collection_modifyitems(items):
    reason = missing()
    for item in items if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def make_cluster():
    """Makes clusters, and ends them: no process of theirs, no mount and no file is left."""
    made = []

    def make(**options):
        folder = tempfile.mkdtemp(prefix="thole-slurm.", dir="/tmp")
        os.chmod(folder, 0o755)
        cluster = Cluster(folder)
        made.append(cluster)
        return cluster.up(**{"plugins": PLUGINS, "library": os.environ["THOLE_LIBRARY"], "root": CHROOT, "binds": BINDS, **options})

    yield make
    for cluster in made:
        end(cluster)


def end(cluster):
    cluster.down()
    assert not processes_left(cluster.d)
    assert str(cluster.d) not in pathlib.Path("/proc/self/mounts").read_text()


@pytest.fixture(scope="session")
def naive(tmp_path_factory):
    """The plugin of naive_spank.c."""
    folder = tmp_path_factory.mktemp("naive")
    (folder / "slurm").symlink_to(f"{INCLUDE}/slurm")
    subprocess.run(["cc", "-fPIC", "-shared", "-D_GNU_SOURCE", "-isystem", folder, "-o", folder / "naive.so",
                    HERE / "naive_spank.c"], check=True)
    return folder / "naive.so"


@pytest.fixture(scope="session")
def cluster(naive):
    folder = tempfile.mkdtemp(prefix="thole-slurm.", dir="/tmp")
    os.chmod(folder, 0o755)
    one = Cluster(folder)
    try:
        yield one.up(plugins=PLUGINS, library=os.environ["THOLE_LIBRARY"], root=CHROOT, binds=BINDS, copies=[naive],
                     plugstack="optional {d}/plugins/naive.so\n")
    finally:
        end(one)


@pytest.fixture(autouse=True)
def no_jobs_left(request):
    """A test that fails leaves nothing in the way of the next one."""
    yield
    if "cluster" in request.fixturenames:
        one = request.getfixturevalue("cluster")
        one.run("sh", "-c", "squeue -h -o %A | sort -u | xargs -r scancel", check=False)
        one.wait_quiet()


class Thole:
    """The `thole` command on one cluster: `--on slurm`, a state folder, and the Python that has JAX."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.state = cluster.work / name
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "sdk/python"), "JAX_PLATFORMS": "cpu",
                            "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment.pop("THOLE_LIBRARY", None)

    def __call__(self, *arguments, check=True):
        command = [os.environ["THOLE_COMMAND"], "--on", "slurm"] if not CHROOT else [BUILD / "adapters/slurm/thole-slurm"]
        command += ["--state", self.state, *arguments]
        return self.cluster.run(*command, check=check, env=self.environment)

    def submit(self, job=SAMPLE, *options):
        return json.loads(self("--json", "submit", job, *options).stdout)

    def status(self, name="digits"):
        return json.loads(self("--json", "status", name).stdout)

    def logs(self, name="digits", *options):
        return self("logs", name, *options, check=False).stdout

    def wait_step(self, step, name="digits"):
        """Until rank 0 says that it is so far, in whatever attempt is the newest."""
        return self.cluster.wait_for(lambda: f"step {step}:" in self.logs(name, "--rank", "0"), f"step {step} of {name}")

    def wait_digest(self, name="digits"):
        self.cluster.wait_end(self.status(name)["id"], seconds=300)
        lines = [line for line in self.logs(name).splitlines() if line.startswith("0| digest ")]
        log = self.state / "slurm" / name / "log"
        assert lines, f"{self.logs(name)}\n{log.read_text() if log.exists() else ''}"
        return lines[-1].split()[2]


@pytest.fixture
def thole(cluster, request):
    return Thole(cluster, request.node.name[:40])


@pytest.fixture(scope="session")
def local_digest(tmp_path_factory):
    """What the local platform makes of the same job file."""
    state = tmp_path_factory.mktemp("local")
    done = subprocess.run(
        [os.environ["THOLE_COMMAND"], "--state", state, "--json", "run", SAMPLE, "--pool", SAMPLE.parent / "pool.yaml"],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["result"]["digest"]
