"""What a job is given, on each way to start one, and that it comes from the allocation."""
import json
import re

import pytest

SHOW = r"""python3 -c '
import json, os
keep = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NAIVE_CAP",
        "CUDA_VISIBLE_DEVICES", "SLURM_SHARDS_ON_NODE", "THOLE_ATTEMPT", "THOLE_RUN")
found = {k: v for k, v in os.environ.items() if k in keep}  # srun keeps lines of up to 1,024 bytes together
found["record"] = open(os.environ["THOLE_RECORD"]).read() if "THOLE_RECORD" in os.environ else ""
found["writable"] = os.access(os.environ.get("THOLE_RECORD", "/"), os.W_OK) and os.geteuid() != 0
print("FOUND " + json.dumps(found))'"""


QUOTE, ESCAPED = "'", "'\\''"


def found_in(text):
    return [json.loads(line.split("FOUND ", 1)[1]) for line in text.splitlines() if "FOUND " in line]


def caps(task):
    return [int(word) for word in re.findall(r"^device \S+ vgpu (\d+) ", task["record"], re.M)]


def batch(cluster, *options, body=SHOW, wait="COMPLETED"):
    output = cluster.work / f"out-{abs(hash(options)) % 10**8}-%A_%a"
    script = cluster.work / "batch.sh"
    script.write_text("#!/bin/bash\n" + body + "\n")
    job = cluster.sbatch("-o", output, *options, script=script)
    cluster.wait_state(job, wait)
    return job, "".join(p.read_text() for p in sorted(cluster.work.glob(output.name.replace("%A_%a", f"{job}_*"))))


def test_srun(cluster):
    tasks = found_in(cluster.run("srun", "-N2", "-n4", "--thole-vgpu-memory=10Gi", "--thole-vgpu-share=25", "sh", "-c", SHOW).stdout)
    tasks.sort(key=lambda t: int(t["RANK"]))
    assert [t["RANK"] for t in tasks] == ["0", "1", "2", "3"]
    assert [t["LOCAL_RANK"] for t in tasks] == ["0", "1", "0", "1"]
    assert [t["NODE_RANK"] for t in tasks] == ["0", "0", "1", "1"]
    assert {t["WORLD_SIZE"] for t in tasks} == {"4"} and {t["LOCAL_WORLD_SIZE"] for t in tasks} == {"2"}
    assert len({(t["MASTER_ADDR"], t["MASTER_PORT"]) for t in tasks}) == 1
    assert {t["THOLE_ATTEMPT"] for t in tasks} == {"1"} and len({t["THOLE_RUN"] for t in tasks}) == 1
    assert {t["CUDA_VISIBLE_DEVICES"] for t in tasks} == {""}  # simulated GPUs are not shown to CUDA
    assert all(caps(t) == [10240, 10240] and " 250 simulated " in t["record"] for t in tasks)
    assert not any(t["writable"] for t in tasks)


def test_salloc_and_its_steps(cluster):
    """Each step within an allocation finds the same record; one with fewer tasks is a smaller world."""
    done = cluster.run("salloc", "-N2", "-n4", "--thole-vgpu-memory=3Gi", "sh", "-c",
                       f"srun sh -c '{SHOW.replace(QUOTE, ESCAPED)}'; "
                       f"srun -N1 -n1 sh -c '{SHOW.replace(QUOTE, ESCAPED)}'")
    tasks = found_in(done.stdout)
    assert [t["WORLD_SIZE"] for t in tasks] == ["4"] * 4 + ["1"]
    assert all(caps(t) == [3072, 3072] for t in tasks)


def test_batch_script_and_array(cluster):
    job, text = batch(cluster, "--array=0-3", "--thole-vgpu-memory=2Gi")
    tasks = found_in(text)
    assert len(tasks) == 4 and all(caps(t) == [2048] for t in tasks)
    assert {t["RANK"] for t in tasks} == {"0"} and {t["WORLD_SIZE"] for t in tasks} == {"1"}
    runs = {t["THOLE_RUN"] for t in tasks}
    assert len(runs) == 4, "each task of an array is a run of its own"
    print(f"{len(runs)} of 4 runs")


