"""Submitting a job to the cluster, and asking for it afterwards."""
from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

from thole.errors import TholeError

from . import documents, state
from .attempt import EXIT_STOPPED
from .service import NAMESPACE

_PREFIX = "thole-job-"
_SUBMIT_SECONDS = 60.0
_START_SECONDS = 120.0
_LOCK_SECONDS = 1.0  # longer than anybody holds a controller's lock who only looks
_APPEAR_SECONDS = 30.0  # from a controller's lock to its name


def _actor(name: str) -> Any:
    import ray

    try:
        return ray.get_actor(_PREFIX + name, namespace=NAMESPACE)
    except ValueError:
        return None


def submit(job: documents.Document, folder: Path, *, stores: Dict[str, str], keys: Dict[str, str], queue: float) -> None:
    """Starts the job's controller, a detached actor beside the head. Keys go by path: their bytes stay in their files."""
    import ray

    from .errors import raise_answer
    from .progress import at_first
    from .service import service

    with _alone(folder, job.name):
        if not _leaves(folder, job.name):
            raise TholeError("THOLE_EXISTS", "JobExists", f"a job named {job.name} is running: cancel it, wait, or use another "
                             "name")
        of_job = state.job_folder(folder, job.name)
        known = state.read_json(of_job / "state.json")
        if known and known["running"]:
            raise TholeError("THOLE_EXISTS", "JobInterrupted", f"the controller of a job named {job.name} was lost: `thole-ray "
                             f"resume {job.name}` goes on with it, `thole-ray cancel {job.name}` ends it")
        _check_bindings(job.spec, stores, keys)
        if not queue:  # what cannot be placed now is refused before anything is started
            found = raise_answer(ray.get(service().explain.remote(job.text)))
            if found["fits"] == 0:
                raise TholeError("THOLE_NO_FIT", found["reason"], found["message"])
        if of_job.exists():  # of an earlier job of this name: its checkpoints and its key stay
            shutil.rmtree(of_job)
        of_job.mkdir(mode=0o700, parents=True)
        state.write_json(of_job / "job.json", {"job": job.text, "bindings": {"stores": stores, "keys": keys, "wait": queue}})
        state.write_json(of_job / "state.json", at_first(job.name, of_job))
        try:
            _start(of_job, job.name)
        except BaseException:
            if not state.is_held(of_job / "controller"):  # else its controller could not be ended: it is seen in `status`
                shutil.rmtree(of_job, ignore_errors=True)
            raise


def resume(folder: Path, name: str) -> None:
    """Goes on with a job from its newest checkpoint: one that was stopped, that has failed, or whose cluster was lost."""
    from .progress import leave_open

    with _alone(folder, name):
        now = job_state(folder, name)
        if not _leaves(folder, name):
            raise TholeError("THOLE_EXISTS", "JobExists", f"{name} is running")
        if now["phase"] == "done":
            raise TholeError("THOLE_INVALID", "ArgumentBad", f"{name} is done: there is nothing to go on with")
        if not now["running"]:
            now.update(running=True, phase="planned", reason="", message="", exitCode=0, cancelled=False)
        leave_open(now)
        state.write_json(state.job_folder(folder, name) / "state.json", now)
        _start(state.job_folder(folder, name), name)


