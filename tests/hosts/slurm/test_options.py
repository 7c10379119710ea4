"""What a user may write, and what is refused: at once, by name, with nothing left in the queue."""
import pytest

WRONG = {
    "no unit": (["--thole-vgpu-memory=10"], "UnitBad: --thole-vgpu-memory: '10' is no size"),
    "a word": (["--thole-vgpu-memory=much"], "UnitBad: --thole-vgpu-memory: 'much' is no size"),
    "empty": (["--thole-vgpu-memory="], "UnitBad: --thole-vgpu-memory: '' is no size"),
    "GB": (["--thole-vgpu-memory=10GB"], "UnitBad: --thole-vgpu-memory: '10GB' is no size"),
    "fraction": (["--thole-vgpu-memory=1.5Gi"], "UnitBad: --thole-vgpu-memory: '1.5Gi' is no size"),
    "negative": (["--thole-vgpu-memory=-1Gi"], "UnitBad: --thole-vgpu-memory: '-1Gi' is no size"),
    "zero": (["--thole-vgpu-memory=0Gi"], "out of bounds"),
    "huge": (["--thole-vgpu-memory=99999999999999999999Gi"], "is no size"),
    "above 1Pi": (["--thole-vgpu-memory=1025Ti"], "out of bounds"),
    "share alone": (["--thole-vgpu-share=25"], "FieldMissing: --thole-vgpu-share"),
    "share of 0": (["--thole-vgpu-memory=1Gi", "--thole-vgpu-share=0"], "FieldBad: --thole-vgpu-share: '0' is no share"),
    "share above 100": (["--thole-vgpu-memory=1Gi", "--thole-vgpu-share=100.1"], "FieldBad: --thole-vgpu-share"),
    "share as a word": (["--thole-vgpu-memory=1Gi", "--thole-vgpu-share=half"], "FieldBad: --thole-vgpu-share"),
    "larger than a GPU": (["--thole-vgpu-memory=33Gi"], "DeviceTooSmall: a vGPU of 33Gi is larger than any GPU here"),
    "too many for a GPU": (["-N1", "-n4", "--thole-vgpu-memory=10Gi"], "at most 3 tasks on each"),
    "tasks without nodes": (["-n4", "--thole-vgpu-memory=1Gi"], "RequestBad: how many of the 4 tasks share a node"),
    "uneven": (["-N3", "-n4", "--thole-vgpu-memory=1Gi"], "RequestBad: how many of the 4 tasks share a node"),
    "with GPUs": (["--gres=gpu:1", "--thole-vgpu-memory=1Gi"], "RolesContradict"),
    "shards by hand": (["--gres=shard:3", "--thole"], "RolesContradict"),
}


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc"])
def test_wrong_options(cluster, command):
    named = 0
    for name, (options, sentence) in WRONG.items():
        what = {"sbatch": ["--wrap", "true"], "srun": ["true"], "salloc": ["true"]}[command]
        done = cluster.run(command, "-D" if command != "salloc" else "--chdir", cluster.work, *options, *what, check=False)
        assert done.returncode != 0, name
        assert f"thole: {sentence}" in done.stderr or sentence in done.stderr, f"{name}: {done.stderr}"
        named += 1
    assert cluster.out("squeue", "-h", "-n", "wrap,true") == ""
    print(f"{named} of {len(WRONG)} named")


def test_edges(cluster):
    """One step inside of each bound."""
    for options in (["--thole-vgpu-memory=32Gi"], ["-N1", "-n3", "--thole-vgpu-memory=10Gi"],
                    ["--thole-vgpu-memory=1Gi", "--thole-vgpu-share=100"],
                    ["--thole-vgpu-memory=1Mi", "--thole-vgpu-share=0.1"]):
        assert cluster.run("srun", *options, "true").returncode == 0


def test_help(cluster):
    for command in ("sbatch", "srun", "salloc"):
        text = cluster.out(command, "--help")
        for option in ("--thole ", "--thole-vgpu-memory=SIZE", "--thole-vgpu-share=PERCENT"):
            assert option in text


def test_other_jobs_are_left_alone(cluster):
    """Without a --thole option nothing of ours is in a job."""
    done = cluster.run("srun", "-n1", "--gres=gpu:1", "env")
    assert not [line for line in done.stdout.splitlines() if line.startswith(("THOLE_RUN=", "THOLE_RECORD=", "THOLE_ATTEMPT=", "RANK="))]
    assert "CUDA_VISIBLE_DEVICES=0" in done.stdout


def test_what_a_client_forges(cluster):
    """Nobody has to use our client: slurmctld checks again, and only its own word reaches the prolog."""
    forged = "1 run=00 tasks=1 shards=99 unit=1024 share=0"
    done = cluster.run("env", f"NAIVE_FORGE={forged}", "srun", "--thole-vgpu-memory=1Gi", "true", check=False)
    assert done.returncode != 0 and "FieldBad: 'THOLE_ALLOCATION=" in done.stderr


def test_shards_of_a_submitted_job_stay(cluster):
    job = cluster.sbatch("-H", "--thole-vgpu-memory=4Gi", wrap="true")
    done = cluster.run("scontrol", "update", f"JobId={job}", "Gres=shard:1", check=False)
    assert done.returncode != 0
    assert "shard:4" in cluster.field(job, "TresPerNode")
    cluster.run("scancel", job)


def test_refused_to_start_without_prolog_flags(make_cluster):
    """Without Alloc the prolog would believe a user's srun."""
    from cluster import ClusterFailed
    for flags in ("Alloc", "NoHold", "Contain,Alloc"):
        if flags == "Contain,Alloc":
            assert make_cluster(prolog_flags=flags).is_ready()
            continue
        with pytest.raises(ClusterFailed) as failed:
            make_cluster(prolog_flags=flags, wait=False).wait_for(lambda: False, "never", seconds=1)
        assert "PrologFlags=Alloc,Contain must be in slurm.conf" in str(failed.value)
