#!/usr/bin/env python3
"""What thole-scheduler costs and gives on a cluster of simulated nodes (kwok): pods bound a second, beside the same binary without
the plugin and, for gangs, beside the in-tree gang scheduling of kube-scheduler; how long a gang waits; what of the time to place one goes where; memory of the scheduler and of the controller.

Each of the three is a process of its own, and the two that are not measured stand still. Pods are made while the third does as well,
because to make them costs more than to place them; what is timed is from its continuation until an informer
(tests/hosts/kubernetes/module/bound) has seen a node on all of them. Rounds alternate and the median of the pairs counts.
THOLE_NODES says how many nodes (1000), THOLE_PODS how many pods in a round (512), THOLE_ROUNDS how many rounds (5), THOLE_GANGS how
many gangs of 8 are waited for (100; of 64 half as many, of 512 a fifth), THOLE_JOBS how many jobs of 8 members the controller
follows when its memory is read (50).
"""
from __future__ import annotations

import concurrent.futures
import json
import math
import os
import pathlib
import re
import select
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/hosts/kubernetes"))
from cluster import SCHEDULER, Cluster, missing, wait_for  # noqa: E402
from conftest import CONFIG, NO_GATES  # noqa: E402
from pods import add_node, audit, pod  # noqa: E402

NODES, PODS, ROUNDS, GANGS, JOBS = (int(os.environ.get(f"THOLE_{name}", default)) for name, default in (
    ("NODES", 1000), ("PODS", 512), ("ROUNDS", 5), ("GANGS", 100), ("JOBS", 50)))
OPTIONS = ("--authentication-skip-lookup=true", "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics")
OURS, PLAIN, INTREE = "thole-scheduler", "thole-plain", "default-scheduler"
PEERS = {PLAIN: "the same binary in a process without the plugin, which knows no gangs", INTREE: "kube-scheduler with its own gang scheduling"}
PORTS = {OURS: 10260, PLAIN: 10261, INTREE: 10259}
PROCESSES = {OURS: OURS, PLAIN: PLAIN, INTREE: "kube-scheduler"}


def say(**line):
    print(json.dumps(line), flush=True)


def many(what, things):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(what, things))


def begin(cluster, programs):
    config = CONFIG % ("{{leaderElect: false}}", f"{{{{gangTimeoutSeconds: 60, notes: {cluster.d}/notes}}}}")  # as it is installed
    plain = f"- {{{{schedulerName: {PLAIN}}}}}\n"
    bare = config.partition("profiles:\n")[0]
    assert config.endswith(plain) and "Thole" not in bare
    user = cluster.kubeconfig("bench", "system:masters")
    for name, text in ((OURS, config.removesuffix(plain)), (PLAIN, f"{bare}profiles:\n{plain}")):
        cluster.start_scheduler(name, programs / OURS, user, text, PORTS[name], gates=NO_GATES, options=OPTIONS,
                                environment={"THOLE_LIBRARY": os.environ["THOLE_LIBRARY"]})
    cluster.start_scheduler(PROCESSES[INTREE], cluster.parts / "bin/kube-scheduler", user, SCHEDULER, PORTS[INTREE], options=OPTIONS)


def send(cluster, name, number):
    pid = cluster.pid(PROCESSES.get(name, name))
    if not pid:  # 0 would be this process and all of its group
        raise RuntimeError(f"{name} has ended\n{cluster.log(PROCESSES.get(name, name))}")
    os.kill(pid, number)


def proceed(cluster, informer, scheduler, turn):
    """Lets a scheduler go on that stood still: once it has placed a pod that asks for nothing, its view of pods is in step with the cluster."""
    send(cluster, scheduler, signal.SIGCONT)
    cluster.api.create("pods", pod(f"turn{turn}-0", 0, scheduler=scheduler))
    informer.wait(f"turn{turn}", 1, 60)
    clear(cluster)


