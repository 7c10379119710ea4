"""A cluster with real nodes on which Thole is installed as its manifests have it, and jobs on it."""
from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any, Optional

from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[3]
ADAPTER = ROOT / "adapters/kubernetes"
DIGITS = ROOT / "samples/digits"
STORE = """\
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {namespace}-checkpoints}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  storageClassName: ""
  claimRef: {{name: checkpoints, namespace: {namespace}}}
  hostPath: {{path: {folder}, type: Directory}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: checkpoints, namespace: {namespace}}}
spec: {{accessModes: [ReadWriteMany], storageClassName: "", volumeName: {namespace}-checkpoints, resources: {{requests: {{storage: 1Gi}}}}}}
"""


def images(programs: pathlib.Path) -> list[pathlib.Path]:
    """Archives of thole.local/thole and thole.local/digits."""
    out = [programs / "thole.tar", programs / "digits.tar"]
    subprocess.run([ADAPTER / "setup/image", "thole", programs, out[0]], check=True, stdout=subprocess.DEVNULL, timeout=1800)
    subprocess.run([ADAPTER / "setup/image", "digits", out[1]], check=True, stdout=subprocess.DEVNULL, timeout=1800)
    return out


def install(cluster: Cluster, archives: list[pathlib.Path]) -> None:
    """What docs/guide/kubernetes.md says, on every real node."""
    for node in cluster.nodes:
        for archive in archives:
            node.load(archive)
    cluster.kubectl("apply", "-k", ADAPTER / "deploy")
    keep_journals(cluster)
    cluster.wait_for(lambda: all(is_available(cluster, name) for name in ("thole-scheduler", "thole-controller")), "Thole to be available",
                     said=lambda: describe(cluster, "thole-system"))
    cluster.kubectl("apply", "-f", DIGITS / "pool.yaml")
    for node in cluster.nodes:
        cluster.kubectl("label", "node", node.name, "thole.dev/pool=desk")
    cluster.wait_for(lambda: all(capacity(cluster, node.name) for node in cluster.nodes), "the nodes to have vGPUs")


def keep_journals(cluster: Cluster) -> None:
    """The schedulers write their ledgers down, as docs/reference/kubernetes.md says."""
    settings = cluster.api.get("configmaps", "thole-scheduler", "thole-system")
    notes = "notes: /var/lib/thole\n"
    config = settings["data"]["config.yaml"]
    assert config.count(notes) == 1, config
    line = next(line for line in config.splitlines() if notes.strip() in line)
    settings["data"]["config.yaml"] = config.replace(line + "\n", f"{line}\n{line.replace(notes.strip(), 'journal: /var/lib/thole/journal')}\n")
    cluster.kubectl("apply", "-f", "-", given=json.dumps(settings))
    cluster.kubectl("rollout", "restart", "deployment/thole-scheduler", "-n", "thole-system")
    cluster.kubectl("rollout", "status", "deployment/thole-scheduler", "-n", "thole-system", "--timeout=120s", seconds=130)


def leader(cluster: Cluster, program: str = "thole-scheduler") -> tuple[str, str]:
    """The pod that has the lease of a program, and since when."""
    lease = cluster.api.get("leases", program, "thole-system")["spec"]
    return lease["holderIdentity"].rsplit("_", 1)[0], lease["acquireTime"]


def journal_of(cluster: Cluster, pod: str, folder: pathlib.Path) -> pathlib.Path:
    """What a scheduler has written of its ledger so far, copied out of its pod into a folder."""
    cluster.kubectl("cp", f"thole-system/{pod}:/var/lib/thole/journal", folder)
    return max(folder.glob("run-*"))


def is_available(cluster: Cluster, name: str) -> bool:
    found = cluster.api.find("deployments", name, "thole-system") or {}
    return found.get("status", {}).get("availableReplicas", 0) > 0


def capacity(cluster: Cluster, node: str) -> int:
    return int(cluster.api.get("nodes", node)["status"]["capacity"].get("thole.dev/vgpu-memory-mib", 0))


def describe(cluster: Cluster, namespace: str) -> str:
    return cluster.kubectl("describe", "pods", "-n", namespace, check=False).stdout[-6000:]


