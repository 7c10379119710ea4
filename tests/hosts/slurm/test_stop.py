"""Slurm takes a job's nodes away: its ranks save first, and it goes on later, or ends."""
import json
import re
import shutil

from conftest import SAMPLE, Thole

PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=n[1-4] PriorityTier=10 MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n[1-4] Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
"""


def long_digits(cluster, steps, **spec):
    """The sample, with more train steps."""
    folder = cluster.work / "long"
    shutil.copytree(SAMPLE.parent, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    text = (folder / "job.yaml").read_text().replace("[python3, train.py]", f"[python3, train.py, --steps, '{steps}']")
    for name, value in spec.items():
        text = re.sub(rf"^  {name}:.*\n", "", text, flags=re.M) + f"  {name}: {value}\n"
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def test_time_limit_gives_a_last_checkpoint(cluster, thole):
    job = thole.submit(long_digits(cluster, 1000000, timeLimit="1m", gracePeriod="15s"))["id"]
    assert cluster.wait_end(job, seconds=240) in ("FAILED", "TIMEOUT")
    stopped = re.findall(r"^0\| rank 0: stopped after step (\d+)", thole.logs(), re.M)
    status = thole.status()
    assert len(stopped) == 1 and status["newestCheckpoint"] == int(stopped[0]), thole.logs()
    assert status["attempts"] == 1 and status["exitCode"].startswith("75:")


def test_preempted_job_saves_and_goes_on(make_cluster):
    one = make_cluster(partitions=PREEMPTION)
    thole = Thole(one, "preempted")
    thole.submit(long_digits(one, 1000000))
    thole.wait_step(50)
    urgent = one.sbatch("-p", "urgent", "-N4", "--exclusive", "--mem=100", wrap="sleep 1")
    assert one.wait_end(urgent, seconds=240) == "COMPLETED"
    first = thole.logs("digits", "--attempt", "1")
    [stopped] = re.findall(r"^0\| rank 0: stopped after step (\d+)", first, re.M)
    one.wait_for(lambda: "goes on after" in thole.logs("digits", "--attempt", "2"), "the next attempt")
    assert f"rank 0: goes on after step {stopped}" in thole.logs("digits", "--attempt", "2")
    assert thole.status()["incidents"] == []
    thole("cancel", "--now", "digits")


def job_file(cluster, name, command, **role):
    path = cluster.work / f"{name}.yaml"
    path.write_text(json.dumps({
        "apiVersion": "thole.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
        "spec": {"roles": [{"name": "worker", "members": 4, "cpu": "250m", "memory": "64Mi", "command": command, **role}]}}))
    return path


def test_what_always_fails_is_given_up(cluster, thole):
    """The recovery service stops it: three attempts without progress, and the job's own exit code."""
    job = thole.submit(job_file(cluster, "fails", ["sh", "-c", "exit 3"]))["id"]
    cluster.wait_for(lambda: thole.status("fails")["state"] == "FAILED", "the end", seconds=240)
    status = thole.status("fails")
    assert [i["attempt"] for i in status["incidents"]] == [1, 2, 3]
    assert {(i["kind"], i["code"]) for i in status["incidents"]} == {("exit", 3)}
    assert status["exitCode"] == "3:0" and cluster.field(job, "Restarts") == "2"


def test_whole_gpus_by_task(cluster, thole):
    """Each of two tasks on a node has one GPU of its own in the record, and Slurm spreads what is not said."""
    name = "whole"
    command = ["sh", "-c", "grep -c whole $THOLE_RECORD"]
    thole.submit(job_file(cluster, name, command, gpus={"count": 1}), "--nodes", "2")
    cluster.wait_end(thole.status(name)["id"])
    assert sorted(thole.logs(name).split()) == sorted("0| 2 1| 2 2| 2 3| 2".split())
    thole.submit(job_file(cluster, "spread", ["sh", "-c", "echo rank $RANK of $WORLD_SIZE"]))
    cluster.wait_end(thole.status("spread")["id"])
    assert thole.logs("spread").splitlines() == [f"{r}| rank {r} of 4" for r in range(4)]


def test_bad_job_files(cluster, thole):
    """A reason, a sentence, an exit code, and nothing in the queue or the state folder."""
    answers = {
        ("vgpu", "DeviceTooSmall"): dict(vgpu={"memory": "40Gi"}), ("mig", "NoMig"): dict(mig={"profile": "1g"}),
        ("count", "RolesContradict"): dict(vgpu={"memory": "1Gi", "count": 2}), ("min", "RolesContradict"): dict(min=2),
        ("rack", "TopologyUnknown"): dict(topology=[{"level": "rack", "mode": "required"}]),
    }
    for (name, reason), role in answers.items():
        done = thole("--json", "submit", job_file(cluster, name, ["true"], **role), check=False)
        assert done.returncode in (65, 69) and json.loads(done.stdout)["error"]["reason"] == reason, done.stderr
        assert not (thole.state / "slurm" / name).exists()
    missing = thole("submit", "/nowhere.yaml", check=False)
    assert missing.returncode == 66 and "/nowhere.yaml" in missing.stderr
    assert thole("status", "nobody", check=False).returncode == 66
    running = thole.submit(job_file(cluster, "twice", ["sleep", "600"]))
    again = thole("submit", job_file(cluster, "twice", ["sleep", "600"]), check=False)
    assert again.returncode != 0 and "JobExists" in again.stderr
    thole("cancel", "--now", "twice")
    assert cluster.wait_end(running["id"]) == "CANCELLED"
    print(f"{len(answers)} of {len(answers)} files refused")
