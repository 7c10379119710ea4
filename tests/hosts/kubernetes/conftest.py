"""One Kubernetes for all tests of this folder, with the default scheduler and thole-scheduler side by side."""
from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import installed as installation  # noqa: E402
from cluster import PATIENCE, Cluster, missing, processes_left  # noqa: E402
from pods import wipe  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Three profiles of one binary: ours, the one that KubeRay's operator names, and one without the plugin to compare with.
CONFIG = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: %s
clientConnection: {{kubeconfig: {kubeconfig}, qps: 5000, burst: 5000, contentType: application/vnd.kubernetes.protobuf}}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 2
profiles:
- schedulerName: thole-scheduler
  plugins: &ours {{multiPoint: {{enabled: [{{name: Thole}}]}}, postFilter: {{enabled: [{{name: Thole}}]}}, bind: {{enabled: [{{name: Thole}}]}}}}
  pluginConfig: &how [{{name: Thole, args: %s}}]
- {{schedulerName: scheduler-plugins-scheduler, plugins: *ours, pluginConfig: *how}}
- {{schedulerName: thole-plain}}
"""
LEASE = "{{leaderElect: true, resourceName: thole-test, leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}}"
NO_GATES = "GenericWorkload=false"


def pytest_configure(config):
    config.addinivalue_line("markers", "last: after all others, of which it looks at what they left")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    reason = missing()
    for item in items if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    out = pathlib.Path(os.environ.get("THOLE_KUBERNETES_PROGRAMS") or tmp_path_factory.mktemp("programs"))
    subprocess.run([ROOT / "adapters/kubernetes/setup/build", out], check=True, timeout=1800)
    return out


def begin_scheduler(cluster, programs, name="thole-scheduler", port=10260, lead=False, library=None):
    """thole-scheduler as it is installed: with the rights of a scheduler, and that of writing on pods. lead: one of several, by a lease."""
    kubeconfig = cluster.kubeconfig("thole-scheduler")
    lease = LEASE if lead else "{{leaderElect: false}}"
    config = CONFIG % (lease, f"{{{{notes: {cluster.d / ('notes-' + name)}, gangTimeoutSeconds: 30}}}}")
    cluster.start_scheduler(name, programs / "thole-scheduler", kubeconfig, config, port, gates=NO_GATES,
                            environment={"THOLE_LIBRARY": str(library or os.environ["THOLE_LIBRARY"]), "THOLE_REAL_LIBRARY": os.environ["THOLE_LIBRARY"]},
                            options=("--authentication-skip-lookup=true", "-v=2"))


def may_schedule(cluster):
    """The user thole-scheduler may do what the service account of that name may where Thole is installed."""
    rules = [{"apiGroups": ["scheduling.x-k8s.io"], "resources": ["podgroups"], "verbs": ["list", "watch"]},
             {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}]
    cluster.api.create("clusterroles", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "thole-scheduler"}, "rules": rules})
    for role in ("system:kube-scheduler", "system:volume-scheduler", "thole-scheduler"):
        cluster.api.create("clusterrolebindings", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": f"thole-{role.replace(':', '-')}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "thole-scheduler"}]})


@pytest.fixture(scope="session")
def whole_cluster(programs):
    folder = tempfile.mkdtemp(prefix="thole-k8s.", dir="/tmp")
    cluster = Cluster(folder)
    try:
        cluster.up(gates=NO_GATES)
        for file in sorted((cluster.parts / "share/scheduler-plugins").glob("*.yaml")):
            cluster.kubectl("apply", "--server-side", "-f", file)
        cluster.kubectl("wait", "--for=condition=Established", "crd/podgroups.scheduling.x-k8s.io")
        may_schedule(cluster)
        begin_scheduler(cluster, programs)
        yield cluster
    finally:
        cluster.down()
        assert not processes_left(folder)


@pytest.fixture(scope="session")
def installed(programs):
    """Another cluster, of two real nodes, with Thole in it as its manifests have it."""
    folder = tempfile.mkdtemp(prefix="thole-k8s.", dir="/tmp")
    cluster = Cluster(folder)
    try:
        cluster.up(nodes=2, gates=NO_GATES)
        installation.install(cluster, installation.images(programs))
        yield cluster
    finally:
        cluster.down()
        assert not processes_left(folder)


@pytest.fixture(scope="session")
def local_digest(tmp_path_factory):
    """What the local platform makes of the same job file."""
    state = tmp_path_factory.mktemp("local")
    done = subprocess.run([os.environ["THOLE_COMMAND"], "--state", state, "--json", "run", installation.DIGITS / "job.yaml", "--pool", installation.DIGITS / "pool.yaml"],
                          capture_output=True, text=True, check=False, timeout=300,
                          env={**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["result"]["digest"]


@pytest.fixture
def thole(installed, programs):
    """`thole --on kubernetes`."""
    def run(*arguments, check=True, seconds=120):
        done = subprocess.run([os.environ["THOLE_COMMAND"], "--on", "kubernetes", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=seconds,
                              env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": str(installed.kubeconfig("admin", "system:masters"))})
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def cluster(whole_cluster, programs):
    """The cluster, with no node and no pod in it."""
    if not whole_cluster.pid("thole-scheduler"):
        begin_scheduler(whole_cluster, programs)
    yield whole_cluster
    wipe(whole_cluster)
    assert whole_cluster.pid("thole-scheduler"), "the scheduler has ended\n" + whole_cluster.log("thole-scheduler", 40)


__all__ = ["PATIENCE"]
