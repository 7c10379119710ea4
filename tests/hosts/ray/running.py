"""A job that runs beside a test."""
import json
import threading
import time

from cluster import DIGITS, PATIENCE, until


class Running:
    """`thole-ray submit --wait` beside the test, and its controller."""

    def __init__(self, small, job=DIGITS, patience=PATIENCE):
        import ray

        self._small, self._patience = small, patience
        self.done = None
        begun = time.time()
        self._thread = threading.Thread(target=self._run, args=[job], daemon=True)
        self._thread.start()

        def controller():
            assert self.done is None, self.done.stderr
            try:
                found = ray.get_actor("thole-job-digits", namespace="thole")
                return found if ray.get(found.status.remote())["started"] > begun else None
            except (ValueError, ray.exceptions.RayActorError):
                return None  # not there yet, or that of the job before

        self.controller = until(controller, what="the controller's start")

    def _run(self, job):
        self.done = self._small.program("submit", job, "--wait", "--json", "--patience", str(self._patience), check=False, timeout=2 * PATIENCE)

    def at_step(self, step):
        import ray

        until(lambda: ray.get(self.controller.status.remote())["steps"]["newest"] >= step, what=f"step {step}")
        return ray.get(self.controller.status.remote()), ray.get(self.controller.where.remote())

    def controllers_pid(self):
        import ray

        return ray.get(self.controller.pid.remote())

    def end(self):
        self._thread.join(PATIENCE)
        assert self.done is not None and self.done.returncode == 0, self.done and self.done.stderr[-3000:]
        return json.loads(self.done.stdout)


def check_ledger_is_empty(small):
    def empty():
        return all(g["holders"] == 0 for g in json.loads(small.program("pool", "--json").stdout)["gpus"])

    until(empty, what="the release of all GPUs")