def is_ready(cluster, scheduler):
    tls = ssl._create_unverified_context()  # its certificate is its own
    try:
        with urllib.request.urlopen(f"https://{cluster.address}:{PORTS[scheduler]}/readyz", context=tls, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


class Informer:
    """Says when pods have been bound."""

    def __init__(self, cluster):
        self.process = subprocess.Popen([cluster.parts / "bin/bound", cluster.kubeconfig("bench", "system:masters")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._expect("ready", 60)

    def wait(self, prefix, count, seconds):
        """Until so many pods PREFIX-NUMBER have a node."""
        self.process.stdin.write(f"{prefix} {count}\n")
        self._expect(f"{prefix} {count}", seconds)

    def _expect(self, line, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"waited {seconds} s for the informer to say: {line}")
        said = self.process.stdout.readline().strip()
        if said != line:
            raise RuntimeError(f"the informer said {said!r}, not {line!r}; its exit code is {self.process.poll()}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def members(scheduler, round_, size):
    """Pods of a round, in gangs of `size`. The in-tree way of a gang is a PodGroup; without any plugin its labels say nothing."""
    out = []
    for n in range(PODS):
        gang = f"g{round_}-{n // size}" if size > 1 else ""
        one = pod(f"p{round_}-{n}", 1024, scheduler=scheduler, gang=gang if scheduler != INTREE else "", size=size if scheduler != INTREE and gang else 0)
        if gang and scheduler == INTREE:
            one["spec"]["schedulingGroup"] = {"podGroupName": gang}
        out.append(one)
    return out


def time_round(cluster, informer, scheduler, round_, size):
    """Pods a second from the scheduler's continuation until all are bound."""
    proceed(cluster, informer, scheduler, round_)
    send(cluster, scheduler, signal.SIGSTOP)
    groups = []
    try:
        if scheduler == INTREE and size > 1:
            groups = [f"g{round_}-{n}" for n in range(PODS // size)]
            many(lambda g: cluster.api.create("podgroups", {"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup", "metadata": {
                "name": g, "namespace": "default"}, "spec": {"schedulingPolicy": {"gang": {"minCount": size}}}}), groups)
        many(lambda p: cluster.api.create("pods", p), members(scheduler, round_, size))
        send(cluster, "kwok", signal.SIGSTOP)  # what it does with bound pods would be measured as well
    finally:
        begun = time.monotonic()
        send(cluster, scheduler, signal.SIGCONT)
    try:
        informer.wait(f"p{round_}", PODS, 240)
        seconds = time.monotonic() - begun
    finally:
        send(cluster, "kwok", signal.SIGCONT)
        send(cluster, scheduler, signal.SIGSTOP)
    if scheduler == OURS:
        audit(cluster)
    clear(cluster)
    for g in groups:
        cluster.api.delete("podgroups", g)
    return PODS / seconds


def clear(cluster):
    cluster.api.delete_all("pods")
    cluster.wait_for(lambda: not cluster.api.list("pods"), "the pods to be gone")


def compare(cluster, informer, size, peers):
    """Pairs of ours and each peer, in an order that turns; `peers` says the figure and the goal of each."""
    schedulers = [OURS, *peers]
    rates = {name: [] for name in schedulers}
    for round_ in range(ROUNDS + 1):  # the first is not counted
        for scheduler in schedulers[round_ % len(schedulers):] + schedulers[:round_ % len(schedulers)]:
            rates[scheduler].append(time_round(cluster, informer, scheduler, f"{size}-{round_}-{scheduler}", size))
    for peer, (figure, goal) in peers.items():
        ratio = statistics.median(a / b for a, b in list(zip(rates[OURS], rates[peer]))[1:])
        say(id=figure, ours=round(statistics.median(rates[OURS][1:]), 1), unit="pods/s", peer=round(statistics.median(rates[peer][1:]), 1), limit=None,
            ratio=round(ratio, 3), goal=goal, note=f"{NODES} simulated nodes, {PODS} pods a round, {ROUNDS} pairs; peer: {PEERS[peer]}")


def latency(cluster, informer, size, times):
    """From the creation of a gang's first pod until its last is bound."""
    found = []
    for n in range(times):
        begun = time.monotonic()
        many(lambda i: cluster.api.create("pods", pod(f"l{size}-{n}-{i}", 1024, gang=f"l{size}-{n}", size=size)), range(size))
        made = time.monotonic()
        informer.wait(f"l{size}-{n}", size, 120)
        found.append((time.monotonic() - begun, time.monotonic() - made))
        clear(cluster)
    creation = [whole - after for whole, after in found]
    for percent in (50, 99):
        whole, made, after = (rank_of(column, percent) for column in ([w for w, _ in found], creation, [a for _, a in found]))
        say(id=f"kubernetes.gang{size}.wait.p{percent}", ours=round(whole, 3), unit="s", peer=None, limit=round(made, 3), ratio=None, goal=None,
            note=f"of {times} gangs, created until all are bound; limit: the time to create its pods; after that {after:.3f}")


def rank_of(values, percent):
    """The nearest rank: of 20 values the 99th percentile is the largest."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def cost():
    """What of the time of placing a gang goes where. The limit is the core's part: the rest is the way to it and back."""
    go = subprocess.run([ROOT / "adapters/kubernetes/setup/go"], check=True, capture_output=True, text=True).stdout.strip()
    done = subprocess.run([go, "test", "-run=^$", "-bench=^BenchmarkGang$", "-benchtime=2s", "./core"], cwd=ROOT / "adapters/kubernetes", check=True,
                          capture_output=True, text=True, env={**os.environ, "GOFLAGS": "-mod=readonly"})
    for size, rest in re.findall(r"^BenchmarkGang/(\d+)\S*\s+(.*)$", done.stdout, re.M):
        part = {name: float(value) for value, name in re.findall(r"(\S+) (\S*us/gang)", rest)}
        whole, core = part["us/gang"], part["core-us/gang"]
        say(id=f"kubernetes.gang{size}.cost", ours=round(whole, 1), unit="us", peer=None, limit=round(core, 1), ratio=round(core / whole, 2), goal=None,
            note=f"plan, reserve and release on 1000 nodes; limit: in the core; crossings {part['cgo-us/gang']:.2f}, marshalling {part['marshalling-us/gang']:.1f}")


def memory(cluster, ours, peer, after):
    mib = [int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{cluster.pid(name)}/status").read_text()).group(1)) / 1024 for name in (ours, peer)]
    say(id=f"kubernetes.memory.{ours}", ours=round(mib[0]), unit="MiB", peer=round(mib[1]), limit=None, ratio=round(mib[0] / mib[1], 2), goal=None,
        note=f"resident, {NODES} nodes, {after}; peer: {peer}")


def begin_controller(cluster, programs):
    """thole-controller with all nodes in a simulated pool, and jobs whose pods kwok lets run: nobody answers for how far they are."""
    cluster.kubectl("apply", "--server-side", "-f", ROOT / "adapters/kubernetes/deploy/crds.yaml")
    cluster.kubectl("wait", "--for=condition=Established", "crd/trainingjobs.thole.dev", "crd/nodepools.thole.dev")
    cluster.start("thole-controller", programs / "thole-controller", "--rank-image=none", "--default-image=none", "--leader-elect=false",
                  environment={"THOLE_LIBRARY": os.environ["THOLE_LIBRARY"], "KUBECONFIG": str(cluster.kubeconfig("bench", "system:masters"))})
    cluster.api.create("nodepools", {"apiVersion": "thole.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": "bench"}, "spec": {
        "simulated": True, "gpus": {"count": 1, "memory": "96Gi"}, "vgpu": {"memory": "10Gi", "count": 8}}})
    many(lambda n: cluster.api.patch("nodes", f"n{n}", {"metadata": {"labels": {"thole.dev/pool": "bench"}}}), range(NODES))
    cluster.wait_for(lambda: cluster.api.get("nodepools", "bench").get("status", {}).get("gpus") == NODES, "the pool to have its nodes' GPUs",
                     said=lambda: str(cluster.api.get("nodepools", "bench").get("status")) + cluster.log("thole-controller"))
    many(lambda n: cluster.api.create("trainingjobs", {"apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": f"j{n}", "namespace": "default"}, "spec": {
        "roles": [{"name": "r", "members": 8, "vgpu": {"memory": "1Gi"}, "cpu": "10m", "memory": "32Mi", "command": ["true"]}]}}), range(JOBS))
    wait_for(lambda: sum(j.get("status", {}).get("phase") == "Running" for j in cluster.api.list("trainingjobs")) == JOBS, f"{JOBS} jobs to run", 300,
             said=lambda: str({j.get("status", {}).get("phase") for j in cluster.api.list("trainingjobs")}) + cluster.log("thole-controller"), every=0.5)


def main():
    if reason := missing():
        sys.exit(f"kubernetes: {reason}")
    folder = tempfile.mkdtemp(prefix="thole-k8s.", dir="/tmp")
    programs = pathlib.Path(tempfile.mkdtemp(prefix="thole-programs.", dir="/tmp"))
    subprocess.run([ROOT / "adapters/kubernetes/setup/build", programs], check=True)
    cluster = Cluster(folder)
    try:
        cluster.up(scheduler=False)
        many(lambda n: add_node(cluster, f"n{n}", mib=8192), range(NODES))
        begin(cluster, programs)
        for scheduler in PROCESSES:
            cluster.wait_for(lambda: is_ready(cluster, scheduler), f"{scheduler} to be ready", said=lambda: cluster.log(PROCESSES[scheduler]))
            send(cluster, scheduler, signal.SIGSTOP)
        informer = Informer(cluster)
        try:
            compare(cluster, informer, 1, {PLAIN: ("kubernetes.single", "ratio >= 0.95")})
            for size in (8, 64):
                compare(cluster, informer, size, {INTREE: (f"kubernetes.gang{size}", "ratio >= 1"), PLAIN: (f"kubernetes.gang{size}.off", None)})
            proceed(cluster, informer, OURS, "latency")
            for size, times in ((8, GANGS), (64, max(1, GANGS // 2)), (512, max(1, GANGS // 5))):
                latency(cluster, informer, size, times)
        finally:
            informer.stop()
        cost()
        memory(cluster, OURS, "kube-scheduler", "after all of the above")
        begin_controller(cluster, programs)
        memory(cluster, "thole-controller", "kube-controller-manager", f"{JOBS} jobs of 8 members that run")
    finally:
        cluster.down()
        subprocess.run(["rm", "-rf", programs], check=False)


if __name__ == "__main__":
    main()
