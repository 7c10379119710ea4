"""What is killed, full, missing or restarted: a node's records come and go with its jobs, and a user's job loses nothing."""
import os
import pathlib
import signal
import subprocess

import pytest

from test_allocation import SHOW, caps, found_in


def records(cluster, job):
    return [path for node in cluster.names for path in cluster.state_folder(node).glob(f"*{job}")]


def gone(cluster, job):
    cluster.wait_for(lambda: not records(cluster, job), f"the records of job {job} to be gone")


def stepds(cluster, job):
    return [pid for pid in cluster.pids("slurmstepd") if f"[{job}.".encode() in cluster.command_line(pid)]


def test_record_goes_when_slurmstepd_is_killed(cluster):
    job = cluster.sbatch("--thole-vgpu-memory=1Gi", "--no-requeue", wrap="sleep 600")
    cluster.wait_state(job, "RUNNING")
    cluster.wait_for(lambda: records(cluster, job), "the record")
    cluster.wait_for(lambda: len(stepds(cluster, job)) >= 2, "the extern and the batch step")
    killed = stepds(cluster, job)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    cluster.run("scancel", job)
    cluster.wait_end(job)
    gone(cluster, job)
    print(f"{len(killed)} of {len(killed)} slurmstepd killed")


def test_requeue_to_the_same_node(cluster):
    """Each life has a record of its own, with its attempt; the metrics of the last one do not stay."""
    body = f"{SHOW}; [ $SLURM_RESTART_COUNT ] || {{ touch $(dirname $THOLE_RECORD)/metrics/old; sleep 600; }}"
    output = cluster.work / "requeued"
    script = cluster.work / "requeued.sh"
    script.write_text(f"#!/bin/bash\n{body}; ls -a $(dirname $THOLE_RECORD)/metrics\n")
    job = cluster.sbatch("-w", "n1", "-o", output, "--open-mode=append", "--requeue", "--thole-vgpu-memory=2Gi", script=script)
    cluster.wait_for(lambda: output.exists() and "FOUND" in output.read_text(), "the first life")
    cluster.run("scontrol", "requeue", job)
    cluster.wait_for(lambda: cluster.field(job, "Restarts") == "1", "the requeue")
    cluster.wait_state(job, "COMPLETED")
    lives = found_in(output.read_text())
    assert [t["THOLE_ATTEMPT"] for t in lives] == ["1", "2"] and lives[0]["THOLE_RUN"] == lives[1]["THOLE_RUN"]
    assert "\nattempt 2\n" in lives[1]["record"] and "old" not in output.read_text().splitlines()
    gone(cluster, job)


def test_what_a_killed_prolog_leaves(cluster):
    """Half a folder, or one of another life: the next prolog of that job makes it anew, and the epilog removes all."""
    first = int(cluster.sbatch("-H", wrap="true"))
    node = cluster.state_folder("n1")
    for name in (f".new-{first + 1}", str(first + 1)):
        (node / name / "metrics/deep").mkdir(parents=True)
        (node / name / "record").write_text("thole-record 1\nhalf")
    task = found_in(cluster.run("srun", "-w", "n1", "--thole-vgpu-memory=1Gi", "sh", "-c", SHOW).stdout)[0]
    assert caps(task) == [1024]
    cluster.run("scancel", first)
    gone(cluster, first + 1)


def test_epilog_leaves_what_a_link_points_at(cluster):
    """A job's user may put links into its metrics folder: root follows none."""
    kept = cluster.work / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    done = cluster.run("srun", "-w", "n1", "--thole-vgpu-memory=1Gi", "sh", "-c",
                       f'd=$(dirname "$THOLE_METRICS"); ln -s {kept} "$d/link"; mkdir -p "$d/a/b"; ln -s /etc "$d/a/b/etc"; echo $d')
    job = pathlib.Path(done.stdout.strip()).parent.name
    gone(cluster, job)
    assert (kept / "file").read_text() == "mine" and pathlib.Path("/etc/passwd").exists()


