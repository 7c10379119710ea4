"""Slurm takes a job's nodes away: its ranks save first, and it goes on later, or ends."""
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
