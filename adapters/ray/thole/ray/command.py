"""The `thole-ray` program: `thole ray start|stop`, and `thole submit|status|logs|explain|cancel|pool --on ray`.

The `thole` command hands over to it. Answers, exit codes and --json are those of docs/reference/cli.md.
"""
from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import thole
from thole.errors import TholeError

from . import documents, state

_EXIT = {"THOLE_INVALID": 65, "THOLE_NOT_FOUND": 66, "THOLE_NO_FIT": 69, "THOLE_EXHAUSTED": 69, "THOLE_UNAVAILABLE": 69,
         "THOLE_EXISTS": 69, "THOLE_TIMEOUT": 69, "THOLE_CONFLICT": 69, "THOLE_DATA_LOSS": 74, "THOLE_DENIED": 77,
         "THOLE_REFUSED": 77, "THOLE_UNSUPPORTED": 69}


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="the answer as JSON")
    shared.add_argument("--state", default=argparse.SUPPRESS, help="folder of the state (THOLE_RAY_STATE)")
    shared.add_argument("--address", default=argparse.SUPPRESS, help="HOST:PORT of the head (RAY_ADDRESS); default: the one "
                        "started from the state folder")
    top = argparse.ArgumentParser(prog="thole-ray", parents=[shared], description="Thole on Ray. docs/guide/ray.md")
    top.add_argument("--version", action="version", version=f"thole-ray {thole.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, does: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, parents=[shared], help=text, description=text)
        one.set_defaults(does=does)
        return one

    start = add("start", _start, "starts a head, or joins the cluster, with the capacity that the pool says")
    start.add_argument("--pool", required=True, metavar="FILE")
    start.add_argument("--node", default="", help="which node of the pool this is; default: the first that is not there yet")
    start.add_argument("--host", default="127.0.0.1", help="this machine's address; default: on loopback")
    start.add_argument("--port", type=int, default=6379, help="of the head")
    start.add_argument("--auth", choices=["token", "disabled"], default="", help="Ray's authentication; default RAY_AUTH_MODE, "
                       "else disabled on loopback and token elsewhere")
    start.add_argument("--gcs-store", default="", metavar="FOLDER", help="where the head keeps what the cluster knows: a folder, "
                       "or redis://HOST:PORT. A head that has died goes on from it when it is started again")
    start.add_argument("ray", nargs="*", metavar="-- OPTION", help="further options of `ray start`")
    stop = add("stop", _stop, "ends the nodes that were started from the state folder")
    stop.add_argument("node", nargs="?", default="", help="only this one")
    submit = add("submit", _submit, "places a job and starts it")
    submit.add_argument("job", metavar="JOB")
    submit.add_argument("--wait", action="store_true", help="show what the ranks print, to the end; exit with the job's code")
    submit.add_argument("--queue", type=float, default=0.0, metavar="SECONDS", help="wait so long for room; default: not at all")
    submit.add_argument("--store", action="append", default=[], metavar="NAME=FOLDER", help="binds a store")
    submit.add_argument("--key", action="append", default=[], metavar="NAME=FILE", help="binds a key to a file of `thole key new`")
    resume = add("resume", _resume, "goes on with a job that was stopped, failed or lost its cluster, from its newest checkpoint")
    resume.add_argument("name")
    resume.add_argument("--wait", action="store_true", help="as of submit")
    for name, does, text in (("status", _status, "lists the jobs, or tells all of one"),
                             ("cancel", _cancel, "asks a job to save and stop, and waits for it"),
                             ("logs", _logs, "what the ranks have written")):
        add(name, does, text).add_argument("name", nargs="?" if name == "status" else None, default="")
    for name in ("submit", "resume", "logs"):
        commands.choices[name].add_argument("--patience", type=float, default=120.0, metavar="SECONDS", help="how long to wait "
                                            "for a controller that is gone and that Ray does not start again; default: 120")
    commands.choices["logs"].add_argument("-f", "--follow", action="store_true")
    commands.choices["logs"].add_argument("--rank", type=int)
    commands.choices["logs"].add_argument("--attempt", type=int)
    add("explain", _explain, "the tightest constraint, with numbers, if the job does not fit now").add_argument("job")
    add("plan", _plan, "shows what would be placed where; starts nothing").add_argument("job")
    add("environment", _environment, "prints the exports with which a program of yours joins: eval \"$(thole-ray environment)\"")
    add("pool", _pool, "the GPUs of the live nodes, and what is free on them")
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--on" in given[:-1]:  # `thole submit --on ray` hands on its own words
        at = given.index("--on")
        del given[at : at + 2]
    given = [g for g in given if g != "--on=ray"]
    try:
        options = _parser().parse_args(given)
    except SystemExit as leaving:
        return 64 if leaving.code else 0
    for name, value in (("json", False), ("state", ""), ("address", "")):
        setattr(options, name, getattr(options, name, value))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    streams: List[Any] = [sys.stdout, sys.stderr]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")  # what ranks report is printed, whatever it is
    options.out, sys.stdout = sys.stdout, sys.stderr  # Ray prints to stdout what it hears of raylets and workers, into any answer
    try:
        options.folder = state.folder(options.state)
        if options.does is not _start:  # Ray reads its environment when it is imported, whoever of us does so first
            from .cluster import Cluster

            where = options.address or os.environ.get("RAY_ADDRESS", "")
            for name, value in Cluster(options.folder).environment(where).items():
                os.environ.setdefault(name, value)
        return int(options.does(options))
    except TholeError as error:
        return _say_error(options, error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _say_error(options, _as_ours(error))
    finally:
        sys.stdout = options.out


def _as_ours(error: Exception) -> TholeError:
    """A file that cannot be had, or what went wrong behind the cluster's door, where an actor of ours or the GCS has gone meanwhile.
    Anything else is a defect of ours."""
    rays = sys.modules.get("ray")
    if rays is None or not isinstance(error, rays.exceptions.RayError):  # of which one is an OSError too
        if not isinstance(error, OSError):
            raise error
        return TholeError("THOLE_NOT_FOUND", "ArgumentBad", f"{error.filename}: {error.strerror}" if error.filename else str(error))
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return TholeError("THOLE_UNAVAILABLE", "SystemCallFailed", f"the cluster has not answered ({type(error).__name__}: {said}): is its "
                      "head up? Once it is, say this again")


def _say_error(options: argparse.Namespace, error: TholeError) -> int:
    code = _EXIT.get(error.code, 70)
    if options.json:
        print(json.dumps({"error": {"reason": error.reason, "message": error.message, "code": error.code, "exitCode": code,
                                    "notes": []}}), file=options.out)
    print(f"thole: {error}", file=sys.stderr)
    return code


def _answer(options: argparse.Namespace, data: Any, text: str) -> None:
    print(json.dumps(data) if options.json else text, file=options.out, flush=True)


# --- The cluster. -----------------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace) -> int:
    from . import cluster

    made = cluster.start(options.pool, options.folder, address=options.address, node=options.node, host=options.host,
                         port=options.port, auth=options.auth, gcs_store=options.gcs_store, extra=options.ray)
    what = "a cluster" if made["head"] else "a node"
    _answer(options, made, f"started {what} at {made['address']}: node {made['node']} with {made['gpus']} "
            f"{'simulated ' if made['simulated'] else ''}GPUs")
    return 0


def _stop(options: argparse.Namespace) -> int:
    from . import cluster

    ended = cluster.stop(options.folder, options.node)
    left = [n for n in cluster.Cluster(options.folder).data["nodes"] if cluster.is_elsewhere(n)]
    for node in (n for n in left if options.node in ("", n["name"])):
        print(f"thole: {node['name']} was started by {node['host']}: `thole-ray stop` it there. If that machine is gone for good, "
              f"and with it all others of the cluster, remove {options.folder / 'cluster.json'}", file=sys.stderr)
    _answer(options, {"stopped": ended}, f"stopped {', '.join(ended) or 'nothing: no node of this machine runs from this folder'}")
    return 0 if ended else 66


def _pool(options: argparse.Namespace) -> int:
    import ray

    from . import cluster
    from .service import service

    cluster.connect(options.folder, options.address)
    gpus = ray.get(service().usage.remote())
    lines = [f"{g['node']:<16} {g['uuid']:<42} {g['model']:<16} {g['freeMemoryMiB']:>8} of {g['memoryMiB']} MiB free, "
             f"{g['freeShareMilli']}/1000 share, {g['holders']} holders" for g in gpus]
    _answer(options, {"gpus": gpus}, "\n".join(lines))
    return 0


def _environment(options: argparse.Namespace) -> int:
    from . import cluster

    found = cluster.Cluster(options.folder)
    if not found.data["address"]:
        raise TholeError("THOLE_NOT_FOUND", "StoreGone", f"no cluster is known in {options.folder}: `thole-ray start` one")
    variables = {"RAY_ADDRESS": found.data["address"], **found.environment()}
    _answer(options, variables, "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    return 0


# --- Jobs. ------------------------------------------------------------------------------------------------------------


def _read_job(path: str) -> documents.Document:
    """The job, with its folders absolute: what is relative begins at the folder of the file."""
    from .native import runtime_env, without_effect

    with open(path, encoding="utf-8") as file:
        job = documents.read(file.read(), "TrainingJob")
    data = json.loads(job.text)
    for role in data["spec"]["roles"]:
        role["workdir"] = str((Path(path).absolute().parent / role["workdir"]).resolve())
    for note in (n for n in job.notes if n.line):
        print(f"thole: {path}:{note.line}:{note.column}: {note.message}", file=sys.stderr)
    runtime_env(data["spec"])
    for remark in without_effect(data["spec"]):
        print(f"thole: {path}: {remark}", file=sys.stderr)
    return documents.read(json.dumps(data), "TrainingJob")


def _bindings(pairs: List[str], what: str) -> Dict[str, str]:
    out = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not path:
            raise TholeError("THOLE_INVALID", "ArgumentBad", f"--{what} {pair}: write NAME=PATH")
        out[name] = os.path.abspath(path)
    return out


def _submit(options: argparse.Namespace) -> int:
    import ray

    from . import cluster
    from .submission import submit

    job = _read_job(options.job)
    cluster.connect(options.folder, options.address)
    submit(job, options.folder, stores=_bindings(options.store, "store"), keys=_bindings(options.key, "key"),
           queue=options.queue)
    ray.shutdown()  # from here on files tell all; Ray's own remarks would come between
    return _follow_if_asked(options, job.name, "submitted")


def _resume(options: argparse.Namespace) -> int:
    import ray

    from . import cluster
    from .submission import resume

    cluster.connect(options.folder, options.address)
    resume(options.folder, options.name)
    ray.shutdown()
    return _follow_if_asked(options, options.name, "resumed")


def _follow_if_asked(options: argparse.Namespace, name: str, what: str) -> int:
    if options.wait:
        return _follow(options, name)
    _answer(options, {"job": name, "phase": "planned"}, f"{what} {name}; thole status --on ray {name}")
    return 0


class _Patience:
    """With a controller that is gone: Ray starts it again in seconds, a head that has lost its state never does."""

    def __init__(self, folder: Path, name: str, seconds: float) -> None:
        self._folder, self._name, self._seconds = folder, name, seconds
        self._gone, self._said, self._changed = 0.0, False, 0

    def look(self, now: Dict[str, Any]) -> None:
        from .submission import interrupted

        changed = (state.job_folder(self._folder, self._name) / "state.json").stat().st_mtime_ns
        if not interrupted(self._folder, now) or changed != self._changed:
            self._gone, self._said, self._changed = time.monotonic(), False, changed
            return
        gone = time.monotonic() - self._gone
        if gone >= self._seconds:
            raise TholeError("THOLE_EXISTS", "JobInterrupted", f"the controller of {self._name} is gone, and Ray has not started "
                             f"it again within {self._seconds:.0f} s: is the head up, and with the state that it had? Once a "
                             f"cluster runs, `thole-ray resume {self._name}` goes on from the newest checkpoint")
        if gone >= 2.0 and not self._said:
            print(f"thole: the controller of {self._name} is gone: waiting for Ray to start it again", file=sys.stderr, flush=True)
            self._said = True


def _follow(options: argparse.Namespace, name: str) -> int:
    from .submission import job_state

    folder = state.job_folder(options.folder, name)
    at: Dict[Path, int] = {}
    patience = _Patience(options.folder, name, options.patience)
    while True:
        now = job_state(options.folder, name)
        patience.look(now)
        for path in sorted(folder.glob("attempts/*/rank-*.log")):
            with open(path, encoding="utf-8") as file:
                file.seek(at.get(path, 0))
                for line in iter(file.readline, ""):
                    if now["running"] and not line.endswith("\n"):
                        break  # half of it: the rest is being written
                    print(f"{path.stem[5:]}| {line.rstrip()}", file=sys.stderr)
                    at[path] = file.tell()
        if not now["running"]:
            _answer(options, now, summary(now))
            return int(now["exitCode"])
        time.sleep(0.2)


def _status(options: argparse.Namespace) -> int:
    from .submission import job_state, job_states

    if options.name:
        now = job_state(options.folder, options.name)
        _answer(options, now, summary(now))
        return 0
    jobs = job_states(options.folder)
    _answer(options, {"jobs": jobs}, "\n".join(f"{j['job']:<24} {j['phase']:<10} step {j['steps']['newest']}" for j in jobs)
            or "no jobs")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from . import cluster
    from .submission import cancel, give_up, interrupted, job_state

    before = job_state(options.folder, options.name)
    try:
        cluster.connect(options.folder, options.address)
        now = cancel(options.folder, options.name)
    except TholeError as error:
        if not interrupted(options.folder, before):
            raise
        try:
            now = give_up(options.folder, options.name)  # neither a controller nor a cluster
        except BlockingIOError:  # a controller after all, of a cluster that is not reached
            raise error from None
    _answer(options, now, summary(now))
    return 0


def _logs(options: argparse.Namespace) -> int:
    from .submission import job_state

    folder = state.job_folder(options.folder, options.name)
    newest = job_state(options.folder, options.name)["attempts"]
    if options.follow:
        return _follow(options, options.name)
    attempt = options.attempt or newest
    files = sorted(folder.glob(f"attempts/{attempt}/rank-*.log"), key=lambda p: int(p.stem[5:]))
    for path in files:
        rank = int(path.stem[5:])
        if options.rank is None or options.rank == rank:
            for line in path.read_text(encoding="utf-8").splitlines():
                print(line if options.rank is not None else f"{rank}| {line}", file=options.out)
    return 0


def _explain(options: argparse.Namespace) -> int:
    import ray

    from . import cluster
    from .errors import raise_answer
    from .service import service

    job = _read_job(options.job)
    cluster.connect(options.folder, options.address)
    found = raise_answer(ray.get(service().explain.remote(job.text)))
    _answer(options, found, "it fits" if found["fits"] == 1 else f"{found['reason']}: {found['message']}")
    return 0 if found["fits"] == 1 else 69


def _plan(options: argparse.Namespace) -> int:
    import ray

    from . import cluster
    from .errors import raise_answer
    from .service import service

    job = _read_job(options.job)
    cluster.connect(options.folder, options.address)
    gangs, gang = service(), documents.new_id()
    try:
        found = raise_answer(ray.get(gangs.plan.remote(job.text, gang, 0.0)))
    finally:
        ray.get(gangs.made.remote(gang))
    members = [{"role": found["roles"][p["role"]], "member": p["member"], "firstRank": p["first_rank"],
                "node": found["nodes"][p["node"]]["name"], "devices": [g["uuid"] for g in p["grants"]]}
               for p in found["placements"]]
    _answer(options, {"job": job.name, "members": members}, "\n".join(
        f"{m['role']} {m['member']:>4}  {m['node']:<16} {' '.join(m['devices'])}" for m in members))
    return 0


def summary(now: Dict[str, Any]) -> str:
    """A job for people."""
    lines = [f"{now['job']}: {now['phase']}" + (f" ({now['reason']}: {now['message']})" if now["reason"] else
                                                f" ({now['message']})" if now["message"] else "")]
    ranks = sum(m["ranks"] for m in now["gang"])
    nodes = sorted({m["node"] for m in now["gang"]})
    if now["gang"]:
        lines.append(f"  gang         {len(now['gang'])} members, {ranks} ranks on {', '.join(nodes)}"
                     f"{', simulated' if now['simulated'] else ''}; caps are held by: {now['backend']}")
    lines.append(f"  steps        {now['steps']['newest']} done, {now['steps']['run']} run in {now['attempts']} attempts, "
                 f"{now['seconds']:.1f} s")
    if now["checkpoints"]:
        lines.append(f"  checkpoints  {now['checkpointsCommitted']} committed; newest: step {now['checkpoints'][-1]['step']}")
    for i in now["incidents"]:
        lines.append(f"  incident     attempt {i['attempt']}, rank {i['rank']}, step {i['step']}: {i['message']}")
        if i["restoredStep"] is not None:
            later = "when it was resumed" if i["recoverySeconds"] is None else f"{i['recoverySeconds']:.1f} s later"
            lines.append(f"               went on after step {i['restoredStep']}, {later}")
    lines += [f"  {name:<12} {value}" for name, value in now["result"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
