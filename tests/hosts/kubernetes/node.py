"""A real node: containerd, runc and a kubelet in namespaces of their own, with an address on the cluster's bridge.

It has its own processes, mounts, network, host name and cgroups, all below those of whoever starts it, so that a node ends by
killing the first process of its pid namespace: no mount, container, network or cgroup is left.
"""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time

# What runs before containerd and kubelet, as the first process of the namespaces.
INIT = """\
set -e
mount --make-rprivate /
mount -t proc proc /proc
hostname {name}
mount -t overlay overlay -o lowerdir=/var,upperdir={d}/var,workdir={d}/var-work /var
mount -t tmpfs tmpfs /run
mount --bind {d}/hosts /etc/hosts
umount -R /sys/fs/cgroup
{cgroups}
mount -t sysfs sysfs /sys -o remount || true
ip link set lo up
for _ in $(seq 600); do [ -e /sys/class/net/eth0 ] || ip link show eth0 >/dev/null 2>&1 && break; sleep 0.05; done
ip link set eth0 up
ip addr add {address}/24 dev eth0
ip route add default via {gateway}
{routes}
echo 1 > /proc/sys/net/ipv4/ip_forward
export PATH={node}/usr/sbin:{node}/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
: > {d}/ready
set +e
daemon() {{ # a daemon that is killed comes back, unless its folder has a file that says it must not
  while :; do [ -e {d}/$1.stopped ] || "${{@:2}}" >> {d}/$1.log 2>&1; sleep 0.5; done
}}
# The one service that pods need is the API server's.
ip addr add 10.96.0.1/32 dev lo
daemon forward {here}/forward 10.96.0.1:443 {gateway}:6443 &
daemon containerd {node}/usr/bin/containerd -c {d}/containerd.toml &
until [ -S {d}/containerd.sock ]; do sleep 0.05; done
daemon kubelet {bin}/kubelet --config={d}/kubelet.yaml --kubeconfig={d}/kubeconfig --hostname-override={name} --node-ip={address} \\
  --root-dir={d}/kubelet --cert-dir={d}/pki --node-labels={labels} --v=2 &
exec -a thole-test-node /bin/bash -c 'while :; do wait -n || sleep 1; done' {d}
"""
CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd-state"
[grpc]
  address = "{d}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "thole.local/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{node}/usr/lib/cni"
    conf_dir = "{d}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{node}/usr/sbin/runc"
        SystemdCgroup = false
"""
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
localStorageCapacityIsolation: false
failSwapOn: false
makeIPTablesUtilChains: false
containerRuntimeEndpoint: unix://{d}/containerd.sock
address: {address}
port: 10250
readOnlyPort: 0
healthzBindAddress: {address}
healthzPort: 10248
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {authority}}}}}
authorization: {{mode: Webhook}}
resolvConf: ""
evictionHard: {{memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 2s
syncFrequency: 5s
volumeStatsAggPeriod: -1s
# Nodes of one machine: what each has is not what all of them have together.
systemReserved: {{}}
podLogsDir: {d}/pods
volumePluginDir: {d}/volume-plugins
"""
CNI = """\
{{"cniVersion": "0.4.0", "name": "pods", "plugins": [{{"type": "ptp", "ipMasq": false,
  "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}], "dataDir": "{d}/ipam"}}}}]}}
"""


