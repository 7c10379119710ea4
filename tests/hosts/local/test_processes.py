"""What processes do: well, badly, early, late, or not at all. One fake rank stands for a training script."""
import hashlib
import json
import os
import sys

from platform_tools import job_file, processes_of


def chain(steps):
    state = "start"
    for done in range(steps):
        state = hashlib.sha256(f"{state} {done}".encode()).hexdigest()
    return state


def left(host):
    """Processes of the job that are still there: they all have the test's folder in their environment."""
    return processes_of(str(host.state))


def test_a_job_runs_to_its_end(host):
    code, end, said = host.run(host.fake("--steps", 20))
    assert code == 0 and end["phase"] == "done", said
    assert end["result"]["digest"] == chain(20)
    assert end["steps"] == {"newest": 20, "run": 20}
    assert end["attempts"] == 1 and not end["incidents"]
    assert end["simulated"] is True and end["backend"] == "none (simulated)"
    assert len(end["gang"]) == 2 and all(d["simulated"] for m in end["gang"] for d in m["devices"])
    assert end["checkpointsCommitted"] == 4
    assert "# EOF" in open(end["metrics"]).read()
    assert not left(host)


def test_the_summary_for_people_names_what_matters(host):
    done = host("run", host.fake("--steps", 5), "--pool", host.pool)
    assert done.returncode == 0, done.stderr
    for word in ("fake: done", "none (simulated)", "vGPU", "steps", "digest", "attempts"):
        assert word in done.stdout, word
    assert "\x1b" not in done.stdout + done.stderr  # no terminal, no colour


def test_a_killed_rank_is_noticed_named_and_replaced(host):
    code, end, said = host.run(host.fake("--steps", 30, "--pace", 0.02), "--inject", "kill:rank=1,step=12")
    assert code == 0, said
    incident, = end["incidents"]
    assert (incident["kind"], incident["rank"], incident["code"]) == ("signal", 1, 9)
    assert 0 <= incident["detectionSeconds"] < 1
    assert incident["restoredStep"] > 0 and incident["recoverySeconds"] > 0
    assert end["attempts"] == 2 and end["result"]["digest"] == chain(30)
    assert end["steps"]["run"] < 60
    assert not left(host)


def test_a_kill_is_noticed_while_another_rank_is_being_taken_down(host):
    job = host.fake("--steps", 30, "--pace", 0.02, "--fail", "0,5,linger", "--once")
    code, end, said = host.run(job, "--inject", "kill:rank=1,step=12")
    incident, = end["incidents"]
    assert code == 0 and (incident["kind"], incident["rank"]) == ("signal", 1), said
    assert incident["detectionSeconds"] < 1


def test_a_rank_that_left_is_not_blamed_for_a_kill(host):
    script = "if [ $THOLE_ATTEMPT = 1 ] && [ $RANK = 1 ]; then sleep 0.5; kill -9 $$; fi"
    code, end, said = host.run(job_file(host.folder, ["sh", "-c", script]))
    incident, = end["incidents"]
    assert code == 0 and (incident["kind"], incident["rank"], incident["code"]) == ("signal", 1, 9), said


def test_a_kill_at_a_seal(host):
    code, end, said = host.run(host.fake("--steps", 30), "--inject", "kill:rank=0,seal=2")
    assert code == 0 and end["result"]["digest"] == chain(30), said
    assert end["incidents"][0]["rank"] == 0 and end["incidents"][0]["step"] == 10


def test_a_stopped_rank_is_a_hang_and_is_named(host):
    job = host.fake("--steps", 60, "--pace", 0.02, recovery={"hangTimeout": "2s"})
    code, end, said = host.run(job, "--inject", "stop:rank=1,step=12")
    assert code == 0 and end["result"]["digest"] == chain(60), said
    incident, = end["incidents"]
    assert (incident["kind"], incident["rank"]) == ("hang", 1)
    assert 2 <= incident["detectionSeconds"] <= 4
    assert "SIGSTOP" in incident["message"]


def test_a_rank_that_makes_no_step_hangs_though_its_heart_beats(host):
    job = host.fake("--fail", "1,8,hang", "--once", recovery={"hangTimeout": "1s"})
    code, end, said = host.run(job)
    assert code == 0, said
    assert (end["incidents"][0]["kind"], end["incidents"][0]["rank"]) == ("hang", 1)


