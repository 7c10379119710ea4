"""A job's controller: a detached actor that places the gang, starts an actor for each member, watches, and recovers.

Recovery is the core's decision (recovery service); Ray tells what died. The attempt number is written down before an
attempt's members start, so a controller that is restarted fences what the old one left.
"""
from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Dict, List, Tuple

from thole import _abi, _native
from thole.errors import TholeError

from . import gangs, state
from .attempt import EXIT_STOPPED, Attempt
from .history import Incident, decide

_LOG_BYTES = 16 << 20


class Controller:
    """The actor `thole-job-NAME`. `run` is called once; status, heard and cancel come beside it."""

    def __init__(self, job: str, bindings: Dict[str, Any], folder: str) -> None:
        import json

        self._job, self._bindings, self._folder = job, bindings, Path(folder)
        document = json.loads(job)
        self._name, self._spec = document["metadata"]["name"], document["spec"]
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._over = threading.Event()
        self._logs: Dict[Tuple[int, int], Any] = {}
        self._members: List[Any] = []
        self._seen: List[Dict[str, Any]] = []
        known = state.read_json(self._folder / "state.json")
        self._state: Dict[str, Any] = known if known and bindings.get("resume") else {
            "job": self._name, "platform": "ray", "run": str(uuid.uuid4()), "phase": "planned", "running": True, "reason": "",
            "message": "", "exitCode": 0, "simulated": False, "backend": "", "attempts": 0, "started": time.time(),
            "seconds": 0.0, "steps": {"newest": 0, "run": 0}, "gang": [], "checkpointsCommitted": 0, "checkpoints": [],
            "incidents": [], "result": {}, "folder": folder, "store": "", "key": ""}
        # From here on a restarted actor goes on with what is on disk.
        self._bindings["resume"] = True
        self._save()

    # --- What others ask. ---------------------------------------------------------------------------------------------

    def status(self) -> Dict[str, Any]:
        with self._lock:
            return dict(self._state)

    def cancel(self) -> None:
        self._cancel.set()

    def wait(self, seconds: float) -> Dict[str, Any]:
        self._over.wait(seconds)
        return self.status()

    def where(self) -> List[Dict[str, Any]]:
        """Pids and nodes of the members' actors: for tests that kill one, and for people."""
        with self._lock:
            return [dict(m) for m in self._members]

    def heard(self, index: int, attempt: int, messages: List[Dict[str, Any]]) -> None:
        with self._lock:
            if attempt != self._state["attempts"]:
                return  # of an attempt that is over: it is fenced
            for message in messages:
                self._hear(index, attempt, message)

    # --- The life of the job. -----------------------------------------------------------------------------------------

    def run(self) -> Dict[str, Any]:
        try:
            self._bind()
            while not self._attempt():
                pass
        except TholeError as error:
            self._end("failed", error.reason, error.message, _exit_code(error.code))
        except Exception as error:  # noqa: BLE001: a defect must end the job with its name, not leave it running
            self._end("failed", "Defect", f"{type(error).__name__}: {error}", 70)
        self._over.set()
        return self.status()

    def run_and_leave(self) -> None:
        """As `run`; then the actor ends, and what is left of the job is in its folder."""
        import ray

        self.run()
        time.sleep(0.5)  # who waits for it hears of it
        ray.actor.exit_actor()

    def _attempt(self) -> bool:
        """One life of the job. True when the job has ended."""
        with self._lock:
            self._state["attempts"] += 1
            self._state["phase"] = "planned"
            attempt = self._state["attempts"]
        self._save()
        until = self._bindings.get("wait", 0.0) if attempt == 1 else max(60.0, self._bindings.get("wait", 0.0))
        with gangs.place(self._job, until, attempt, tell=self._waits) as gang:
            self._note_gang(gang)
            outcome = Attempt(self, gang, attempt).run()
        if outcome["how"] == "done":
            return self._end("done", "", "", 0)
        if outcome["how"] == "stopped":
            return self._end("stopped", "", "stopped on request", EXIT_STOPPED)
        if outcome["how"] == "time":
            return self._end("failed", "", "timeLimit has passed", 124)
        return self._decide(outcome["incident"], attempt)

    def _decide(self, incident: Incident, attempt: int) -> bool:
        with self._lock:
            incident.safe_step = max([c["step"] for c in self._state["checkpoints"]], default=0)
            entry = {"kind": incident.kind, "rank": incident.rank, "code": incident.code, "attempt": attempt,
                     "step": self._state["steps"]["newest"], "safeStep": incident.safe_step, "message": incident.message,
                     "cause": incident.cause, "noticed": time.time(), "detectionSeconds": None, "recoverySeconds": None,
                     "restoredStep": None, "decision": "", "node": incident.node}
            self._state["incidents"].append(entry)
            history = [Incident.from_json(i) for i in self._state["incidents"]]
        decision = decide(history, self._spec["recovery"])
        with self._lock:
            entry["decision"] = decision.reason
            self._state["phase"] = "recovering"
        self._save()
        if not decision.restart:
            return self._end("failed", decision.reason, f"{incident.message}; {decision.message}", incident.exit_code())
        self._say(f"rank {incident.rank} {incident.message} in attempt {attempt}: starting again from step {incident.safe_step}")
        return self._cancel.wait(decision.delay) and self._end("stopped", "", "stopped on request", EXIT_STOPPED)

    def _end(self, phase: str, reason: str, message: str, code: int) -> bool:
        with self._lock:
            self._state.update(phase=phase, reason=reason, message=message, exitCode=code, running=False,
                               seconds=time.time() - self._state["started"])
            self._members = []
            for file in self._logs.values():
                file.close()
            self._logs = {}
        self._save()
        return True

    def _waits(self, message: str) -> None:
        with self._lock:
            self._state["message"] = f"waits: {message}"
        self._save()

    # --- What it writes down. -----------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Names of stores and keys become paths; a key itself is never read here."""
        checkpoint = self._spec.get("checkpoint")
        if not checkpoint:
            return
        base = self._folder.parent.parent
        store = self._bindings["stores"].get(checkpoint["store"]) or str(base / "stores" / checkpoint["store"])
        key = self._bindings["keys"].get(checkpoint["key"])
        if key is None:
            key = str(base / "keys" / f"{checkpoint['key']}.key")
            if not os.path.exists(key):
                Path(key).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                core = _native.core()
                _native.check(core.root.core.contents.key_new, core.handle, _native.text(key))
                self._say(f"made the key {key}: whoever loses it loses the checkpoints")
        with self._lock:
            self._state["store"] = os.path.join(store, f"{self._name}-{self._state['run']}")
            self._state["key"] = key

    def environment(self) -> Dict[str, str]:
        """What all ranks are told of the job's store."""
        out = {"THOLE_JOB": self._name, "THOLE_RUN": self._state["run"]}
        if self._state["store"]:
            out.update(THOLE_STORE=self._state["store"], THOLE_KEY=self._state["key"],
                       THOLE_CHECKPOINT_INTERVAL=str(self._spec["checkpoint"]["interval"]))
        return out

    def _note_gang(self, gang: gangs.Gang) -> None:
        kinds = {_abi.THOLE_KIND_WHOLE: "whole", _abi.THOLE_KIND_VGPU: "vgpu", _abi.THOLE_KIND_MIG: "mig"}
        members = []
        for i, p in enumerate(gang.placements):
            devices = [{"uuid": g.uuid, "kind": kinds.get(g.kind, "none"), "memoryMiB": g.memory_mib,
                        "shareMilli": g.share_milli, "migProfile": "",
                        "simulated": bool(g.flags & _abi.THOLE_GPU_SIMULATED)} for g in p.grants]
            members.append({"role": gang.roles[p.role], "member": p.member, "firstRank": p.first_rank, "ranks": p.ranks,
                            "node": gang.node_name(i), "devices": devices})
        simulated = any(d["simulated"] for m in members for d in m["devices"])
        whole = all(d["kind"] == "whole" for m in members for d in m["devices"])
        with self._lock:
            self._state.update(gang=members, simulated=simulated, phase="running", message="",
                               backend="none (simulated)" if simulated else "exclusive" if whole else "none")
        self._save()

    def _hear(self, index: int, attempt: int, message: Dict[str, Any]) -> None:
        """One thing that a rank said. [with the lock]"""
        self._seen.append({"index": index, **message})
        rank = message.get("rank", self._state["gang"][index]["firstRank"] if self._state["gang"] else index)
        if "line" in message:
            self._log(attempt, rank, message["line"])
        elif "step" in message and isinstance(message["step"], int):
            steps = self._state["steps"]
            newest = self._attempt_step = max(getattr(self, "_attempt_step", 0), message["step"])
            if self._state["incidents"] and self._state["incidents"][-1]["recoverySeconds"] is None and attempt > 1:
                last = self._state["incidents"][-1]
                last["recoverySeconds"] = round(message["at"] - last["noticed"], 3)
                last["restoredStep"] = getattr(self, "_restored", 0)
            steps["run"] += max(0, message["step"] - getattr(self, "_counted", 0))
            self._counted = max(getattr(self, "_counted", 0), message["step"])
            steps["newest"] = max(steps["newest"], newest)
        elif "restored" in message:
            self._restored = self._counted = int(message["restored"].get("step", 0))
        elif "checkpoint" in message and message["checkpoint"].get("committed"):
            c = message["checkpoint"]
            if all(k["step"] != c["step"] or k["attempt"] != attempt for k in self._state["checkpoints"]):
                self._state["checkpointsCommitted"] += 1
                self._state["checkpoints"] = (self._state["checkpoints"] + [
                    {"step": c["step"], "attempt": attempt, "parts": len(self._state["gang"]), "committed": True,
                     "seconds": c.get("seconds")}])[-64:]
        elif "result" in message:
            for name, value in message["result"].items():
                self._state["result"].setdefault(name, value)

    def _log(self, attempt: int, rank: int, line: str) -> None:
        key = (attempt, rank)
        if key not in self._logs:
            path = self._folder / "attempts" / str(attempt) / f"rank-{rank}.log"
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._logs[key] = open(path, "a", encoding="utf-8")
        file = self._logs[key]
        if file.tell() < _LOG_BYTES:
            file.write(line + "\n")
            file.flush()

    def _say(self, line: str) -> None:
        with open(self._folder / "controller.log", "a", encoding="utf-8") as file:
            file.write(f"thole: {line}\n")

    def _save(self) -> None:
        with self._lock:
            self._state["seconds"] = time.time() - self._state["started"]
            state.write_json(self._folder / "state.json", self._state)


def _exit_code(code: str) -> int:
    return {"THOLE_INVALID": 65, "THOLE_NOT_FOUND": 66, "THOLE_NO_FIT": 69, "THOLE_EXHAUSTED": 69, "THOLE_UNAVAILABLE": 69,
            "THOLE_EXISTS": 69, "THOLE_TIMEOUT": 69, "THOLE_CONFLICT": 69, "THOLE_DATA_LOSS": 74,
            "THOLE_DENIED": 77, "THOLE_REFUSED": 77}.get(code, 70)