def test_ten_thousand_submissions(make_cluster, tmp_path):
    """Each becomes a job with its shards; the 10,001st too."""
    import conftest
    if conftest.CHROOT:
        pytest.skip("needs own-slurm: the program is linked with this machine's libslurm")
    one = make_cluster(extra="MaxJobCount=20000\n", debug="error")
    program = one.work / "submissions"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", program, conftest.HERE / "submissions.c", "-lslurm"], check=True)
    one.run(program, 10000, "thole", timeout=300)
    lines = one.out("squeue", "-h", "-o", "%b").splitlines()
    assert len(lines) == 10000 and set(lines) == {"gres:shard:1"}
    assert one.run("srun", "--thole-vgpu-memory=1Gi", "true").returncode == 0
    print(f"{len(lines)} of 10000 jobs")


def test_without_root(tmp_path_factory):
    """The same cluster as an ordinary user's, in a user namespace: what is only his own is all his."""
    import conftest
    if conftest.CHROOT:
        pytest.skip("needs own-slurm: an ordinary user cannot bind a chroot's files")
    if os.geteuid() != 0:
        pytest.skip("needs root: to become another user")
    folder = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/thole-slurm.XXXXXX"], capture_output=True, text=True, check=True).stdout.strip())
    plugins, tools = folder / "plugins", folder / "tools"
    plugins.mkdir(), tools.mkdir()
    for file in conftest.PLUGINS.glob("*.so"):
        (plugins / file.name).write_bytes(file.read_bytes())
    for name in ("up", "down", "cluster.py"):
        (tools / name).write_bytes((conftest.HERE / name).read_bytes())
    (tools / "watch.py").write_bytes((conftest.HERE.parent / "watch.py").read_bytes())
    subprocess.run(["chown", "-R", "65534:65534", folder], check=True)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/"]
    try:
        subprocess.run([*user, "/usr/bin/python3", "-B", tools / "up", folder / "c", plugins], check=True, capture_output=True, timeout=120)
        done = subprocess.run([*user, folder / "c/x", "srun", "-N2", "-n4", "--thole-vgpu-memory=10Gi", "sh", "-c", SHOW],
                              check=True, capture_output=True, text=True, timeout=120)
        tasks = found_in(done.stdout)
        assert sorted(t["RANK"] for t in tasks) == ["0", "1", "2", "3"] and all(caps(t) == [10240, 10240] for t in tasks)
    finally:
        subprocess.run([*user, "/usr/bin/python3", "-B", tools / "down", folder / "c"], check=True)
        subprocess.run(["rm", "-rf", folder], check=True)


def test_slurmctld_restarted(cluster):
    """A job that waits keeps what it asked for."""
    job = cluster.sbatch("-H", "--thole-vgpu-memory=7Gi", "-o", cluster.work / "restarted", wrap=SHOW)
    cluster.run("scontrol", "shutdown", "slurmctld")
    cluster.wait_for(lambda: not cluster.pids("slurmctld"), "slurmctld to end")
    cluster.start_slurmctld()
    cluster.wait_for(cluster.is_ready, "slurmctld to be back")
    cluster.run("scontrol", "release", job)
    cluster.wait_state(job, "COMPLETED")
    assert caps(found_in((cluster.work / "restarted").read_text())[0]) == [7168]


def test_slurmd_restarted_while_a_job_runs(cluster):
    begun, flag = cluster.work / "begun", cluster.work / "end"
    job = cluster.sbatch("-w", "n3", "--thole-vgpu-memory=1Gi", wrap=f"touch {begun}; while [ ! -e {flag} ]; do sleep 0.1; done")
    cluster.wait_for(begun.exists, "the script to have begun")
    pid = next(p for p in cluster.pids("slurmd") if b"n3" in cluster.command_line(p).split(b"\0"))
    os.kill(pid, signal.SIGKILL)
    cluster.start_slurmd("n3")
    cluster.wait_for(cluster.is_ready, "n3 to be back")
    assert records(cluster, job)
    flag.touch()
    cluster.wait_state(job, "COMPLETED")
    gone(cluster, job)
    flag.unlink()