class Node:
    """One node in the folder d. `number` chooses its addresses: 10.201.N.(10 + number), pods in 10.(210 + number).N.0/24."""

    def __init__(self, cluster, number: int):
        self.cluster, self.number = cluster, number
        self.name = f"real-{number}"
        self.d = cluster.d / self.name
        self.address = f"10.201.{cluster.net}.{10 + number}"
        self.pods = f"10.{210 + number}.{cluster.net}.0/24"
        self.link = f"thole{cluster.net}n{number}"

    def start(self, others: list["Node"], labels: str = "type=real") -> None:
        """Again, where it has been stopped. What has just been killed may hold on to its file system for a moment: then once more."""
        for last in (False, False, True):
            try:
                return self._start(others, labels)
            except (subprocess.CalledProcessError, OSError):
                print(f"{self.name} did not start:\n{self.said()}", flush=True)
                self.stop()
                if last:
                    raise
                time.sleep(2)

    def _start(self, others: list["Node"], labels: str) -> None:
        d, root = self.d, self.cluster.parts
        for name in ("var", "var-work", "cni", "ipam", "pods", "pki", "kubelet", "volume-plugins"):
            (d / name).mkdir(parents=True, exist_ok=True)
        (d / "ready").unlink(missing_ok=True)
        self._make_cgroups()
        routes = "\n".join(f"ip route add {other.pods} via {other.address}" for other in others if other is not self)
        words = {"d": d, "name": self.name, "address": self.address, "gateway": self.cluster.address, "routes": routes,
                 "here": pathlib.Path(__file__).resolve().parent,
                 "node": root / "node", "bin": root / "bin", "labels": labels, "root": d / "containerd", "pods": self.pods,
                 "authority": self.cluster.d / "pki/ca.crt", "cgroups": self._mounts_of_cgroups()}
        (d / "containerd.toml").write_text(CONTAINERD.format(**words))
        (d / "kubelet.yaml").write_text(KUBELET.format(**words))
        (d / "cni/10-pods.conflist").write_text(CNI.format(**words))
        (d / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        self.cluster.kubeconfig(f"system:node:{self.name}", "system:nodes", path=d / "kubeconfig")
        enter = "".join(f"echo $$ > {folder}/cgroup.procs; " for folder in self._cgroups())
        script = f"{enter}exec unshare -C -m -p -n -u -i -f --kill-child=KILL /bin/bash -c \"$1\""
        with open(d / "init.log", "w", encoding="utf-8") as log:
            holder = subprocess.Popen(["/bin/bash", "-c", script, "thole-test-node", INIT.format(**words)], stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log, start_new_session=True, cwd="/")
        (d / "holder.pid").write_text(str(holder.pid))
        children = pathlib.Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        self.cluster.wait_for(lambda: self._first(children), f"the namespaces of {self.name}", said=self.said)
        init = children.read_text().split()[0]
        (d / "init.pid").write_text(init)
        peer = f"{self.link}p"
        self.cluster.wait_for(lambda: os.readlink(f"/proc/{init}/ns/net") != os.readlink("/proc/self/ns/net"), "its network")
        for argv in (["link", "add", self.link, "type", "veth", "peer", "name", peer], ["link", "set", self.link, "master", self.cluster.bridge, "up"],
                     ["link", "set", peer, "netns", init, "name", "eth0"]):
            subprocess.run(["ip", *argv], check=True)
        subprocess.run(["ip", "route", "replace", self.pods, "via", self.address], check=True)
        self.cluster.wait_for((d / "ready").exists, f"{self.name} to be set up", said=self.said)

    @staticmethod
    def _first(children: pathlib.Path) -> bool:
        try:
            return bool(children.read_text().split())
        except OSError:
            return False

    def ctr(self, *arguments: str) -> str:
        """ctr of containerd, which has a socket in the folder."""
        done = subprocess.run([self.cluster.parts / "node/usr/bin/ctr", "-a", self.d / "containerd.sock", "-n", "k8s.io", *arguments],
                              capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"ctr {arguments}: {done.stderr}")
        return done.stdout

    def load(self, image: pathlib.Path) -> None:
        """Puts an image there: the archive is one that adapters/kubernetes/setup/image has made."""
        self.cluster.wait_for(lambda: (self.d / "containerd.sock").exists(), "containerd", said=self.said)
        self.enter(str(self.cluster.parts / "node/usr/bin/ctr"), "-a", str(self.d / "containerd.sock"), "-n", "k8s.io", "images",
                   "import", "--no-unpack=false", str(image), seconds=600)

    def enter(self, *argv: str, seconds: float = 60) -> str:
        """Runs a command inside."""
        init = (self.d / "init.pid").read_text()
        done = subprocess.run(["nsenter", "-t", init, "-m", "-p", "-n", "-u", "-i", "-C", *argv], capture_output=True, text=True,
                              timeout=seconds, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{argv}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def daemon_pid(self, name: str) -> int:
        """The pid, as seen from outside, of kubelet or containerd."""
        init = int((self.d / "init.pid").read_text())
        space = os.readlink(f"/proc/{init}/ns/pid")
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == space and (entry / "comm").read_text().strip() == name:
                    return int(entry.name)
            except OSError:
                continue
        return 0

    def said(self) -> str:
        text = ""
        for name in ("init", "containerd", "kubelet"):
            try:
                text += f"{name}: " + "\n".join((self.d / f"{name}.log").read_text(errors="replace").splitlines()[-8:]) + "\n"
            except OSError:
                continue
        return text

    def stop(self) -> None:
        """Ends it; nothing of it is left but its folder."""
        for name in ("init.pid", "holder.pid"):
            try:
                pid = int((self.d / name).read_text())
                if str(self.d).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    self.cluster.wait_for(lambda: not begun(pid), f"{name} of {self.name} to end")
            except (OSError, ValueError):
                continue
        subprocess.run(["ip", "link", "del", self.link], stderr=subprocess.DEVNULL, check=False)
        deadline = time.monotonic() + 30
        for folder in self._cgroups():
            while folder.exists():
                _remove_cgroups(folder)
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)

    # --- Cgroups: one of its own in each hierarchy, below that of the caller. ----------------------------------------

    def _cgroups(self) -> list[pathlib.Path]:
        return [place / f"thole-test-{self.cluster.net}-{self.number}" for _, place in _hierarchies()]

    def _make_cgroups(self) -> None:
        for folder in self._cgroups():
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # of version 1: a new one has none, and then no process
                if (folder / name).exists() and not (folder / name).read_text().strip():
                    (folder / name).write_text((folder.parent / name).read_text())

    def _mounts_of_cgroups(self) -> str:
        lines = ["mount -t tmpfs tmpfs /sys/fs/cgroup"]
        for options, _ in _hierarchies():
            if not options:  # version 2: its root may hold no process once controllers are handed down
                return "mount -t cgroup2 cgroup2 /sys/fs/cgroup; mkdir /sys/fs/cgroup/init; echo 1 > /sys/fs/cgroup/init/cgroup.procs; " \
                    "echo $(sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers) > /sys/fs/cgroup/cgroup.subtree_control"
            name = options.split("=")[-1]
            lines.append(f"mkdir /sys/fs/cgroup/{name}; mount -t cgroup -o {'none,' if '=' in options else ''}{options} cgroup /sys/fs/cgroup/{name}")
        return "\n".join(lines)


def _hierarchies() -> list[tuple[str, pathlib.Path]]:
    """(mount options, folder of this process' cgroup) of each hierarchy; the options of version 2 are empty."""
    found = []
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if number == "0":
            continue
        for mount in mounts:
            if mount[2] == "cgroup" and set(names.split(",")) <= set(mount[3].split(",")):
                found.append((names, pathlib.Path(mount[1] + path)))
                break
    return found or [("", pathlib.Path("/sys/fs/cgroup" + pathlib.Path("/proc/self/cgroup").read_text().split(":", 2)[2].strip()))]


def _remove_cgroups(folder: pathlib.Path) -> None:
    for parent, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(parent)
        except OSError:
            continue  # something in it is still ending


def begun(pid: int) -> int:
    """When the process began, in ticks of the machine; 0 if it is gone. Two processes with one pid differ in it."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
