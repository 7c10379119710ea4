"""What people do: stop, kill, cancel, read logs, run two at once, go on after a crash."""
import json
import os
import signal
import stat
import subprocess
import sys

from platform_tools import Host, job_file, kill, processes_of, wait_for_line
from test_processes import chain, left


def running(host, job, name="fake", step=6, **env):
    process = host.start("run", job, "--pool", host.pool, **env)
    host.wait_for(lambda s: s["newestStep"] >= step, name)
    return process


def test_ctrl_c_once_saves_and_stops_and_resume_goes_on(host):
    process = running(host, host.fake("--steps", 400, "--pace", 0.02))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 75
    state = host.raw()
    assert state["phase"] == "stopped" and not left(host)
    saved = json.load(open(host.kept / "checkpoint"))[0]
    assert saved >= 6
    done = host("--json", "resume", "fake")
    end = json.loads(done.stdout)
    assert done.returncode == 0 and end["result"]["digest"] == chain(400), done.stderr
    assert end["attempts"] == 2


def test_ctrl_c_twice_kills(host):
    process = running(host, host.fake("--steps", 4000, "--ignore-stop", gracePeriod="60s"))
    process.send_signal(signal.SIGINT)
    wait_for_line(process, "stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not left(host)


def test_who_ignores_the_stop_signal_is_killed_after_the_grace(host):
    process = running(host, host.fake("--steps", 4000, "--ignore-stop", gracePeriod="1s"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 137
    assert not left(host)


def test_cancel_waits_until_the_job_has_stopped(host):
    process = running(host, host.fake("--steps", 4000))
    done = host("cancel", "fake")
    assert done.returncode == 0 and "stopped" in done.stdout
    assert process.wait(5) == 75 and not left(host)


def test_time_limit(host):
    code, end, said = host.run(host.fake("--steps", 4000, timeLimit="2s"))
    assert code == 124 and end["reason"] == "TimeLimit", said
    assert not left(host)


def test_logs_of_one_rank_and_of_all(host):
    assert host.run(host.fake("--steps", 3, "--last-words", 3))[0] == 0
    assert host("logs", "--rank", 1, "fake").stdout.splitlines() == [f"rank 1: line {n}" for n in range(3)]
    lines = host("logs", "fake").stdout.splitlines()
    assert "0| rank 0: line 0" in lines and "1| rank 1: line 2" in lines and len(lines) == 6


def test_logs_follow_to_the_end_across_attempts(host):
    process = running(host, host.fake("--steps", 120, "--pace", 0.02, "--last-words", 2), step=2)
    follow = host.start("logs", "-f", "fake")
    assert "line 0" in follow.stdout.readline(), "it follows before the attempt ends"
    os.kill(host.raw()["processes"][1]["pid"], signal.SIGKILL)
    assert process.wait(30) == 0
    text = follow.communicate(timeout=30)[0]
    assert "-- attempt 2" in text and "1| rank 1: line 1" in text


def test_logs_are_bounded(host):
    script = "i=0; while [ $i -lt 700 ]; do head -c 65536 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done"
    assert host.run(job_file(host.folder, ["sh", "-c", script], members=1), "--no-metrics-page")[0] == 0
    folder = host.state / "jobs" / "fake" / "attempts" / "1"
    sizes = [f.stat().st_size for f in folder.glob("rank-0.log*")]
    assert len(sizes) == 2 and max(sizes) <= 16 << 20, sizes


def test_two_jobs_in_one_state(host):
    first = running(host, host.fake("--steps", 4000, name="one"), "one")
    code, end, said = host.run(host.fake("--steps", 5, name="two", save=False))
    assert code == 0, said
    devices = {d["uuid"] for m in end["gang"] for d in m["devices"]}
    assert devices, "the second job was placed beside the first"
    names = {j["job"]: j for j in json.loads(host("--json", "status").stdout)["jobs"]}
    assert names["one"]["running"] and not names["two"]["running"]
    assert host("cancel", "--now", "one").returncode == 0
    assert first.wait(10) in (130, 75)


def test_one_ledger_the_second_job_does_not_get_what_the_first_holds(host):
    big = {"vgpu": None, "gpus": {"count": 1}}
    job = host.fake("--steps", 4000, name="one", members=2, role={k: v for k, v in big.items()})
    spec = json.loads(job.read_text())
    spec["spec"]["roles"][0].pop("vgpu")
    job.write_text(json.dumps(spec))
    first = running(host, job, "one")
    spec["metadata"]["name"] = "two"
    second = host.folder / "two.yaml"
    second.write_text(json.dumps(spec))
    done = host("run", second, "--pool", host.pool)
    assert done.returncode == 69 and "GangNoFitInCluster" in done.stderr
    assert not (host.state / "jobs" / "two").exists()
    assert host("explain", second, "--pool", host.pool).returncode == 69
    kill(first, signal.SIGINT)
    assert host("plan", second, "--pool", host.pool).returncode == 0


def test_a_name_that_is_running(host):
    first = running(host, host.fake("--steps", 4000))
    done = host("run", host.folder / "fake.yaml", "--pool", host.pool)
    assert done.returncode == 69 and "JobExists" in done.stderr
    kill(first, signal.SIGINT)


def test_two_controllers_started_at_once_one_wins(host):
    job = host.fake("--steps", 60, "--pace", 0.02)
    both = [host.start("run", job, "--pool", host.pool) for _ in range(2)]
    assert sorted(p.wait(60) for p in both) == [0, 69]


def test_resume_after_the_controller_was_killed(host):
    process = running(host, host.fake("--steps", 200, "--pace", 0.02), step=20)
    before = host.raw()
    kill(process)
    status = json.loads(host("--json", "status", "fake").stdout)
    assert status["running"] is False and status["phase"] == "running"
    refused = host("run", host.folder / "fake.yaml", "--pool", host.pool)
    assert refused.returncode == 69 and "JobInterrupted" in refused.stderr
    done = host("--json", "resume", "fake")
    end = json.loads(done.stdout)
    assert done.returncode == 0 and end["result"]["digest"] == chain(200), done.stderr
    assert end["run"] == before["run"] and end["attempts"] == 2
    again = host("--json", "resume", "fake")
    assert again.returncode == 0 and json.loads(again.stdout)["attempts"] == 2
    assert not left(host)


def test_orphans_of_a_killed_controller_are_ended_by_the_next_who_needs_devices(host):
    # A grandchild in a session of its own: no signal to a parent or group reaches it.
    process = running(host, host.fake("--steps", 4000, "--leave-child"))
    kill(process)
    assert left(host), "the test needs an orphan"
    code, _, said = host.run(host.fake("--steps", 3, name="other", save=False))
    assert code == 0, said
    assert not left(host)
    assert "whose controller is gone" in said
    usage = json.loads(host("--json", "pool", "--pool", host.pool).stdout)
    assert all(g["holders"] == 0 for g in usage["gpus"]), "its gang was given back"


def test_cancel_of_a_job_whose_controller_is_dead(host):
    kill(running(host, host.fake("--steps", 4000, "--leave-child")))
    assert host("cancel", "fake").returncode == 0
    assert host.raw()["phase"] == "stopped" and not left(host)


def test_state_is_private_and_versioned(host):
    assert host.run(host.fake("--steps", 2))[0] == 0
    for path in [host.state, *host.state.rglob("*")]:
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
    (host.state / "version").write_text("thole state 2\n")
    done = host("status")
    assert done.returncode == 69 and "StateNewer" in done.stderr


def test_a_state_folder_that_others_may_write_to(host):
    host.state.mkdir(mode=0o777)
    host.state.chmod(0o777)
    done = host("status")
    assert done.returncode == 77 and "StateNotPrivate" in done.stderr


def test_a_state_path_with_spaces_and_more_than_107_bytes(tmp_path):
    host = Host(tmp_path, tmp_path / ("a state folder " * 9).strip())
    assert len(str(host.state)) > 107
    code, _, said = host.run(host.fake("--steps", 5))
    assert code == 0, said


def test_home_read_only_or_not_there(host):
    done = subprocess.run([host.arguments()[0], "status"], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "HOME": "/proc/nowhere"})
    assert done.returncode == 77 and "StateUnwritable" in done.stderr and "--state" in done.stderr


def test_the_metrics_port_is_in_use(host):
    import socket
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        done = host("run", host.fake("--steps", 3), "--pool", host.pool, "--metrics-port", port)
    assert done.returncode == 69 and str(port) in done.stderr
    assert not left(host)


def test_metrics_page_while_it_runs(host):
    import re
    import urllib.request
    process = host.start("run", host.fake("--steps", 4000), "--pool", host.pool)
    said = wait_for_line(process, "metrics: http")
    url = re.search(r"http://\S+", said).group()
    host.wait_for(lambda s: s["newestStep"] > 3)
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    assert text.endswith("# EOF\n") and 'thole_job_step{job="fake"}' in text
    kill(process, signal.SIGINT)


def test_metrics_of_a_rank_and_of_what_it_starts(host):
    """A child process finds the metrics file of its rank taken: it says so once, counts in memory, and nothing fails."""
    script = host.folder / "rank.py"
    script.write_text(
        "import subprocess, sys, thole\n"
        "count = thole.metrics.counter('test_things', 'Things.')\n"
        "count.add(2)\n"
        "times = thole.metrics.histogram('test_seconds', 'Time.', bounds=(1.0, 2.0))\n"
        "for t in (0.5, 1.5, float('nan')):\n"
        "    times.observe(t)\n"
        "if len(sys.argv) == 1:\n"
        "    subprocess.run([sys.executable, __file__, 'child'], check=True)\n")
    code, end, said = host.run(job_file(host.folder, [sys.executable, script], members=1))
    assert code == 0, said
    assert said.count("MetricsFileTaken") == 1, said
    text = open(end["metrics"]).read()
    assert "test_things_total 2\n" in text
    # What is not a number is below no bound.
    assert [line for line in text.splitlines() if line.startswith("test_seconds_bucket")] == [
        'test_seconds_bucket{le="1.0"} 1', 'test_seconds_bucket{le="2.0"} 2', 'test_seconds_bucket{le="+Inf"} 3']


def test_steps_run_is_a_counter_over_attempts(host):
    code, end, said = host.run(host.fake("--steps", 30, "--pace", 0.02, save=False), "--inject", "kill:rank=1,step=12")
    text = open(end["metrics"]).read()
    assert code == 0 and end["steps"]["run"] > 30, said
    assert f'thole_job_steps_run_total{{job="fake"}} {end["steps"]["run"]}\n' in text
    assert 'backend="none (simulated)"' in text


def test_a_platform_that_is_not_there(host):
    done = host("--on", "nowhere", "status")
    assert done.returncode == 64 and "--on nowhere" in done.stderr and not done.stdout


def test_a_bad_injection(host):
    done = host("run", host.fake(), "--pool", host.pool, "--inject", "kill:rank=two,step=3")
    assert done.returncode == 65 and "kill:rank=2,step=60" in done.stderr
    assert processes_of(str(host.kept)) == []


def test_help_of_every_command_has_examples(host):
    for command in ("init", "validate", "run", "plan", "explain", "status", "logs", "cancel", "resume", "pool"):
        text = host(command, "--help").stdout
        assert "Examples" in text, command
    assert "thole 0." in host("--version").stdout


def test_init_prints_a_job_that_runs(host):
    job = host.folder / "job.yaml"
    job.write_text(host("init").stdout)
    assert host("validate", job).returncode == 0
    code, end, said = host.run(job)
    assert code == 0 and end["phase"] == "done", said


def test_no_colour_where_it_is_not_wanted(host):
    host.run(host.fake("--steps", 2))
    script = " ".join(host.arguments("status", "fake"))
    text = subprocess.run(["script", "-qec", script, "/dev/null"], capture_output=True, text=True).stdout
    assert "\x1b[32m" in text
    env = {**os.environ, "NO_COLOR": "1"}
    text = subprocess.run(["script", "-qec", script, "/dev/null"], capture_output=True, text=True, env=env).stdout
    assert "\x1b" not in text