def test_damaged_record_refuses_the_task(cluster):
    """And drains no node: it is the job that fails."""
    step = "chmod u+w $0 && echo x >> $0 && srun true"
    damaged = cluster.run("salloc", "-w", "n1", "-n1", "--thole-vgpu-memory=1Gi", "sh", "-c",
                          f"srun sh -c 'echo $THOLE_RECORD' > {cluster.work}/path; sh -c '{step}' $(cat {cluster.work}/path)",
                          check=False)
    assert damaged.returncode != 0 and "damaged" in damaged.stderr, damaged.stderr
    cluster.wait_quiet()
    assert cluster.is_ready()


def test_job_with_a_library_that_is_missing(make_cluster):
    """Slurm's own processes never load the core: a job that does not use it runs, and one that does is told the file."""
    import sys
    one = make_cluster(library="/nowhere/libthole.so.0")
    assert one.run("srun", "-n1", "--thole-vgpu-memory=1Gi", "true").returncode == 0
    done = one.run("env", "-u", "THOLE_LIBRARY", "srun", "-n1", "--thole-vgpu-memory=1Gi", sys.executable, "-c",
                   "import thole; thole.join().allocation", check=False)
    assert done.returncode != 0 and "/nowhere/libthole.so.0" in done.stderr, done.stderr


def test_full_state_folder(make_cluster):
    """A fault of the node: it is drained, and the job waits. Room made, and it runs."""
    one = make_cluster(thole="")
    folder = one.state_folder("n1")
    folder.mkdir(exist_ok=True)
    one.run("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2,mode=755", "none", folder)
    job = one.sbatch("-w", "n1", "--thole-vgpu-memory=1Gi", wrap="true")
    one.wait_for(lambda: "drain" in one.out("sinfo", "-h", "-n", "n1", "-o", "%T"), "n1 to be drained")
    assert "the allocation record cannot be written" in one.log_end("slurmd-n1.log", 400)
    one.run("umount", folder)
    one.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    one.run("scontrol", "release", job, check=False)
    assert one.wait_end(job) == "COMPLETED"


def test_without_the_plugin_on_a_node_with_optional(make_cluster):
    """`optional`, and the plugin is not there: the options are gone, and everything else works."""
    one = make_cluster(spank="")
    done = one.run("srun", "-n1", "--thole", "true", check=False)
    assert done.returncode != 0 and "unrecognized option" in done.stderr
    assert one.run("srun", "-n1", "true").returncode == 0


def test_bad_configuration(make_cluster):
    from cluster import ClusterFailed
    for lines, sentence in {"shard_memory = 1\n": "'1' is no size", "colour = red\n": "there is no 'colour'",
                            "state = run\n": "wants an absolute path", "nonsense\n": "is not of the form name = value",
                            "largest_gpu = 1Mi\n": "the GPU be the larger one"}.items():
        with pytest.raises(ClusterFailed) as failed:
            make_cluster(thole=lines, wait=False).wait_for(lambda: False, "never", seconds=1)
        assert sentence in str(failed.value), f"{lines}: {failed.value}"


def test_exported_symbols():
    """What Slurm looks up, and nothing else; and nothing that would bring the core or C++ along."""
    from conftest import PLUGINS
    expected = {"spank_thole.so": {"plugin_name", "plugin_type", "plugin_version", "spank_plugin_version", "slurm_spank_init",
                                   "slurm_spank_init_post_opt", "slurm_spank_job_prolog", "slurm_spank_job_epilog",
                                   "slurm_spank_task_init_privileged", "slurm_spank_task_init"},
                "job_submit_thole.so": {"plugin_name", "plugin_type", "plugin_version", "init", "fini", "job_submit", "job_modify"}}
    for name, symbols in expected.items():
        text = subprocess.run(["nm", "-D", "--defined-only", PLUGINS / name], capture_output=True, text=True, check=True).stdout
        assert {line.split()[-1] for line in text.splitlines()} == symbols
        needed = subprocess.run(["readelf", "-d", PLUGINS / name], capture_output=True, text=True, check=True).stdout
        assert {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "NEEDED" in line} <= {"libc.so.6"}
