"""A job's metrics, in Ray's own endpoint under the names of every platform (docs/reference/metrics.md).

Ray puts `ray_` before a name and adds the process that said it (WorkerId). A controller that was started again is another
process, so it tells the whole of every counter anew: the newest series is the largest, and `max without (WorkerId)` is exact.
"""
from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Set, Tuple

_RECOVERY_BOUNDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]
_CHECKPOINT_BOUNDS = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 60, 300]
_TELL_SECONDS = 1.0  # Ray forgets a gauge that nobody tells again

_GAUGES = {
    "thole_job_info": ("A job, and what holds its caps.", ("job", "run", "backend", "simulated")),
    "thole_job_attempt": ("Number of the attempt.", ("job",)),
    "thole_job_step": ("Newest train step that a rank has done.", ("job",)),
    "thole_job_run_seconds": ("Time for which the job has been run.", ("job",)),
    "thole_gang_members": ("Members of the job's gang.", ("job",)),
    "thole_gang_ranks": ("Ranks of the job's gang.", ("job",)),
    "thole_ranks_alive": ("Processes of the job that run now.", ("job",)),
    "thole_checkpoint_step": ("Train step of the newest checkpoint.", ("job",)),
    "thole_device_memory_bytes": ("Memory cap of a member's device.", ("job", "rank", "uuid", "kind", "backend")),
    "thole_device_share_ratio": ("Share of the GPU's compute.", ("job", "rank", "uuid", "kind", "backend")),
}
_COUNTERS = {
    "thole_job_steps_run": ("Train steps run, over all attempts.", ("job",)),
    "thole_checkpoints_committed": ("Checkpoints that all ranks have sealed.", ("job",)),
    "thole_checkpoint_bytes": ("Bytes of the items of committed checkpoints.", ("job",)),
    "thole_incidents": ("Incidents, by what happened to the first rank.", ("job", "kind")),
}
_HISTOGRAMS = {
    "thole_detection_seconds": ("From an incident to its being noticed, where both are known.", _RECOVERY_BOUNDS),
    "thole_checkpoint_seconds": ("Time of the slowest part of a checkpoint.", _CHECKPOINT_BOUNDS),
    "thole_recovery_seconds": ("From an incident's being noticed to the next new train step.", _RECOVERY_BOUNDS),
}


class JobMetrics:
    """Tells what a job's state says, again and again, from a thread of its own."""

    def __init__(self, state: Callable[[], Dict[str, Any]], alive: Callable[[], int]) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        self._state, self._alive = state, alive
        self._gauges = {n: Gauge(n, text, labels) for n, (text, labels) in _GAUGES.items()}
        self._counters = {n: Counter(n, text, labels) for n, (text, labels) in _COUNTERS.items()}
        self._histograms = {n: Histogram(n, text, bounds, ("job",)) for n, (text, bounds) in _HISTOGRAMS.items()}
        self._told: Dict[Tuple[str, ...], float] = {}
        self._observed: Set[Tuple[Any, ...]] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._tell_on, daemon=True).start()

    def stop(self) -> None:
        """After it has told the last."""
        self._over.set()
        self.tell()

    def _tell_on(self) -> None:
        while not self._over.wait(_TELL_SECONDS):
            self.tell()

    def tell(self) -> None:
        now = self._state()
        with self._lock:
            self._tell_totals(now)
            self._tell_times(now)
            if now["running"]:
                self._tell_gauges(now)

    def _tell_totals(self, now: Dict[str, Any]) -> None:
        self._count("thole_job_steps_run", now["steps"]["run"], job=now["job"])
        self._count("thole_checkpoints_committed", now["checkpointsCommitted"], job=now["job"])
        self._count("thole_checkpoint_bytes", now["checkpointBytes"], job=now["job"])
        kinds: List[str] = [i["kind"] for i in now["incidents"]]
        for kind in sorted(set(kinds)):
            self._count("thole_incidents", kinds.count(kind), job=now["job"], kind=kind)

    def _count(self, name: str, total: float, **labels: str) -> None:
        key = (name, *labels.values())
        if total > self._told.get(key, 0):
            self._counters[name].inc(total - self._told.get(key, 0), labels)
            self._told[key] = total

    def _tell_times(self, now: Dict[str, Any]) -> None:
        for c in now["checkpoints"]:
            self._observe("thole_checkpoint_seconds", (c["attempt"], c["step"]), c["seconds"], now["job"])
        for number, i in enumerate(now["incidents"]):
            self._observe("thole_detection_seconds", (number,), i["detectionSeconds"], now["job"])
            self._observe("thole_recovery_seconds", (number,), i["recoverySeconds"], now["job"])

    def _observe(self, name: str, which: Tuple[Any, ...], seconds: Any, job: str) -> None:
        if seconds is not None and (name, *which) not in self._observed:
            self._observed.add((name, *which))
            self._histograms[name].observe(seconds, {"job": job})

    def _tell_gauges(self, now: Dict[str, Any]) -> None:
        job = {"job": now["job"]}
        values = {"thole_job_attempt": now["attempts"], "thole_job_step": now["steps"]["newest"],
                  "thole_job_run_seconds": now["seconds"], "thole_gang_members": len(now["gang"]),
                  "thole_gang_ranks": sum(m["ranks"] for m in now["gang"]), "thole_ranks_alive": self._alive()}
        if now["checkpoints"]:
            values["thole_checkpoint_step"] = now["checkpoints"][-1]["step"]
        for name, value in values.items():
            self._gauges[name].set(value, job)
        self._gauges["thole_job_info"].set(1, {**job, "run": now["run"], "backend": now["backend"],
                                               "simulated": "true" if now["simulated"] else "false"})
        for member in now["gang"]:
            for device in member["devices"]:
                labels = {**job, "rank": str(member["firstRank"]), "uuid": device["uuid"], "kind": device["kind"],
                          "backend": now["backend"]}
                self._gauges["thole_device_memory_bytes"].set(device["memoryMiB"] << 20, labels)
                self._gauges["thole_device_share_ratio"].set(device["shareMilli"] / 1000, labels)
