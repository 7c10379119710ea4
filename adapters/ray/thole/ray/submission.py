"""Submitting a job to the cluster, and asking for it afterwards."""
from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict, List

from thole.errors import TholeError

from . import documents, state
from .service import NAMESPACE

_PREFIX = "thole-job-"


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
    from .jobs import Controller
    from .service import service

    if not _leaves(folder, job.name):
        raise TholeError("THOLE_EXISTS", "JobExists", f"a job named {job.name} is running: cancel it, wait, or use another name")
    _check_bindings(job.spec, stores, keys)
    if not queue:  # what cannot be placed now is refused before anything is started
        found = raise_answer(ray.get(service().explain.remote(job.text)))
        if found["fits"] == 0:
            raise TholeError("THOLE_NO_FIT", found["reason"], found["message"])
    of_job = state.job_folder(folder, job.name)
    if of_job.exists():  # of an earlier job of this name: its checkpoints and its key stay
        import shutil

        shutil.rmtree(of_job)
    of_job.mkdir(mode=0o700, parents=True)
    head = {"node:__internal_head__": 0.001} if "node:__internal_head__" in ray.cluster_resources() else {}
    controller = ray.remote(Controller).options(
        name=_PREFIX + job.name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_concurrency=1000, resources=head
    ).remote(job.text, {"stores": stores, "keys": keys, "wait": queue}, str(of_job))
    ray.get(controller.status.remote())
    controller.run_and_leave.remote()


def _leaves(folder: Path, name: str) -> bool:
    """No job of that name runs; the controller of one that has ended is given the moment that it takes to go."""
    until = time.monotonic() + 10
    while _actor(name) is not None:
        known = state.read_json(state.job_folder(folder, name) / "state.json")
        if known is None or known["running"] or time.monotonic() > until:
            return False
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


def cancel(folder: Path, name: str) -> Dict[str, Any]:
    """Asks for the end and waits for it. A job that has ended already is answered as it is."""
    import ray

    now = job_state(folder, name)
    actor = _actor(name)
    if actor is None:
        return now
    try:
        ray.get(actor.cancel.remote())
        ray.get(actor.wait.remote(3600.0))
    except ray.exceptions.RayActorError:
        pass  # it ended meanwhile
    return job_state(folder, name)