def _start(of_job: Path, name: str) -> None:
    """Ray starts the controller again whenever it dies, and what was asked of it meanwhile is asked of the new one."""
    import ray

    from .jobs import Controller

    def end() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(controller, no_restart=True)
        until = time.monotonic() + _APPEAR_SECONDS
        while state.is_held(of_job / "controller") and time.monotonic() < until:
            time.sleep(0.05)

    head = {"node:__internal_head__": 0.001} if "node:__internal_head__" in ray.cluster_resources() else {}
    controller = ray.remote(Controller).options(
        name=_PREFIX + name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_concurrency=1000, resources=head,
        max_restarts=-1, max_task_retries=-1).remote(str(of_job))
    try:
        ray.get(controller.status.remote(), timeout=_START_SECONDS)
    except ray.exceptions.RayError as error:
        end()  # who submitted is told that there is no job, so there must be none
        raise TholeError("THOLE_UNAVAILABLE", "SystemCallFailed", f"the controller of {name} did not start: "
                         f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no answer'])[-1][:300]}") from None
    except BaseException:
        end()
        raise


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """One submission of a name at a time."""
    try:
        with state.held(folder / "jobs" / f"{name}.submit", _SUBMIT_SECONDS):
            yield
    except BlockingIOError:
        raise TholeError("THOLE_EXISTS", "JobExists", f"somebody else is submitting a job named {name}") from None


def _leaves(folder: Path, name: str) -> bool:
    """No job of that name runs. The controller of one that has ended stays for its metrics only: it is ended here."""
    import ray

    lock = state.job_folder(folder, name) / "controller"
    until = time.monotonic() + 10
    while (actor := _actor(name)) is not None or state.is_held(lock):
        known = state.read_json(state.job_folder(folder, name) / "state.json")
        if known is None or known["running"] or time.monotonic() > until:
            return False
        if actor is not None and not state.is_held(lock):
            ray.kill(actor, no_restart=True)
        time.sleep(0.05)
    return True


def _check_bindings(spec: Dict[str, Any], stores: Dict[str, str], keys: Dict[str, str]) -> None:
    known = {"store": set(spec.get("stores", [])), "key": set(spec.get("keys", []))}
    for what, given in (("store", stores), ("key", keys)):
        for name in given:
            if name not in known[what]:
                raise TholeError("THOLE_INVALID", "ArgumentBad", f"--{what} {name}=...: the job has no {what} of that name; it has "
                                 f"{', '.join(sorted(known[what])) or 'none'}")
    for name, path in keys.items():
        if not os.path.exists(path):
            raise TholeError("THOLE_NOT_FOUND", "KeyMissing", f"the key {name} is not at {path}: make one with `thole key new`")
        if os.stat(path).st_mode & 0o077:
            raise TholeError("THOLE_DENIED", "KeyNotPrivate", f"others may read {path}: chmod 600 it")


def job_state(folder: Path, name: str) -> Dict[str, Any]:
    found = state.read_json(state.job_folder(folder, name) / "state.json") if name else None
    if found is None:
        raise TholeError("THOLE_NOT_FOUND", "JobUnknown", f"there is no job named {name!r}: `thole status --on ray` lists them")
    return found


def job_states(folder: Path) -> List[Dict[str, Any]]:
    return [s for s in (state.read_json(p) for p in sorted(folder.glob("jobs/*/state.json"))) if s]


def interrupted(folder: Path, now: Dict[str, Any]) -> bool:
    """Whether a job that should run has no controller at this moment. Ray may be about to start it again."""
    return bool(now["running"]) and not state.is_held(state.job_folder(folder, now["job"]) / "controller")


def give_up(folder: Path, name: str) -> Dict[str, Any]:
    """Ends a job that has no controller; a cluster that comes back later finds it ended. One that has ended is answered as it is.
    Raises BlockingIOError where there is a controller: it has come up meanwhile, and is the one to ask."""
    of_job, now = state.job_folder(folder, name), job_state(folder, name)
    if not now["running"]:
        return now
    with state.held(of_job / "controller", _LOCK_SECONDS):  # no controller begins before this is written
        now = job_state(folder, name)
        if now["running"]:
            now.update(running=False, phase="stopped", reason="JobInterrupted", exitCode=EXIT_STOPPED,
                       message="its controller was lost; stopped on request")
            state.write_json(of_job / "state.json", now)
    return now


def cancel(folder: Path, name: str) -> Dict[str, Any]:
    """Asks for the end and waits for it."""
    import ray

    until = time.monotonic() + _APPEAR_SECONDS
    while (actor := _actor(name)) is None:
        try:
            return give_up(folder, name)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TholeError("THOLE_EXISTS", "JobExists", f"the controller of {name} runs, and this cluster does not know it: is "
                                 "it of another one? Say --address HOST:PORT") from None
    try:
        ray.get(actor.cancel.remote())
        ray.get(actor.wait.remote(3600.0))
    except ray.exceptions.RayActorError:
        pass  # it ended meanwhile
    return job_state(folder, name)