def test_a_slow_first_step_is_no_hang(host):
    job = host.fake("--steps", 6, "--first-step", 3, recovery={"hangTimeout": "1s"})
    code, end, said = host.run(job)
    assert code == 0 and not end["incidents"], said


def test_a_first_step_that_never_comes(host):
    job = host.fake("--first-step", 600, recovery={"startTimeout": "1s", "maxWithoutProgress": 1})
    code, end, _ = host.run(job)
    assert code == 125 and end["phase"] == "failed" and end["incidents"][0]["kind"] == "hang"
    assert not left(host)


def test_the_same_traceback_again_stops_the_job_and_is_shown(host):
    code, end, said = host.run(host.fake("--fail", "1,3,raise", save=False))
    assert code == 1 and end["reason"] == "StopSameCause", said
    assert "ValueError: as it was told" in end["message"]
    assert end["incidents"][0]["rank"] == 1
    assert not left(host)


def test_the_jobs_own_exit_code_is_passed_through(host):
    job = job_file(host.folder, ["sh", "-c", "echo on its way; exit 42"], recovery={"maxWithoutProgress": 1})
    code, end, _ = host.run(job)
    assert code == 42 and "on its way" in end["message"]


def test_killed_by_a_signal_is_128_and_its_number(host):
    job = job_file(host.folder, ["sh", "-c", "kill -USR1 $$"], recovery={"maxWithoutProgress": 1})
    assert host.run(job)[0] == 128 + 10


def test_a_rank_that_leaves_early_with_0_is_named(host):
    script = "if [ $RANK = 0 ]; then exit 0; fi; sleep 1; exit 3"
    job = job_file(host.folder, ["sh", "-c", script], recovery={"maxWithoutProgress": 1})
    code, end, _ = host.run(job)
    assert (end["incidents"][0]["kind"], end["incidents"][0]["rank"]) == ("early", 0)
    assert code == 1


def test_out_of_memory_is_told_apart(host):
    code, end, _ = host.run(host.fake("--fail", "0,3,memory", "--once"))
    assert code == 0 and end["incidents"][0]["kind"] == "memory"


def test_a_child_that_lives_on_is_ended(host):
    code, end, said = host.run(host.fake("--steps", 5, "--leave-child"))
    assert code == 0, said
    assert not left(host)


def test_command_not_found_before_anything_is_reserved(host):
    done = host("run", job_file(host.folder, ["no-such-program"]), "--pool", host.pool)
    assert done.returncode == 127 and "CommandNotFound" in done.stderr
    assert not (host.state / "jobs" / "fake").exists()


def test_command_not_executable(host):
    program = host.folder / "program"
    program.write_text("#!/bin/sh\n")
    done = host("run", job_file(host.folder, [program]), "--pool", host.pool)
    assert done.returncode == 126 and "CommandNotExecutable" in done.stderr and "chmod +x" in done.stderr
    assert not (host.state / "jobs" / "fake").exists()


def test_an_interpreter_that_is_not_there_is_told_after_all(host):
    program = host.folder / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    done = host("run", job_file(host.folder, [program]), "--pool", host.pool)
    assert done.returncode == 127 and "CommandNotFound" in done.stderr + done.stdout
    assert not left(host)


def test_an_unmodified_script_knows_rank_size_and_address(host):
    script = ("import os, socket, sys\n"
              "rank, size, at = int(os.environ['RANK']), int(os.environ['WORLD_SIZE']), "
              "(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']))\n"
              "if rank == 0:\n"
              "    door = socket.create_server(at)\n"
              "    total = 0\n"
              "    for _ in range(size - 1):\n"
              "        total += int(door.accept()[0].recv(16))\n"
              "    sys.exit(0 if total == sum(range(size)) else 9)\n"
              "import time\n"
              "while True:\n"
              "    try:\n"
              "        socket.create_connection(at).sendall(str(rank).encode()); break\n"
              "    except ConnectionRefusedError:\n"
              "        time.sleep(0.02)\n")
    file = host.folder / "plain.py"
    file.write_text(script)
    code, end, said = host.run(job_file(host.folder, [sys.executable, file], members=3))
    assert code == 0 and end["phase"] == "done", said


