"""The digits sample, unchanged, on two nodes, killed in each way that a cluster has: the parameters are those of the local run."""
import os
import pathlib
import re
import signal
import time

import incidents
import pytest

from conftest import SAMPLE


def ranks(cluster):
    """Pids of the training processes, from outside."""
    return [pid for pid in cluster.pids("train.py") if b"python" in cluster.command_line(pid).split(b"\0")[0]]


def test_dry_run_says_what_would_be_submitted(thole):
    text = thole("submit", "--dry-run", SAMPLE).stdout
    for line in ("#SBATCH --nodes=2", "#SBATCH --ntasks=4", "#SBATCH --ntasks-per-node=2", "#SBATCH --thole-vgpu-memory=10Gi",
                 "#SBATCH --thole-vgpu-share=25", "#SBATCH --requeue", "export THOLE_CHECKPOINT_INTERVAL=20"):
        assert line in text.splitlines()
    assert not thole.state.exists()


def test_unbroken(cluster, thole, local_digest):
    job = thole.submit()["id"]
    cluster.wait_for(lambda: len(ranks(cluster)) == 4, "four ranks")
    assert thole.wait_digest() == local_digest
    assert cluster.field(job, "NumNodes") == "2" and cluster.field(job, "NumTasks") == "4"
    assert f"JobId={job} " in (cluster.d / "log/jobcomp").read_text()
    again = thole("submit", "--dry-run", SAMPLE)
    assert again.returncode == 0
    print(f"digest {local_digest} = {local_digest}")


def kill_task(cluster):
    os.kill(ranks(cluster)[-1], signal.SIGKILL)


def node_of(cluster, pid):
    found = re.search(rb"\0SLURMD_NODENAME=(\w+)", b"\0" + pathlib.Path(f"/proc/{pid}/environ").read_bytes())
    return found.group(1).decode() if found else ""


def kill_slurmstepd(cluster):
    """The parent of a task of the second node. Slurm may or may not notice before the task has ended."""
    [task, *_] = [pid for pid in ranks(cluster) if node_of(cluster, pid) == "n2"]
    parent = int(re.search(r"PPid:\s+(\d+)", pathlib.Path(f"/proc/{task}/status").read_text()).group(1))
    assert b"slurmstepd" in cluster.command_line(parent)
    os.kill(parent, signal.SIGKILL)


def slurmd_of(cluster, node):
    return next(p for p in cluster.pids("slurmd")
                if cluster.command_line(p).split(b"\0")[1:3] == [b"-N", node.encode()])


def kill_slurmd(cluster):
    """Of the second node, for good. Its tasks live on."""
    os.kill(slurmd_of(cluster, "n2"), signal.SIGKILL)


def kill_node(cluster):
    """Everything of Slurm's and of the job's on the second node, as if it had lost its power."""
    tasks = [pid for pid in ranks(cluster) if node_of(cluster, pid) == "n2"]
    parents = {int(re.search(r"PPid:\s+(\d+)", pathlib.Path(f"/proc/{t}/status").read_text()).group(1)) for t in tasks}
    for pid in [slurmd_of(cluster, "n2"), *parents, *tasks]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kill, restarts", [(kill_task, True), (kill_slurmstepd, False), (kill_slurmd, False), (kill_node, True)])
def test_killed(cluster, thole, local_digest, kill, restarts):
    try:
        job = thole.submit(SAMPLE)["id"]
        thole.wait_step(75)
        kill(cluster)
        begun = time.monotonic()
        cluster.wait_for(lambda: re.search("goes on after step|^0. digest ", thole.logs(), re.M), "an attempt that goes on, or the end")
        seconds = time.monotonic() - begun
        digest = thole.wait_digest()
        after = re.findall(r"goes on after step (\d+)", thole.logs())
        lives = int(cluster.field(job, "Restarts")) + 1
        assert digest == local_digest
        assert lives > 1 or not restarts
        assert lives == 1 or (len(after) == 4 and len(set(after)) == 1 and int(after[0]) >= 60)
        print(f"{kill.__name__}: {lives} attempts, on after step {after[:1]}")
        incidents.record("slurm", kill.__name__.replace("kill_", "") + " killed", digest, seconds if lives > 1 else None)
    finally:
        if kill in (kill_slurmd, kill_node):
            cluster.start_slurmd("n2")
            cluster.run("scontrol", "update", "NodeName=n2", "State=RESUME", check=False)
            cluster.wait_for(cluster.is_ready, "n2 to be back")


def test_cancel_saves_first(cluster, thole):
    thole.submit()
    thole.wait_step(50)
    assert "asked to save first" in thole("cancel", "digits").stdout
    cluster.wait_end(thole.status()["id"])
    status = thole.status()
    assert status["newestCheckpoint"] >= 50 and "stopped after step" in thole.logs()
    assert status["incidents"] == []


def test_key_is_nowhere(cluster, thole):
    """Its bytes are in no answer of Slurm's, no log and no environment, and nobody else can read it."""
    job = thole.submit()["id"]
    thole.wait_step(25)
    status = thole.status()
    key = pathlib.Path(status["key"])
    secret = key.read_bytes()
    words = [word for word in re.findall(rb"[0-9A-Za-z+/=_-]{16,}", secret)] or [secret]
    looked = 0
    texts = [cluster.run("scontrol", "-d", "show", "job", job).stdout.encode(), cluster.run("scontrol", "write", "batch_script", job, "-").stdout.encode()]
    texts += [path.read_bytes() for path in [*cluster.d.joinpath("log").iterdir(), *pathlib.Path(status["folder"]).rglob("*")] if path.is_file()]
    texts += [pathlib.Path(f"/proc/{pid}/environ").read_bytes() for pid in ranks(cluster)]
    for text in texts:
        assert not any(word in text for word in words)
        looked += 1
    assert str(key).encode() in texts[-1], "its path may be known"
    other = cluster.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "srun", "-D", "/", "-n1", "cat", key, check=False)
    assert other.returncode != 0 and "Permission denied" in other.stderr
    thole("cancel", "--now", "digits")
    print(f"{looked} of {len(texts)} places without the key")