def test_share_takes_its_part_of_the_memory(cluster):
    """Half of the compute is half of the GPU's shards, so that shares never add up to more than one."""
    tasks = found_in(cluster.run("srun", "--thole-vgpu-memory=1Gi", "--thole-vgpu-share=50", "sh", "-c", SHOW).stdout)
    assert caps(tasks[0]) == [16384] and tasks[0]["SLURM_SHARDS_ON_NODE"] == "16"


def test_whole_gpus(cluster):
    tasks = found_in(cluster.run("srun", "-N1", "-n2", "--ntasks-per-node=2", "--gres=gpu:2", "--thole", "sh", "-c", SHOW).stdout)
    assert all(len(re.findall(r"^device SIM-\S+ whole 32768 1000 simulated", t["record"], re.M)) == 2 for t in tasks)


def test_two_share_a_gpu_and_the_third_waits(cluster, thole):
    """And why it waits, with the largest hole, is in scontrol show job."""
    flag = cluster.work / "go"
    hold = f"while [ ! -e {flag} ]; do sleep 0.1; done"
    options = ["-w", "n1", "--mem=100"]
    sharing = [cluster.sbatch(*options, "--thole-vgpu-memory=16Gi", wrap=hold) for _ in range(2)]
    for job in sharing:
        cluster.wait_state(job, "RUNNING")
    held = [re.search(r"IDX:(\d+)|\((\d+)/", cluster.field(job, "GRES")).group(0) for job in sharing]
    assert held[0] == held[1], f"both on one GPU: {held}"
    others = [cluster.sbatch("-w", node, "--mem=100", "--thole-vgpu-memory=20Gi", wrap=hold)
              for node in ("n1", "n2", "n2", "n3", "n3", "n4", "n4")]
    for job in others:
        cluster.wait_state(job, "RUNNING")
    third = cluster.sbatch("--mem=100", "--thole-vgpu-memory=14Gi", wrap="true")
    cluster.wait_for(lambda: cluster.field(third, "Reason") == "Resources", "the third to wait for resources")
    thole("watch", "--once")
    comment = cluster.field(third, "AdminComment")
    assert comment.startswith("thole: GangNoFitInCluster: 14 GiB on one GPU of each of 1 nodes are wanted, and free on 0; "
                              "the largest hole is 12 GiB on n"), comment
    explained = thole("explain", third, check=False)
    assert explained.returncode == 69 and "the largest hole is 12 GiB" in explained.stdout
    flag.touch()
    cluster.wait_state(third, "COMPLETED")
    for job in sharing + others:
        cluster.wait_end(job)
    flag.unlink()


def heterogeneous(cluster, name, *arguments, head=""):
    script = cluster.work / f"{name}.sh"
    script.write_text(f"#!/bin/bash\n{head}srun --het-group=0,1 sh -c '{SHOW.replace(QUOTE, ESCAPED)}'\n")
    job = cluster.out("sbatch", "--parsable", "-D", cluster.work, "-o", cluster.work / f"{name}.out", *arguments, script)
    cluster.wait_end(job)
    text = (cluster.work / f"{name}.out").read_text()
    tasks = sorted(found_in(text), key=lambda t: int(t["RANK"]))
    assert [t["RANK"] for t in tasks] == ["0", "1"] and {t["WORLD_SIZE"] for t in tasks} == {"2"}, text
    assert len({(t["MASTER_ADDR"], t["MASTER_PORT"]) for t in tasks}) == 1
    shards = [int(re.search(r"shard:(\d+)", j["TresPerNode"]).group(1)) for j in cluster.jobs(job)]
    return tasks, shards


def test_heterogeneous_job_keeps_each_cap(cluster):
    """One component's option reaches all of them: seen on the naive plugin, closed in ours."""
    tasks, shards = heterogeneous(cluster, "het", "-n1", "--thole-vgpu-memory=1Gi", "--naive-memory=1024", ":", "-n1",
                                  "--thole-vgpu-memory=2Gi", "--naive-memory=2048")
    assert len({t["NAIVE_CAP"] for t in tasks}) == 1, "the trap has gone: does Slurm do it by component now?"
    assert [caps(t) for t in tasks] == [[1024], [2048]] and shards == [1, 2]


