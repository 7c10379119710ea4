"""A real Kubernetes on this machine, for tests: etcd, the control plane, kwok for simulated nodes, and real nodes.

All of it lies in one folder, speaks over a bridge of its own, and ends by pid. tests/hosts/kubernetes/build makes its programs.
"""
from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Optional

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1])]
from client import Client  # noqa: E402
from node import Node, begun  # noqa: E402
from watch import processes_left, wait_for  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = float(os.environ.get("THOLE_TEST_PATIENCE", "120"))  # seconds, for events on a machine that is busy
GATES = "GenericWorkload=true,GangScheduling=true,TopologyAwareWorkloadScheduling=true"
SERVICES = "10.96.0.0/16"

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "https://{host}:6443", certificate-authority: {d}/pki/ca.crt}}}}]
users: [{{name: "{user}", user: {{client-certificate: {file}.crt, client-key: {file}.key}}}}]
contexts: [{{name: test, context: {{cluster: test, user: "{user}"}}}}]
current-context: test
"""
SCHEDULER = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {{leaderElect: false}}
clientConnection: {{kubeconfig: {kubeconfig}, qps: 5000, burst: 5000, contentType: application/vnd.kubernetes.protobuf}}
"""
# What programs of ours ask for is written down: a right that none of them uses is one too many.
AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:thole-system"]}
- {level: Metadata, users: [thole-scheduler, thole-node]}
- {level: None}
"""
KWOK = """\
apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  manageAllNodes: false
  manageNodesWithAnnotationSelector: kwok.x-k8s.io/node=fake
  nodeIP: 127.0.0.1
  nodeLeaseDurationSeconds: 40
  podPlayStageParallelism: 16
  nodePlayStageParallelism: 16
  nodeLeaseParallelism: 8
  podsOnNodeSyncParallelism: 8
  enablePodsOnNodeSyncListPager: false
  enablePodsOnNodeSyncStreamWatch: true
