"""Ray Train: the newest checkpoint that is whole, and the decision to stop. Retries stay Ray Train's own.

    def train(config):
        checkpoint = thole.ray.newest_good_checkpoint()  # in the place of ray.train.get_checkpoint(), on every rank
        ...

    RunConfig(callbacks=[thole.ray.RecoveryPolicy()], failure_config=FailureConfig(max_failures=-1),
              storage_filesystem=thole.ray.checkpoint_filesystem("/data/train", key="/keys/train.key"))

Only what Ray Train's controller has registered counts as a checkpoint, and a worker of an earlier attempt that wakes up late is
refused (AttemptFenced): with `newest_good_checkpoint` a new attempt begins, and only its processes change the run's files.
"""
from __future__ import annotations

import hashlib
import sys
from typing import Any, Dict, List, Optional, Tuple

import ray.train
import ray.train.collective
from pyarrow import fs
from thole.errors import TholeError

from . import fence as fences
from .filesystem import EncryptedFiles
from .history import Incident, decide

_PIECE = 8 << 20


def newest_good_checkpoint() -> Optional["ray.train.Checkpoint"]:
    """The newest registered checkpoint of this run that can be read to its end, or None where there is none yet.

    Rank 0 reads the newest one through, and an older one where that is damaged; every rank gets the same answer, so every rank has
    to call it. Where there are checkpoints and none is whole it raises what was wrong with the newest: a wrong key does not begin
    a training anew. Where the run's files go through `checkpoint_filesystem`, workers of earlier attempts can write none afterwards.
    """
    files, folder = _of_run()
    token, chosen = "", None
    ray.train.collective.barrier()  # one who wakes up after his group is gone gets no further, and begins no attempt
    if ray.train.get_context().get_world_rank() == 0:
        try:
            token = _begin(files, folder) if files else ""
            chosen = _choose()
        except TholeError as error:
            chosen = error
    token, chosen = ray.train.collective.broadcast_from_rank_zero((token, chosen))
    if isinstance(chosen, TholeError):
        raise chosen
    if files:
        fences.guard(files.folder, folder, token)
    return chosen


def _of_run() -> Tuple[Optional[EncryptedFiles], str]:
    """The encrypting filesystem of this run, if it has one, and the run's folder in it."""
    try:
        storage = ray.train.get_context().get_storage()
    except NotImplementedError:  # local mode: one process, and nobody who could be late
        return None, ""
    found, folder = storage.storage_filesystem, storage.experiment_fs_path
    while isinstance(found, fs.SubTreeFileSystem):
        found, folder = found.base_fs, f"{found.base_path.rstrip('/')}/{folder}"
    files = getattr(found, "handler", None)
    return (files, files.normalize_path(folder)) if isinstance(files, EncryptedFiles) else (None, "")


def _begin(files: EncryptedFiles, folder: str) -> str:
    """Asked for a second time in one attempt, it is the same one."""
    known = fences.fence_of(files.folder, folder)
    if known is not None:
        files.check_fence(folder)
        return known.token
    return files.begin_attempt(folder)


def _choose() -> Any:
    newest = ray.train.get_checkpoint()
    if newest is None:
        return None
    older = [r.checkpoint for r in ray.train.get_all_reported_checkpoints()]
    problem: Optional[TholeError] = None
    for checkpoint in [newest, *(c for c in reversed(older) if c.path != newest.path)]:
        try:
            read_through(checkpoint)
            return checkpoint
        except (OSError, TholeError) as error:
            print(f"thole: {checkpoint.path} is passed over: {error}", file=sys.stderr, flush=True)
            if problem is None:
                problem = error if isinstance(error, TholeError) else TholeError("THOLE_DATA_LOSS", "CheckpointDamaged",
                                                                                 f"{checkpoint.path}: {error}")
    return problem


def read_through(checkpoint: "ray.train.Checkpoint") -> int:
    """Reads every file of it to the end and returns how many bytes that were; an encrypting filesystem verifies them."""
    bytes_ = 0
    found = checkpoint.filesystem.get_file_info(fs.FileSelector(checkpoint.path, recursive=True))
    files = [f for f in found if f.type == fs.FileType.File]
    if not files:
        raise FileNotFoundError(2, "it has no files", checkpoint.path)
    for file in files:
        with checkpoint.filesystem.open_input_stream(file.path) as stream:
            while piece := stream.read(_PIECE):
                bytes_ += len(piece)
    return bytes_


class RecoveryPolicy(ray.train.UserCallback):  # type: ignore[misc]
    """Ends a run that would only fail again, as the core's recovery service decides on every platform (ADR 6).

    Goes into `RunConfig(callbacks=[...])`, with a `FailureConfig` that retries. `step` names the metric that counts the work; a
    report with a checkpoint is progress. When it is time to stop, `fit` raises with our reason, such as StopSameCause.
    """

    def __init__(self, *, max_incidents: int = 0, max_without_progress: int = 0, max_same_cause: int = 0, step: str = "step") -> None:
        self._limits = {"maxIncidents": max_incidents, "maxWithoutProgress": max_without_progress, "maxSameCause": max_same_cause,
                        "minDelay": "0s", "maxDelay": "0s"}
        self._step, self._safe_step = step, 0
        self._history: List[Incident] = []

    def after_report(self, run_context: Any, metrics: List[Dict[str, Any]], checkpoint: Any) -> None:
        if checkpoint is not None and metrics:
            self._safe_step = int(metrics[0].get(self._step, self._safe_step + 1))

    def after_exception(self, run_context: Any, worker_exceptions: Dict[int, BaseException]) -> None:
        self._history.append(incident_of(worker_exceptions, len(self._history) + 1, self._safe_step))
        decision = decide(self._history, self._limits)
        if not decision.restart:
            raise TholeError("THOLE_STOPPED", decision.reason, decision.message)


def incident_of(worker_exceptions: Dict[int, BaseException], attempt: int, safe_step: int) -> Incident:
    """What one failure of a worker group counts as. A worker that died comes before those that only missed it."""
    from ray.exceptions import RayActorError

    def died(rank: int) -> bool:
        error: Optional[BaseException] = worker_exceptions[rank]
        while error is not None:
            if isinstance(error, RayActorError):
                return True
            error = getattr(error, "health_check_failure", None) or error.__cause__
        return False

    dead = sorted(rank for rank in worker_exceptions if died(rank))
    if dead:
        return Incident("signal", dead[0], 9, "the worker died", attempt, safe_step)
    rank = min(worker_exceptions)
    error = worker_exceptions[rank]
    last = str(error).strip().splitlines()[-1] if str(error).strip() else ""
    text = f"{type(error).__name__}: {last}"
    return Incident("exit", rank, 1, text, attempt, safe_step, hashlib.sha256(text.encode()).hexdigest()[:32])