def test_heterogeneous_job_in_a_script(cluster):
    """Slurm 22.05 reads plugins' options of the first component only from `#SBATCH` lines: the cap is what was allocated."""
    head = "#SBATCH -n1 --thole-vgpu-memory=1Gi\n#SBATCH hetjob\n#SBATCH -n1 --thole-vgpu-memory=2Gi\n"
    tasks, shards = heterogeneous(cluster, "script", head=head)
    assert [caps(t) for t in tasks] == [[1024 * n] for n in shards]


def test_a_step_cannot_raise_its_cap(cluster):
    step = SHOW.replace(QUOTE, ESCAPED)
    naive = cluster.run("salloc", "-n1", "--gres=shard:1", "--naive-memory=1024", "sh", "-c",
                        "srun --naive-memory=80000 sh -c 'echo cap $NAIVE_CAP'")
    assert "cap 80000" in naive.stdout, "the trap has gone: Slurm does not let a step override any more?"
    refused = cluster.run("salloc", "-n1", "--thole-vgpu-memory=1Gi", "sh", "-c",
                          f"srun --thole-vgpu-memory=30Gi sh -c '{step}'", check=False)
    assert "a step runs within what its job was given" in refused.stderr and not found_in(refused.stdout)
    # A client that says nothing of the kind: it deceives only itself.
    forged = cluster.run("salloc", "-n1", "--thole-vgpu-memory=1Gi", "sh", "-c",
                         "env SLURM_SPANK_THOLE_VGPU_MEMORY=30720 SLURM_SPANK__SLURM_SPANK_OPTION_thole_thole_vgpu_memory=30Gi "
                         f"srun --thole-vgpu-memory=30Gi sh -c '{step}'", check=False)
    assert [caps(t) for t in found_in(forged.stdout)] == [[1024]], forged.stderr


def test_a_step_of_another_job_is_refused(cluster):
    """--thole on a step whose job has no record: nothing is made up."""
    done = cluster.run("salloc", "-n1", "sh", "-c", "srun --thole true", check=False)
    assert done.returncode != 0 and "no allocation record" in done.stderr
    cluster.wait_quiet()
    assert cluster.is_ready(), "a user's mistake drains no node"


def test_the_reference_reader_reads_it(cluster, tmp_path):
    """The C program of docs/reference/allocation-record.md, and the core, through the Python package."""
    import pathlib
    import subprocess

    import thole.allocation
    page = (pathlib.Path(__file__).resolve().parents[3] / "docs/reference/allocation-record.md").read_text()
    (tmp_path / "read.c").write_text(re.search(r"```c\n(.*?)```", page, re.S).group(1))
    subprocess.run(["cc", "-o", tmp_path / "read", tmp_path / "read.c"], check=True)
    task = found_in(cluster.run("srun", "-n1", "--thole-vgpu-memory=5Gi", "--thole-vgpu-share=12.5", "sh", "-c", SHOW).stdout)[0]
    (tmp_path / "record").write_text(task["record"])
    said = subprocess.run([tmp_path / "read", tmp_path / "record"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"SIM-n\d-gpu\d 5120 MiB|.*5120 MiB, share 125/1000, held by simulated\n", said)
    mine = thole.allocation.read(str(tmp_path / "record"))
    assert mine.devices[0].memory_mib == 5120 and mine.attempt == 1 and mine.devices[0].backend == "simulated"


@pytest.mark.parametrize("state", ["pending", "running"])
def test_scancel(cluster, state):
    job = cluster.sbatch(*(["-H"] if state == "pending" else []), "--thole-vgpu-memory=1Gi", wrap="sleep 600")
    if state == "running":
        cluster.wait_state(job, "RUNNING")
    cluster.run("scancel", job)
    assert cluster.wait_end(job) == "CANCELLED"
    cluster.wait_quiet()
    left = [path for node in cluster.names for path in cluster.state_folder(node).glob(f"*{job}")]
    cluster.wait_for(lambda: not any(path.exists() for path in left), "the record to be gone")