def make_store(cluster: Cluster, namespace: str, command: str) -> pathlib.Path:
    """A folder for checkpoints as a volume, and a key as a Secret, in a namespace of its own; answers the key's file."""
    folder = cluster.d / f"store-{namespace}"
    folder.mkdir()
    os.chown(folder, 1000, 1000)
    if not cluster.api.find("namespaces", namespace):
        cluster.kubectl("create", "namespace", namespace)
        cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("apply", "-f", "-", given=STORE.format(namespace=namespace, folder=folder))
    key = cluster.d / f"{namespace}.key"
    subprocess.run([command, "key", "new", "--file", key], check=True, stdout=subprocess.DEVNULL, timeout=60)
    cluster.kubectl("create", "secret", "generic", "digits", "-n", namespace, f"--from-file=key={key}")
    return key


def job(cluster: Cluster, namespace: str, name: str = "digits") -> dict[str, Any]:
    return cluster.api.get("trainingjobs", name, namespace)


def status(cluster: Cluster, namespace: str, name: str = "digits") -> dict[str, Any]:
    found: dict[str, Any] = job(cluster, namespace, name).get("status", {})
    return found


def wait_for_phase(cluster: Cluster, namespace: str, *phases: str, name: str = "digits", seconds: float = 240) -> dict[str, Any]:
    def seen() -> Optional[dict[str, Any]]:
        now = status(cluster, namespace, name)
        assert now.get("phase") not in {"Failed", "Refused", "Stopped", "Complete"} - set(phases), json.dumps(now, indent=1)
        return now if now.get("phase") in phases else None

    return cluster.wait_for(seen, f"{name} to be {' or '.join(phases)}", seconds=seconds,
                            said=lambda: json.dumps(status(cluster, namespace, name), indent=1) + describe(cluster, namespace))


def members(cluster: Cluster, namespace: str, attempt: int, name: str = "digits") -> list[dict[str, Any]]:
    return sorted(cluster.api.list("pods", namespace, labelSelector=f"thole.dev/job={name},thole.dev/attempt={attempt}"),
                  key=lambda p: int(p["metadata"]["labels"]["thole.dev/member"]))


def processes(word: str, **variables: str) -> list[int]:
    """Pids, as seen from outside, whose command line has the word and whose environment has the variables."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word.encode() not in (entry / "cmdline").read_bytes():
                    continue
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if all(f"{name}={value}".encode() in environment for name, value in variables.items()):
                found.append(int(entry.name))
    return found


def rank_pid(cluster: Cluster, namespace: str, rank: int) -> int:
    """Of the training process itself, in its container."""
    run = job(cluster, namespace)["metadata"]["uid"]

    def seen() -> Optional[int]:
        found = [p for p in processes("train.py", THOLE_RUN=run, RANK=str(rank))
                 if not pathlib.Path(f"/proc/{p}/cmdline").read_bytes().startswith(b"/thole/bin/")]
        return found[0] if found else None

    pid: int = cluster.wait_for(seen, f"rank {rank} to run")
    return pid


def first_process(cluster: Cluster, namespace: str, rank: int) -> int:
    """Of a rank's container: all that runs in it ends with it."""
    [pid] = [p for p in processes("thole-rank", RANK=str(rank), THOLE_RUN=job(cluster, namespace)["metadata"]["uid"])
             if pathlib.Path(f"/proc/{p}/cmdline").read_bytes().startswith(b"/thole/bin/")]
    return pid


def wait_for_checkpoint(cluster: Cluster, namespace: str, step: int) -> int:
    """Until the store has a checkpoint of that step or a newer one."""
    store = cluster.d / f"store-{namespace}"

    def seen() -> Optional[int]:
        steps = [int(p.name.split("-")[1]) for p in store.glob("*/*/step-*")]
        return max(steps) if steps and max(steps) >= step else None

    found: int = cluster.wait_for(seen, f"a checkpoint of step {step}", seconds=180, said=lambda: describe(cluster, namespace))
    return found


def inside(pid: int, path: str) -> pathlib.Path:
    """A file as a process sees it in its container."""
    return pathlib.Path("/proc", str(pid), "root", path)