def test_a_launcher_makes_the_ranks_itself(host):
    launcher = host.folder / "launcher.py"
    launcher.write_text(
        "import os, subprocess, sys\n"
        "n, first = int(os.environ['THOLE_RANKS_PER_MEMBER']), int(os.environ['THOLE_FIRST_RANK'])\n"
        "ranks = [subprocess.Popen(sys.argv[1:], env={**os.environ, 'RANK': str(first + i)}) for i in range(n)]\n"
        "sys.exit(1 if [r for r in ranks if r.wait() != 0] else 0)\n")
    from platform_tools import FAKE
    job = job_file(host.folder, [sys.executable, launcher, sys.executable, FAKE, "--keep", host.kept, "--steps", 30],
                   role={"ranksPerMember": 2})
    code, end, said = host.run(job, "--inject", "kill:rank=3,step=12")
    assert code == 0 and end["result"]["digest"] == chain(30), said
    assert [m["firstRank"] for m in end["gang"]] == [0, 2]
    assert end["incidents"][0]["rank"] == 3, "the launcher's exit is its rank's failure"
    assert not left(host)


def test_the_environment_of_a_rank(host):
    out = host.folder / "environment"
    job = job_file(host.folder, ["sh", "-c", f"env > {out}.$RANK; readlink -f /proc/self/fd/0 >> {out}.$RANK"])
    assert host.run(job)[0] == 0
    lines = dict(l.split("=", 1) for l in open(f"{out}.1").read().splitlines() if "=" in l)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
                 "CUDA_VISIBLE_DEVICES", "THOLE_JOB", "THOLE_ATTEMPT", "THOLE_RECORD", "THOLE_SOCKET", "THOLE_METRICS",
                 "THOLE_RUN", "THOLE_LIBRARY"):
        assert name in lines, name
    assert lines["RANK"] == "1" and lines["WORLD_SIZE"] == "2" and lines["CUDA_VISIBLE_DEVICES"] == ""
    assert len(lines["THOLE_SOCKET"]) <= 107
    assert "/dev/null" in open(f"{out}.1").read()
    assert os.path.exists(lines["THOLE_LIBRARY"])


RANKS_DEVICES = ("import thole\n"
                 "with thole.join() as run:\n"
                 "    devices = run.allocation.devices\n"
                 "    run.report(**{f'rank{run.rank}': f'{len(devices)} {devices[0].kind}'})\n")


def job_of_roles(host, **wants):
    """A job of a role for each device that is wanted; its ranks report what their record says."""
    job = job_file(host.folder, [])
    spec = json.loads(job.read_text())
    shared = {"cpu": "100m", "memory": "64Mi", "command": [sys.executable, "-c", RANKS_DEVICES]}
    spec["spec"]["roles"] = [{"name": name, **shared, **want} for name, want in wants.items()]
    job.write_text(json.dumps(spec))
    return job


def pool_of_gpus(host, **gpus):
    spec = json.loads(host.pool.read_text())
    host.pool.write_text(json.dumps({**spec, "metadata": {"name": "other"}, "spec": {"simulated": True, "gpus": gpus}}))


def test_whole_gpus_and_vgpus_of_one_gang(host):
    pool_of_gpus(host, count=3, memory="96Gi")
    code, end, said = host.run(job_of_roles(host, parts={"members": 2, "vgpu": {"memory": "10Gi", "share": 0.25}},
                                            wholes={"members": 1, "gpus": {"count": 2}}))
    assert code == 0, said
    held = [[d["uuid"] for d in m["devices"]] for m in end["gang"]]
    assert held[0] == held[1] and len(set(held[0] + held[2])) == 3, held
    assert end["result"] == {"rank0": "1 vgpu", "rank1": "1 vgpu", "rank2": "2 whole"}


def test_mig_instances_of_one_gpu(host):
    pool_of_gpus(host, count=1, memory="96Gi", mig=[
        {"profile": "1g.24gb", "memory": "24Gi", "share": 0.25, "size": 1, "starts": [0, 1, 2, 3]}])
    code, end, said = host.run(job_of_roles(host, slices={"members": 3, "mig": {"profile": "1g.24gb"}}))
    assert code == 0, said
    places = [(d["uuid"], d["migStart"], d["migSize"]) for m in end["gang"] for d in m["devices"]]
    assert len(set(places)) == 3 and len({p[0] for p in places}) == 1 and {p[2] for p in places} == {1}, places
    assert {p[1] for p in places} < {0, 1, 2, 3}
    assert end["result"] == {f"rank{r}": "1 mig" for r in range(3)}
