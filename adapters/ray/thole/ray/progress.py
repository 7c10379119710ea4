"""Everything that is remembered of a job: what its ranks have said, what was decided, and where its members are.

The file is what `status --json` prints. It is also what a controller that Ray has started again goes on from, so what the
next attempt depends on is on disk before anything follows from it.
"""
from __future__ import annotations

import copy
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Dict, List, Set, TextIO

from thole import _abi
from thole.errors import TholeError

from . import gangs, state
from .history import Incident

_LOG_BYTES = 16 << 20
_OPEN_LOGS = 64  # of the ranks that wrote last: a process may have 1,024 files open
_SAVE_SECONDS = 1.0  # of what only people wait for, and of each part of a checkpoint: a job of 1,000 ranks has 1,000 of them
_GETS_ON = ("step", "sealing", "checkpoint", "restored", "result")
_SAVES = 64  # checkpoints that are listed
_KINDS = {_abi.THOLE_KIND_WHOLE: "whole", _abi.THOLE_KIND_VGPU: "vgpu", _abi.THOLE_KIND_MIG: "mig"}


def at_first(name: str, folder: Path) -> Dict[str, Any]:
    """The state of a job that nothing has happened to."""
    return {
        "job": name, "platform": "ray", "run": str(uuid.uuid4()), "phase": "planned", "running": True, "reason": "", "message": "",
        "exitCode": 0, "simulated": False, "backend": "", "attempts": 0, "started": time.time(), "seconds": 0.0,
        "steps": {"newest": 0, "run": 0}, "gang": [], "checkpointsCommitted": 0, "checkpointBytes": 0, "checkpoints": [],
        "incidents": [], "result": {}, "folder": str(folder), "store": "", "key": "", "placementGroup": "", "cancelled": False}


def leave_open(now: Dict[str, Any]) -> None:
    """What is not recovered from when somebody resumes the job stays so: the time until then says nothing of a recovery."""
    for incident in now["incidents"]:
        if incident["recoverySeconds"] is None:
            incident["left"] = True