"""


class ClusterFailed(Exception):
    pass


def parts_folder() -> pathlib.Path:
    """Where `build` puts what a cluster is made of."""
    cache = os.environ.get("THOLE_CACHE") or os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")) + "/thole"
    return pathlib.Path(cache) / "kubernetes"


def missing() -> str:
    """What this machine lacks for a cluster, or nothing."""
    if os.geteuid() != 0:
        return "needs kubernetes: only root can start containers and nodes"
    for program in ("ip", "openssl", "unshare", "nsenter"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return f"needs kubernetes: {program} is not there"
    if not list(parts_folder().glob("ready-*")):
        return "needs kubernetes: its programs were not built (tests/hosts/kubernetes/build)"
    return ""


class Cluster:
    """One cluster in one folder."""

    def __init__(self, folder: Any):
        self.d = pathlib.Path(folder).absolute()
        if len(str(self.d)) > 60:
            raise ClusterFailed(f"{self.d}: too long for the path of a socket, 60 bytes are the most")
        self.parts = parts_folder()
        self.nodes: list[Node] = []
        try:
            self._at(int((self.d / "net").read_text()))
            self.nodes = [Node(self, number) for number in range(len(list(self.d.glob("real-*"))))]
        except (OSError, ValueError):
            self.net = -1

    def _at(self, net: int) -> None:
        self.net, self.bridge, self.address = net, f"thole{net}", f"10.201.{net}.1"

    # --- Up and down. -----------------------------------------------------------------------------------------------

    def up(self, nodes: int = 0, kwok: bool = True, scheduler: bool = True, gates: str = GATES) -> Cluster:
        """Starts it with so many real nodes, and with the default scheduler unless that is not wanted."""
        reason = missing()
        if reason:
            raise ClusterFailed(reason)
        self.down()
        for name in ("pki", "log", "pid"):
            (self.d / name).mkdir(parents=True, exist_ok=True)
        self.d.chmod(0o755)
        self._make_bridge()
        self.gates = gates
        self._make_authority()
        self._start_etcd()
        self._start_control_plane()
        if scheduler:
            self.start_scheduler("kube-scheduler", self.parts / "bin/kube-scheduler", self.kubeconfig("system:kube-scheduler"), port=10259)
        if kwok:
            self._start_kwok()
        self.nodes = [Node(self, number) for number in range(nodes)]
        for node in self.nodes:
            node.start(self.nodes)
            node.load(self._pause_image())
        for node in self.nodes:
            self.wait_for(lambda: self.is_ready(node.name), f"node {node.name} to be ready", said=node.said)
        return self

    def down(self) -> None:
        """Ends all of it; nothing is left but what the caller has outside the folder."""
        if not self.d.exists():
            return
        for node in self.nodes:
            node.stop()
        for file in sorted((self.d / "pid").glob("*"), key=lambda f: f.stat().st_mtime, reverse=True):
            self.stop(file.name, signal.SIGKILL)  # nothing of it is needed any more
        if self.net >= 0:
            subprocess.run(["ip", "link", "del", self.bridge], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.d, ignore_errors=True)
        if self.d.exists():
            raise ClusterFailed(f"{self.d} cannot be removed")

    # --- Programs. --------------------------------------------------------------------------------------------------

    def start(self, name: str, *argv: Any, environment: Optional[dict[str, str]] = None) -> int:
        """Starts a program whose output goes to log/NAME.log, and remembers its pid."""
        if self.pid(name):
            raise ClusterFailed(f"{name} runs already")
        with open(self.d / f"log/{name}.log", "a", encoding="utf-8") as log:
            # The folder's name in the environment is how `processes_left` knows what is ours.
            process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                       cwd="/", env={**os.environ, **(environment or {}), "THOLE_TEST_CLUSTER": str(self.d)})
        (self.d / f"pid/{name}").write_text(f"{process.pid} {begun(process.pid)}")
        return process.pid

    def pid(self, name: str) -> int:
        """0 if it does not run."""
        try:
            pid, since = map(int, (self.d / f"pid/{name}").read_text().split())
        except (OSError, ValueError):
            return 0
        return pid if since and begun(pid) == since else 0

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """Ends one program, with SIGKILL if it does not go within 20 s."""
        for number, seconds in ((how, 20), (signal.SIGKILL, 20)):
            deadline = time.monotonic() + seconds
            if pid := self.pid(name):
                os.kill(pid, number)
            while self.pid(name) and time.monotonic() < deadline:
                time.sleep(0.02)
        (self.d / f"pid/{name}").unlink(missing_ok=True)

    def start_scheduler(self, name: str, program: Any, kubeconfig: pathlib.Path, config: str = SCHEDULER, port: int = 10260,
                        environment: Optional[dict[str, str]] = None, gates: Optional[str] = None, options: tuple[str, ...] = ()) -> int:
        """A scheduler of this name; `config` may name {kubeconfig}."""
        file = self.d / f"{name}.yaml"
        file.write_text(config.format(kubeconfig=kubeconfig))
        return self.start(name, program, f"--config={file}", f"--bind-address={self.address}", f"--secure-port={port}",
                          f"--feature-gates={self.gates if gates is None else gates}", *options, environment=environment)

    def log(self, name: str, lines: int = 15) -> str:
        try:
            return "\n".join((self.d / f"log/{name}.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    # --- Users. -----------------------------------------------------------------------------------------------------

    def kubeconfig(self, user: str, group: str = "", path: Optional[pathlib.Path] = None) -> pathlib.Path:
        """A file with which a program is this user: a node, a component or "system:serviceaccount:NAMESPACE:NAME"."""
        path = path or self.d / "pki" / f"{user.replace(':', '-')}.kubeconfig"
        if not path.exists():
            file = self._certificate(user.replace(":", "-"), f"{f'/O={group}' if group else ''}/CN={user}", "extendedKeyUsage=clientAuth")
            path.write_text(KUBECONFIG.format(host=self.address, d=self.d, user=user, file=file))
        return path

    def client(self, user: str = "admin", group: str = "system:masters") -> Client:
        self.kubeconfig(user, group)
        file = self.d / "pki" / user.replace(":", "-")
        return Client(self.address, 6443, self.d / "pki/ca.crt", pathlib.Path(f"{file}.crt"), pathlib.Path(f"{file}.key"))

    @property
    def api(self) -> Client:
        """As the administrator."""
        if not hasattr(self, "_api"):
            self._api = self.client()
        return self._api

    def kubectl(self, *arguments: Any, check: bool = True, given: Optional[str] = None, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([str(self.parts / "bin/kubectl"), *map(str, arguments)], input=given, capture_output=True, text=True,
                              timeout=seconds, check=False, env={**os.environ, "KUBECONFIG": str(self.kubeconfig("admin", "system:masters"))})
        if check and done.returncode != 0:
            raise ClusterFailed(f"kubectl {arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def wait_for(self, seen: Callable[[], Any], what: str, seconds: float = PATIENCE, said: Callable[[], str] = lambda: "") -> Any:
        return wait_for(seen, what, seconds, said)

    # --- What it is made of. ----------------------------------------------------------------------------------------

    def _make_bridge(self) -> None:
        """The first number whose bridge nobody has: to make it is to claim it."""
        for net in range(1, 250):
            done = subprocess.run(["ip", "link", "add", f"thole{net}", "type", "bridge"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                self._at(net)
                (self.d / "net").write_text(str(net))
                subprocess.run(["ip", "addr", "add", f"{self.address}/24", "dev", self.bridge], check=True)
                subprocess.run(["ip", "link", "set", self.bridge, "up"], check=True)
                return
            if "File exists" not in done.stderr:
                raise ClusterFailed(f"no bridge: {done.stderr.strip()}")
        raise ClusterFailed("249 clusters run already")

    def _certificate(self, name: str, subject: str, extension: str) -> pathlib.Path:
        file = self.d / "pki" / name
        d = self.d / "pki"
        with tempfile.NamedTemporaryFile("w", suffix=".ext") as text:
            text.write(extension)
            text.flush()
            for argv in (["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", f"{file}.key"],
                         ["req", "-new", "-key", f"{file}.key", "-subj", subject, "-out", f"{file}.csr"],
                         ["x509", "-req", "-in", f"{file}.csr", "-CA", d / "ca.crt", "-CAkey", d / "ca.key", "-CAcreateserial", "-days",
                          "3650", "-out", f"{file}.crt", "-extfile", text.name]):
                subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)
        return file

    def _make_authority(self) -> None:
        d = self.d / "pki"
        for argv in (["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", d / "ca.key"],
                     ["req", "-x509", "-new", "-key", d / "ca.key", "-subj", "/CN=thole-test", "-days", "3650", "-out", d / "ca.crt"],
                     ["genrsa", "-out", d / "sa.key", "2048"], ["rsa", "-in", d / "sa.key", "-pubout", "-out", d / "sa.pub"]):
            subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)
        self._certificate("apiserver", "/CN=kube-apiserver", "subjectAltName=IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,"
                          f"DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:{self.address}\nextendedKeyUsage=serverAuth")
        self._certificate("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet", "extendedKeyUsage=clientAuth")

    def _start_etcd(self) -> None:
        client, peer = _free_port(), _free_port()
        self.etcd = f"http://127.0.0.1:{client}"
        self.start("etcd", self.parts / "bin/etcd", "--data-dir", self.d / "etcd", "--listen-client-urls", self.etcd, "--advertise-client-urls",
                   self.etcd, "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                   "--initial-cluster", f"default=http://127.0.0.1:{peer}", "--unsafe-no-fsync", "--log-level", "warn",
                   "--quota-backend-bytes", "4294967296")

    def _start_control_plane(self) -> None:
        pki = self.d / "pki"
        (self.d / "audit.yaml").write_text(AUDIT)
        self.start(
            "kube-apiserver", self.parts / "bin/kube-apiserver", f"--etcd-servers={self.etcd}", f"--bind-address={self.address}",
            f"--advertise-address={self.address}", "--secure-port=6443", f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key", f"--client-ca-file={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt", f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--endpoint-reconciler-type=none",
            "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP", "--max-requests-inflight=3000", "--max-mutating-requests-inflight=1000",
            f"--audit-policy-file={self.d}/audit.yaml", f"--audit-log-path={self.d}/log/audit.log",
            "--runtime-config=scheduling.k8s.io/v1alpha2=true", f"--feature-gates={self.gates}")
        self.wait_for(self._is_served, "the API server", said=lambda: self.log("kube-apiserver"))
        self.start(
            "kube-controller-manager", self.parts / "bin/kube-controller-manager",
            f"--kubeconfig={self.kubeconfig('system:kube-controller-manager')}", f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/ca.crt", "--leader-elect=false", f"--bind-address={self.address}", "--secure-port=10257",
            "--kube-api-qps=500", "--kube-api-burst=1000", "--use-service-account-credentials=true", f"--feature-gates={self.gates}",
            "--node-monitor-grace-period=20s", "--node-monitor-period=2s",
            "--controllers=*,-cronjob-controller,-horizontal-pod-autoscaler-controller,-bootstrap-signer-controller,"
            "-token-cleaner-controller,-certificatesigningrequest-signing-controller")
        self.wait_for(lambda: self.api.find("serviceaccounts", "default"), "the controller manager",
                      said=lambda: self.log("kube-controller-manager"))

    def _pause_image(self) -> pathlib.Path:
        """Of the process that holds a pod's namespaces; there is no registry to have it from."""
        image, layer = self.d / "pause.tar", self.d / "pause-layer.tar"
        if not image.exists():
            subprocess.run(["tar", "-C", self.parts / "bin", "-cf", layer, "pause"], check=True, timeout=60)
            subprocess.run([HERE.parents[2] / "adapters/kubernetes/setup/archive.py", "thole.local/pause:1", image, layer,
                            "--entrypoint", "/pause", "--user", "65535:65535"], check=True, timeout=60)
        return image

    def _start_kwok(self) -> None:
        config = self.d / "kwok.yaml"
        config.write_text(KWOK + (self.parts / "share/kwok-stages.yaml").read_text())
        self.start("kwok", self.parts / "bin/kwok", f"--kubeconfig={self.kubeconfig('thole-test-kwok', 'system:masters')}",
                   f"--config={config}", f"--server-address={self.address}:10247")

    def _is_served(self) -> bool:
        if not self.pid("kube-apiserver"):
            raise ClusterFailed(f"the API server has ended\n{self.log('kube-apiserver')}")
        try:
            return self.api.call("GET", "/readyz") == "ok"
        except Exception:  # not yet: refused, reset, or an answer that lists what is not ready
            return False

    def is_ready(self, name: str) -> bool:
        node = self.api.find("nodes", name)
        conditions = (node or {}).get("status", {}).get("conditions", [])
        taints = (node or {}).get("spec", {}).get("taints", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) and not taints


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    sys.exit("cluster.py is used by up and down")
