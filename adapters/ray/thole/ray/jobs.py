"""A job's controller: a detached actor that places the gang, starts an actor for each member, watches, and recovers.

Recovery is the core's decision (recovery service); Ray tells what died. The controller may die as well: Ray starts it again,
and it finds in the job's folder how far the job was. The members are its own, so they have ended with it.
"""
from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

from thole import _native
from thole.errors import TholeError

from . import capacity, documents, gangs, state
from .attempt import EXIT_STOPPED, Attempt
from .history import Incident, decide
from .metrics import JobMetrics
from .progress import Progress
from .service import service

_ROOM_SECONDS = 600.0  # for an attempt after another: its places are given back, and a lost node may return
_SAVE_AGAIN_SECONDS = 1.0
_LINGER_SECONDS = 12.0  # until Ray has fetched the last of the metrics; who needs the name before ends the actor


class Cancelled(Exception):
    """Somebody has asked for the end while the gang was not placed yet."""


class Controller:
    """The actor `thole-job-NAME`. It runs from the moment it is made, since Ray calls nothing when it starts an actor again;
    status, heard and cancel come beside it. All that it is given is a folder: large arguments would go with who submitted."""

    def __init__(self, folder: str) -> None:
        import ray

        self._folder = Path(folder)
        given = state.read_json(self._folder / "job.json") or {}
        self._job, self._bindings = given["job"], given["bindings"]
        self.spec: Dict[str, Any] = documents.read(self._job, "TrainingJob").spec
        self.progress = Progress(self._folder)
        self.cancelled = threading.Event()
        self._over = threading.Event()
        self._me = ray.get_runtime_context().current_actor
        threading.Thread(target=self._run_and_leave, daemon=True).start()

    # --- What others ask. ---------------------------------------------------------------------------------------------

    def status(self) -> Dict[str, Any]:
        return self.progress.now()

    def cancel(self) -> None:
        """Who is answered has been heard, whatever becomes of this process."""
        self.progress.note(cancelled=True)
        self.cancelled.set()

    def wait(self, seconds: float) -> Dict[str, Any]:
        self._over.wait(seconds)
        return self.status()

    def where(self) -> List[Dict[str, Any]]:
        """Pids and nodes of the members' actors: for tests that kill one, and for people."""
        with self.progress.lock:
            return [dict(m) for m in self.progress.members]

    def pid(self) -> int:
        return os.getpid()

    def heard(self, index: int, attempt: int, messages: List[Dict[str, Any]]) -> bool:
        return self.progress.hear(index, attempt, messages)

    # --- The life of the job. -----------------------------------------------------------------------------------------

    def _run_and_leave(self) -> None:
        """Runs the job; then the actor ends, and what is left of the job is in its folder."""
        import ray

        with state.held(self._folder / "controller"):  # one that Ray takes for dead may still be about to die
            self.progress.load()
            if self.progress.state.get("running"):  # else it has ended, or somebody has removed its folder
                metrics = JobMetrics(self.progress.now, self.progress.alive)
                self._run()
                metrics.stop()
        self._over.set()
        time.sleep(_LINGER_SECONDS)
        # Not exit_actor: that is for a method that somebody else has called, and who submitted has left.
        ray.kill(self._me, no_restart=True)

    def _run(self) -> None:
        try:
            self._bind()
            over = self._go_on()
            while not over:
                over = self._attempt()
        except TholeError as error:
            self._end("failed", error.reason, error.message, _exit_code(error.code))
        except Exception as error:  # noqa: BLE001: a defect must end the job with its name, not leave it running
            self._end("failed", "Defect", f"{type(error).__name__}: {error}", 70)

    def _go_on(self) -> bool:
        """What a controller does that was started again: it is over with the attempt that the old one has left. True when the
        job has ended."""
        now = self.progress.now()
        if now["cancelled"]:
            self.cancelled.set()
        if now["placementGroup"]:
            _remove(now["placementGroup"])
        if now["phase"] == "running":
            return self._decide(Incident("signal", 0, 9, "was lost with the job's controller"), now["attempts"])
        return now["phase"] == "recovering" and self._follow_decision()

    def _attempt(self) -> bool:
        """One life of the job. True when the job has ended."""
        now = self.progress.now()
        number, wait = now["attempts"] + 1, self._bindings["wait"]
        again = number > 1 or now["placementGroup"]
        self.progress.note(phase="planned")
        try:
            with gangs.place(self._job, max(_ROOM_SECONDS, wait) if again else wait, number, self._waits, self._new_gang,
                             self._answer) as gang:
                self.progress.begin(gang, number)
                outcome = Attempt(self, gang, number).run()
        except Cancelled:
            return self._stopped()
        if outcome["how"] == "done":
            return self._end("done", "", "", 0)
        if outcome["how"] == "stopped":
            return self._stopped()
        if outcome["how"] == "time":
            return self._end("failed", "", "timeLimit has passed", 124)
        return self._decide(outcome["incident"], number)

    def _decide(self, incident: Incident, attempt: int) -> bool:
        self.progress.incident(incident, attempt)
        return self._follow_decision()

    def _follow_decision(self) -> bool:
        """What the newest incident leads to. The decision is a pure function of the history, so it is the same one if it has to be
        made again."""
        history = self.progress.history()
        newest, decision = history[-1], decide(history, self.spec["recovery"])
        with self.progress.lock:
            entry = self.progress.state["incidents"][-1]
            entry["decision"] = decision.reason
        if not decision.restart:
            return self._end("failed", decision.reason, f"{newest.message}; {decision.message}", newest.exit_code())
        self.progress.note()
        self.progress.say(f"rank {newest.rank} {newest.message} in attempt {newest.attempt}: starting again from step "
                          f"{newest.safe_step}")
        delay = max(0.0, entry["noticed"] + decision.delay - time.time())
        return self.cancelled.wait(delay) and self._stopped()

    def _stopped(self) -> bool:
        return self._end("stopped", "", "stopped on request", EXIT_STOPPED)

    def _end(self, phase: str, reason: str, message: str, code: int) -> bool:
        self.progress.over()
        while True:
            try:
                self.progress.note(phase=phase, reason=reason, message=message, exitCode=code, running=False, placementGroup="")
                return True
            except TholeError as error:  # on a full disk the job ends when that can be written down
                print(f"thole: {error}", flush=True)
                time.sleep(_SAVE_AGAIN_SECONDS)

    # --- Placing the gang. --------------------------------------------------------------------------------------------

    def _waits(self, message: str) -> None:
        self.progress.note(message=f"waits: {message}")

    def _new_gang(self) -> str:
        """The name of the placement group is on disk before there is one, so that it can be removed by whoever comes after."""
        gang = documents.new_id()
        self.progress.note(placementGroup=capacity.GROUP_PREFIX + gang)
        return gang

    def _answer(self, asked: Any) -> Any:
        """Waits for the plan, but no longer than until the job is cancelled."""
        import ray

        while not ray.wait([asked], timeout=0.1)[0]:
            if self.cancelled.is_set():
                ray.cancel(asked)
                ray.get(service().made.remote(self.progress.now()["placementGroup"][len(capacity.GROUP_PREFIX):]))
                raise Cancelled
        return ray.get(asked)

    # --- Stores and keys. ---------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Names of stores and keys become paths; a key itself is never read here."""
        checkpoint = self.spec.get("checkpoint")
        if not checkpoint:
            return
        now, base = self.progress.now(), self._folder.parent.parent
        store = self._bindings["stores"].get(checkpoint["store"]) or str(base / "stores" / checkpoint["store"])
        key = self._bindings["keys"].get(checkpoint["key"])
        if key is None:
            key = str(base / "keys" / f"{checkpoint['key']}.key")
            if not os.path.exists(key) and not now["attempts"]:
                Path(key).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                core = _native.core()
                _native.check(core.root.core.contents.key_new, core.handle, _native.text(key))
                self.progress.say(f"made the key {key}: whoever loses it loses the checkpoints")
        self.progress.note(store=os.path.join(store, f"{now['job']}-{now['run']}"), key=key)

    def environment(self) -> Dict[str, str]:
        """What all ranks are told of the job's store."""
        now = self.progress.now()
        out = {"THOLE_JOB": now["job"], "THOLE_RUN": now["run"]}
        if now["store"]:
            if not os.path.exists(now["key"]):
                raise TholeError("THOLE_NOT_FOUND", "KeyMissing", f"the key is not at {now['key']}: without it nobody can read "
                                 "what the job saves, or has saved")
            out.update(THOLE_STORE=now["store"], THOLE_KEY=now["key"],
                       THOLE_CHECKPOINT_INTERVAL=str(self.spec["checkpoint"]["interval"]),
                       THOLE_CHECKPOINT_KEEP=str(self.spec["checkpoint"]["keep"]))
        return out


def _remove(group: str) -> None:
    """Ends what runs in the placement group of that name, if there is one still."""
    from ray.util.placement_group import get_placement_group, remove_placement_group

    try:
        remove_placement_group(get_placement_group(group))
    except ValueError:
        pass


def _exit_code(code: str) -> int:
    return {"THOLE_INVALID": 65, "THOLE_NOT_FOUND": 66, "THOLE_NO_FIT": 69, "THOLE_EXHAUSTED": 69, "THOLE_UNAVAILABLE": 69,
            "THOLE_EXISTS": 69, "THOLE_TIMEOUT": 69, "THOLE_CONFLICT": 69, "THOLE_DATA_LOSS": 74,
            "THOLE_DENIED": 77, "THOLE_REFUSED": 77}.get(code, 70)