class Progress:
    """Who writes `state` holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.state: Dict[str, Any] = {}
        self.members: List[Dict[str, Any]] = []  # pid and node of each actor of the attempt
        # Of the attempt's members, by their index in the gang: when one joined and last got on, and its first failure.
        self.joined: Dict[int, float] = {}
        self.got_on: Dict[int, float] = {}
        self.failures: Dict[int, Dict[str, Any]] = {}
        self._alive: Set[int] = set()  # whose command runs
        self._attempt = 0  # whose ranks are listened to; 0: nobody's
        self._counted = self._restored = 0
        self._saves: Dict[int, Dict[str, Any]] = {}  # checkpoints of the attempt by their step, whole or not
        self._logs: Dict[int, TextIO] = {}  # of the attempt's ranks, those that wrote last at the end
        self._saved = 0.0
        self._counts_from = 0.0  # since when the time of the attempt is not in `seconds`, on the monotonic clock; 0: no attempt
        self.load()

    def load(self) -> None:
        with self.lock:
            self.state = state.read_json(self.folder / "state.json") or {}

    def now(self) -> Dict[str, Any]:
        with self.lock:
            self._count_time()
            return copy.deepcopy(self.state)

    def note(self, **fields: Any) -> None:
        """Sets fields, on disk too before it returns."""
        with self.lock:
            self.state.update(fields)
            self._save()

    def ended(self, index: int) -> None:
        with self.lock:
            self._alive.discard(index)

    def alive(self) -> int:
        """How many members' commands run."""
        with self.lock:
            return len(self._alive)

    def ran(self) -> float:
        """For how long the job has been run: all attempts together, each from the start of its members to its end. Neither waits
        for room nor the days between a cancel and a resume are part of it."""
        with self.lock:
            self._count_time()
            return float(self.state["seconds"])

    def _count_time(self) -> None:
        """[with the lock]"""
        if self._counts_from:
            now = time.monotonic()
            self.state["seconds"] += now - self._counts_from
            self._counts_from = now

    def _save(self) -> None:
        """[with the lock]"""
        self._saved = time.monotonic()
        self._count_time()
        try:
            state.write_json(self.folder / "state.json", self.state)
        except OSError as error:
            raise TholeError("THOLE_DENIED", "StateUnwritable", f"{self.folder} cannot be written: {error.strerror}",
                             error.errno or 0) from None

    # --- From an attempt's begin to its end. ---------------------------------------------------------------------------

    def begin(self, gang: gangs.Gang, attempt: int) -> None:
        """The attempt's number is on disk before a member of it starts: that is what fences the one before."""
        members: List[Dict[str, Any]] = []
        for i, p in enumerate(gang.placements):
            devices: List[Dict[str, Any]] = [{"uuid": g.uuid, "kind": _KINDS.get(g.kind, "none"), "memoryMiB": g.memory_mib, "shareMilli": g.share_milli,
                        "migProfile": "", "simulated": bool(g.flags & _abi.THOLE_GPU_SIMULATED)} for g in p.grants]
            members.append({"role": gang.roles[p.role], "member": p.member, "firstRank": p.first_rank, "ranks": p.ranks,
                            "node": gang.node_name(i), "devices": devices})
        simulated = any(d["simulated"] for m in members for d in m["devices"])
        whole = all(d["kind"] == "whole" for m in members for d in m["devices"])
        self.note(attempts=attempt, phase="running", message="", gang=members, simulated=simulated,
                  backend="none (simulated)" if simulated else "exclusive" if whole else "none")
        with self.lock:
            self.joined, self.got_on, self.failures, self._saves = {}, {}, {}, {}
            self._counted, self._restored, self._attempt = 0, 0, attempt
            self._counts_from = time.monotonic()

    def over(self) -> None:
        """The attempt's ranks are heard no more."""
        with self.lock:
            self._count_time()
            self._counts_from = 0.0
            self._attempt, self.members, self._alive = 0, [], set()
            for file in self._logs.values():
                file.close()
            self._logs = {}

    def incident(self, incident: Incident, attempt: int) -> List[Incident]:
        """Adds it to the history, which is answered."""
        noticed = time.time()
        with self.lock:
            incident.safe_step = max([c["step"] for c in self.state["checkpoints"]], default=0)
            self.state["incidents"].append(
                {"kind": incident.kind, "rank": incident.rank, "code": incident.code, "attempt": attempt,
                 "step": self.state["steps"]["newest"], "safeStep": incident.safe_step, "message": incident.message,
                 "cause": incident.cause, "noticed": noticed, "detectionSeconds": round(max(0.0, noticed - incident.at), 3) if incident.at else None, "recoverySeconds": None,
                 "restoredStep": None, "decision": "", "node": incident.node})
            self.state["phase"] = "recovering"
            self._save()
        return self.history()

    def history(self) -> List[Incident]:
        with self.lock:
            return [Incident.from_json(i) for i in self.state["incidents"]]

    # --- What the ranks say. ------------------------------------------------------------------------------------------

    def hear(self, index: int, attempt: int, messages: List[Dict[str, Any]]) -> bool:
        """Whether the attempt is the one that goes on; of any other nothing counts."""
        with self.lock:
            if not attempt or attempt != self._attempt:
                return False
            before = self.state["checkpointsCommitted"], len(self.state["result"])
            for message in messages:
                try:
                    self._hear(index, message)
                except (AttributeError, KeyError, TypeError, ValueError):
                    pass  # a rank may say anything: what makes no sense counts for nothing
            notable = before != (self.state["checkpointsCommitted"], len(self.state["result"]))
            if notable or time.monotonic() - self._saved >= _SAVE_SECONDS:
                try:
                    self._save()
                except TholeError as error:  # a full disk stops no training: what follows from the state is saved elsewhere
                    print(f"thole: {error}", flush=True)
            return True

    def _hear(self, index: int, message: Dict[str, Any]) -> None:
        """One thing that a rank said. [with the lock]"""
        rank = message.get("rank", self.state["gang"][index]["firstRank"])
        if "started" in message:
            self._alive.add(index)
        if "hello" in message:
            self.joined.setdefault(index, message["at"])
        if "failure" in message:
            self.failures.setdefault(index, message)
        if any(word in message for word in _GETS_ON):
            self.got_on[index] = message["at"]
        if "line" in message:
            self._log(rank, message["line"])
        elif "step" in message and isinstance(message["step"], int):
            self._step(message["step"], message["at"])
        elif "restored" in message:
            self._restored = self._counted = int(message["restored"].get("step", 0))
        elif "checkpoint" in message:
            self._part(message["checkpoint"])
        elif "result" in message:
            for name, value in message["result"].items():
                self.state["result"].setdefault(name, value)

    def _step(self, step: int, at: float) -> None:
        incidents, steps = self.state["incidents"], self.state["steps"]
        newest = incidents[-1] if incidents else None
        if newest and newest["restoredStep"] is None and newest["attempt"] < self._attempt:
            newest["restoredStep"] = self._restored
            if not newest.get("left"):
                newest["recoverySeconds"] = round(at - newest["noticed"], 3)
        steps["run"] += max(0, step - self._counted)
        self._counted = max(self._counted, step)
        steps["newest"] = max(steps["newest"], step)

    def _part(self, said: Dict[str, Any]) -> None:
        """A rank's part of a checkpoint. Parts are told of in any order; whoever sealed the last one says that all are there."""
        save = self._saves.setdefault(said["step"], {
            "step": said["step"], "attempt": self._attempt, "parts": sum(m["ranks"] for m in self.state["gang"]),
            "committed": False, "bytes": 0, "fileBytes": 0, "seconds": 0.0})
        counted = save["bytes"] if save["committed"] else 0
        if said.get("committed") and not save["committed"]:
            save["committed"] = True
            self.state["checkpointsCommitted"] += 1
            self.state["checkpoints"] = [*self.state["checkpoints"], save][-_SAVES:]
        save["bytes"] += said.get("bytes", 0)
        save["fileBytes"] += said.get("file_bytes", 0)
        save["seconds"] = max(save["seconds"], said.get("seconds") or 0.0)
        self.state["checkpointBytes"] += save["bytes"] - counted if save["committed"] else 0

    def _log(self, rank: int, line: str) -> None:
        try:
            file = self._logs.pop(rank, None) or self._open_log(rank)
            self._logs[rank] = file
            if file.tell() < _LOG_BYTES:
                file.write(line + "\n")
                file.flush()
        except OSError as error:
            print(f"thole: the log of rank {rank} cannot be written: {error.strerror}", flush=True)

    def _open_log(self, rank: int) -> TextIO:
        while len(self._logs) >= _OPEN_LOGS:
            self._logs.pop(next(iter(self._logs))).close()
        path = self.folder / "attempts" / str(self._attempt) / f"rank-{rank}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(path, "a", encoding="utf-8")

    def say(self, line: str) -> None:
        """For people who ask what the controller did."""
        try:
            with open(self.folder / "controller.log", "a", encoding="utf-8") as file:
                file.write(f"thole: {line}\n")
        except OSError:
            print(f"thole: {line}", flush=True)
