"""The members of one attempt of a job, from their start to their end, and what is to blame where they end badly."""
from __future__ import annotations

import hashlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Set, Tuple

from thole.errors import TholeError

from . import documents, gangs
from .history import Incident
from .native import runtime_env
from .rank import Member

if TYPE_CHECKING:
    from .jobs import Controller

EXIT_STOPPED = 75
_SETTLE_SECONDS = 1.0  # after the first sign of a death: the time for the news of what was first
_ANSWER_SECONDS = 2.0
_SILENCE_SECONDS = 2.0  # a rank that lives says so every half second
_LOST_SECONDS = 30.0
_START_SECONDS = 120.0
_LOOK_SECONDS = 1.0


class Attempt:
    """The members of one attempt, from their start to their end."""

    def __init__(self, controller: Controller, gang: gangs.Gang, attempt: int) -> None:
        self._c, self._gang, self._attempt = controller, gang, attempt
        self._actors: List[Any] = []
        self._runs: Dict[Any, int] = {}
        self._ended: Dict[int, Dict[str, Any]] = {}

    def run(self) -> Dict[str, Any]:
        try:
            return self._start() or self._watch()
        finally:
            self._finish()

    def _start(self) -> Optional[Dict[str, Any]]:
        """Starts the members and then their commands. Answers how the attempt ended where not all members came up."""
        import ray

        member = ray.remote(Member)
        native = runtime_env(self._c.spec)
        self._actors = [member.options(max_concurrency=8, max_restarts=0, **({"runtime_env": native} if native else {}),
                                       **self._gang.bundle_options(i)).remote() for i in range(len(self._gang))]
        where = self._where()
        if isinstance(where, dict):
            return where
        with self._c.progress.lock:
            self._c.progress.members = where
        nodes = {n: i for i, n in enumerate(dict.fromkeys(w["node"] for w in where))}
        world = sum(p.ranks for p in self._gang.placements)
        me, shared = ray.get_runtime_context().current_actor, self._c.environment()
        for i, (actor, p) in enumerate(zip(self._actors, self._gang.placements)):
            role = self._c.spec["roles"][p.role]
            local = [q for q, w in zip(self._gang.placements, where) if w["node"] == where[i]["node"]]
            environment = {
                "RANK": str(p.first_rank), "WORLD_SIZE": str(world), "NODE_RANK": str(nodes[where[i]["node"]]),
                "LOCAL_RANK": str(sum(q.ranks for q in local if q.first_rank < p.first_rank)),
                "LOCAL_WORLD_SIZE": str(sum(q.ranks for q in local)), "MASTER_ADDR": where[0]["address"],
                "MASTER_PORT": str(where[0]["port"]), "THOLE_ATTEMPT": str(self._attempt), **shared}
            if os.environ.get("THOLE_LIBRARY"):
                environment["THOLE_LIBRARY"] = os.environ["THOLE_LIBRARY"]
            if role["ranksPerMember"] > 1:
                environment.update(THOLE_RANKS_PER_MEMBER=str(role["ranksPerMember"]), THOLE_FIRST_RANK=str(p.first_rank),
                                   NODE_RANK=str(p.member))
            spec = {"index": i, "attempt": self._attempt, "gang": self._gang.id, "role": role["name"],
                    "node": self._gang.node_name(i), "placement": p.as_json(), "command": role["command"],
                    "workdir": role["workdir"], "job_environment": role.get("env", {}), "environment": environment}
            self._runs[actor.run.remote(spec, me)] = i
        return None

    def _where(self) -> Any:
        """Where each member is, when all are there; or how the attempt has ended meanwhile, as it may at any other time."""
        import ray

        asked = [a.where.remote() for a in self._actors]
        seconds = max(_START_SECONDS + len(asked), documents.seconds(self._c.spec["recovery"]["startTimeout"]))
        until = time.monotonic() + seconds
        missing = asked
        while missing and time.monotonic() < until:
            done, missing = ray.wait(asked, num_returns=len(asked), timeout=_LOOK_SECONDS)
            lost = self._lost_of(asked, set(done))
            if lost is not None:
                return {"how": "incident", "incident": self._lost(lost)}
            if missing and (self._c.cancelled.is_set() or self._out_of_time()):
                return {"how": "stopped" if self._c.cancelled.is_set() else "time"}
        if missing:
            raise TholeError("THOLE_UNAVAILABLE", "NodeTooSmall", f"the members did not start within {seconds:.0f} s")
        return ray.get(asked)

    def _lost_of(self, asked: List[Any], done: Set[Any]) -> Optional[int]:
        """A member that has died, or that waits for a place on a node that has, which Ray itself would do for ever."""
        import ray

        alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
        for index, ref in enumerate(asked):
            error = _failure(ref) if ref in done else None
            if isinstance(error, ray.exceptions.RayActorError) or (
                    ref not in done and self._gang.placements[index].node not in alive):
                return index
            if error is not None:  # such as a runtime_env that cannot be made
                said = str(error).strip().splitlines()[-1:] or [""]
                raise TholeError("THOLE_UNAVAILABLE", "SystemCallFailed", f"the members did not start: {type(error).__name__}: "
                                 f"{said[0][:300]}")
        return None

    def _out_of_time(self) -> bool:
        limit = self._c.spec.get("timeLimit")
        return limit is not None and self._c.progress.ran() > documents.seconds(limit)

    def _lost(self, index: int) -> Incident:
        """The member with this index was lost with its worker, or with its node."""
        placement, node = self._gang.placements[index], self._gang.node_name(index)
        gone = self._node_is_gone(placement.node)
        return Incident("node" if gone else "signal", placement.first_rank, 0 if gone else 9,
                        f"was lost with its node {node}" if gone else "was lost with its worker", node=node)

    def _watch(self) -> Dict[str, Any]:
        import ray

        pending, asked, first_bad = list(self._runs), 0.0, 0.0
        grace = documents.seconds(self._c.spec["gracePeriod"])
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=0.1)
            for ref in done:
                self._note(ref, self._runs[ref])
            now = time.monotonic()
            if any(not _fine(e) for e in self._ended.values()) and not asked:
                first_bad = first_bad or now
                if now - first_bad >= _SETTLE_SECONDS or not pending:
                    self._hear_from_silent()
                    return {"how": "incident", "incident": self._name_incident()}
            over = self._out_of_time()
            if (self._c.cancelled.is_set() or over) and not asked:
                asked = now
                for actor in self._actors:
                    actor.stop.remote("cancel" if not over else "timeLimit", grace)
            if asked and now - asked > grace:
                break
            hung = None if asked else self._hung()
            if hung is not None:
                return {"how": "incident", "incident": hung}
        if asked:
            return {"how": "stopped" if self._c.cancelled.is_set() else "time"}
        if any(not _fine(e) for e in self._ended.values()):
            return {"how": "incident", "incident": self._name_incident()}
        return {"how": "done"}

    def _hear_from_silent(self) -> None:
        """Ranks fail with their peer's node well before Ray says that it is lost: who does not answer is waited for."""
        import ray

        asked = {self._actors[i].here.remote(): i for i in range(len(self._actors)) if i not in self._ended}
        if not asked:
            return
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
        lost = {asked[r] for r in silent}
        for ref in answered:
            try:
                ray.get(ref)
            except ray.exceptions.RayError:
                lost.add(asked[ref])
        refs = [r for r, i in self._runs.items() if i in lost]
        ended, _ = ray.wait(refs, num_returns=len(refs), timeout=_LOST_SECONDS) if refs else ([], [])
        for ref in ended:
            self._note(ref, self._runs[ref])

    def _note(self, ref: Any, index: int) -> None:
        import ray

        try:
            self._ended[index] = {**ray.get(ref), "noticed": time.time()}
        except ray.exceptions.RayTaskError as error:  # the member lives and could not do it, such as with a full disk
            said = str(error).strip().splitlines()[-1][:300]
            self._ended[index] = {"started": False, "errno": 0, "message": said, "noticed": time.time()}
        except Exception as error:  # noqa: BLE001: RayActorError and its kin: the worker or its node is gone
            self._ended[index] = {"lost": True, "noticed": time.time(), "message": type(error).__name__}
        self._c.progress.ended(index)

    def _name_incident(self) -> Incident:
        """Of all that ended badly, what was first: no peer's failure makes a lost worker or a SIGKILL."""
        failures = self._c.progress.failures

        def order(item: Tuple[int, Dict[str, Any]]) -> Tuple[int, float]:
            index, end = item
            if end.get("lost"):
                return 0, end["noticed"]
            if end.get("code") == -9:
                return 1, end["at"]
            return 2, failures[index]["at"] if index in failures else end.get("at", end["noticed"])

        index, end = min(((i, e) for i, e in self._ended.items() if not _fine(e)), key=order)
        placement = self._gang.placements[index]
        node = self._gang.node_name(index)
        if end.get("lost"):
            return self._lost(index)
        if not end["started"]:
            return Incident("start", placement.first_rank, end["errno"], end["message"], node=node)
        failure = failures.get(index, {}).get("failure")
        cause, message = "", f"ended with exit code {end['code']}"
        if end["code"] < 0:
            message = f"was killed by signal {-end['code']}"
        if failure:
            message = f"{failure.get('type')}: {failure.get('message')} ({failure.get('place')})"
            cause = hashlib.sha256(f"{failure.get('type')}\n{failure.get('place')}".encode()).hexdigest()[:32]
        kind = "signal" if end["code"] < 0 else "exit"
        return Incident(kind, placement.first_rank, abs(end["code"]), message, cause=cause, node=node, at=end["at"])

    @staticmethod
    def _node_is_gone(node: str) -> bool:
        """Ray calls a node dead only after some heartbeats: its raylet is asked, and one that does not answer is waited for
        until Ray knows too, since the next plan is made on what Ray knows."""
        import ray

        def known() -> Any:
            return next((n for n in ray.nodes() if n["NodeID"] == node and n["Alive"]), None)

        entry = known()
        try:
            if entry is not None:
                socket.create_connection((entry["NodeManagerAddress"], entry["NodeManagerPort"]), timeout=2).close()
                return False
        except OSError:
            pass
        until = time.monotonic() + _LOST_SECONDS
        while known() is not None and time.monotonic() < until:
            time.sleep(0.1)
        return True

    def _hung(self) -> Optional[Incident]:
        """A rank that has reported steps, and none for hangTimeout; or that has joined, and reported none for startTimeout."""
        recovery, now = self._c.spec["recovery"], time.time()
        start, hang = documents.seconds(recovery["startTimeout"]), documents.seconds(recovery["hangTimeout"])
        with self._c.progress.lock:
            silent = {i: (at, start) for i, at in self._c.progress.joined.items()}
            silent.update({i: (at, hang) for i, at in self._c.progress.got_on.items()})
            begun = bool(self._c.progress.got_on)
        watched = {i: v for i, v in silent.items() if i not in self._ended}  # who never speaks is watched by its process only
        stuck = [(at, i) for i, (at, limit) in watched.items() if now - at > limit]
        if not stuck or len(stuck) < len(watched):
            return None  # a rank that waits for another is no hang as long as somebody gets on
        at, index = min(stuck)
        rank, message = self._gang.placements[index].first_rank, f"reported no step for {now - at:.1f} s"
        # All wait for one that has stopped, or that has not come yet: it is to blame, and none of them.
        quiet, absent = self._quietest(), None if begun else self._absent(watched)
        if quiet is not None:
            silence, index, rank = quiet
            message += f": nothing was heard of it for {silence:.1f} s"
        elif absent is not None:
            index, rank = absent, self._gang.placements[absent].first_rank
            message = f"has not joined, and others of its role have waited for {now - at:.1f} s"
        return Incident("hang", rank, 0, message, node=self._gang.node_name(index), at=at)

    def _absent(self, watched: Mapping[int, Any]) -> Optional[int]:
        """The first member that lives and has not joined, of a role of which another one has."""
        roles = {self._gang.placements[i].role for i in watched}
        return next((i for i, p in enumerate(self._gang.placements)
                     if i not in watched and i not in self._ended and p.role in roles), None)

    def _quietest(self) -> Optional[Tuple[float, int, int]]:
        """(seconds, member, rank) of the rank that has been silent for longest, if one has stopped saying that it is alive."""
        import ray

        asked = {self._actors[i].quiet.remote(): i for i in range(len(self._actors)) if i not in self._ended}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
        found = []
        for ref in answered:
            try:
                found += [(seconds, asked[ref], rank) for rank, seconds in ray.get(ref).items()]
            except ray.exceptions.RayError:
                continue  # its own end will tell
        longest = max(found, default=None)
        return longest if longest is not None and longest[0] > _SILENCE_SECONDS else None

    def _finish(self) -> None:
        """Ends whatever is left; when it returns, no process of the attempt runs on a node that is alive."""
        import ray

        for i, actor in enumerate(self._actors):
            if i not in self._ended:
                actor.kill.remote()
        refs = [r for r, i in self._runs.items() if i not in self._ended]
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=10)
        for actor in self._actors:
            ray.kill(actor)
        self._c.progress.over()


def _failure(ref: Any) -> Optional[Exception]:
    import ray

    try:
        ray.get(ref)
        return None
    except ray.exceptions.RayError as error:
        return error  # type: ignore[no-any-return]


def _fine(end: Dict[str, Any]) -> bool:
    return bool(end.get("started")) and end.get("code") in (0, EXIT_STOPPED)
