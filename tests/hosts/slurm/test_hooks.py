"""What becomes of a job when one of our hooks fails, is killed or takes long, and when one node has another library."""
import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.fixture
def one(make_cluster):
    return make_cluster()


def hold(file):
    """Whoever reads the file now waits, until what is answered is called."""
    text = file.read_text()
    file.unlink()
    os.mkfifo(file, 0o644)

    def release():
        if file.is_fifo():
            new = file.with_suffix(".new")
            new.write_text(text)
            new.chmod(0o644)
            # Who waits at the pipe gets the text; who comes later, the file.
            try:
                pipe = os.open(file, os.O_WRONLY | os.O_NONBLOCK)
                os.write(pipe, text.encode())
                os.close(pipe)
            except OSError:
                pass  # nobody waits
            new.rename(file)

    return release


def drained(cluster, node):
    return "drain" in cluster.out("sinfo", "-h", "-n", node, "-o", "%T")


def reason(cluster, node):
    return cluster.out("sinfo", "-h", "-n", node, "-o", "%E")


def left(cluster, node, job):
    return list(cluster.state_folder(node).glob(f"*{job}"))


def test_prolog_killed_while_it_runs(one):
    """Slurm takes it for a fault of the node: it drains it and holds the job. Resumed and released, the job runs; nothing is left."""
    release = hold(one.d / "etc/gpus.n1")
    job = one.sbatch("-w", "n1", "--thole-vgpu-memory=1Gi", wrap="cat $THOLE_RECORD")
    found = one.wait_for(lambda: one.pids("spank prolog"), "the prolog to run")
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    one.wait_for(lambda: drained(one, "n1"), "n1 to be drained")
    assert "rolog" in reason(one, "n1"), reason(one, "n1")
    release()
    one.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    one.run("scontrol", "release", job, check=False)
    assert one.wait_end(job) == "COMPLETED"
    one.wait_for(lambda: not left(one, "n1", job), "the record to be gone")
    print(f"{len(found)} of {len(found)} prologs killed: {reason(one, 'n1') or 'resumed'}")


def test_epilog_that_fails(one):
    """What a job leaves cannot be removed: the job has ended well, the node is drained, and the log names the file."""
    script = "d=$(dirname $THOLE_RECORD)/metrics/busy; mkdir $d && mount -t tmpfs none $d" if os.geteuid() == 0 else ""
    if not script:
        pytest.skip("needs root: to mount")
    job = one.sbatch("-w", "n1", "--thole-vgpu-memory=1Gi", wrap=script)
    assert one.wait_end(job) == "COMPLETED"
    one.wait_for(lambda: drained(one, "n1"), "n1 to be drained", seconds=60)
    assert "pilog" in reason(one, "n1"), reason(one, "n1")
    log = one.log_end("slurmd-n1.log", 400)
    assert "thole: epilog:" in log, log
    [folder] = left(one, "n1", job)
    one.run("umount", folder / "metrics/busy")
    one.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    assert one.run("srun", "-w", "n1", "--thole-vgpu-memory=1Gi", "true").returncode == 0
    print(reason(one, "n1") or next(line for line in log.splitlines() if "thole: epilog:" in line))


def test_scancel_while_it_completes(one):
    """COMPLETING, held there by an epilog that waits: scancel changes nothing, and nothing is left."""
    job = one.sbatch("-w", "n1", "--thole-vgpu-memory=1Gi", wrap="touch begun; until [ -e go ]; do sleep 0.1; done")
    one.wait_for((one.work / "begun").exists, "the script to run")  # its own slurmstepd has read the configuration
    release = hold(one.d / "etc/thole.conf")
    (one.work / "go").touch()
    try:
        one.wait_state(job, "COMPLETING")
        done = one.run("scancel", job, check=False)
        one.wait_for(lambda: one.pids("spank epilog"), "the epilog to wait")
        assert "COMPLETING" in one.states(job)
    finally:
        release()
    one.wait_quiet()
    assert one.wait_end(job) in ("COMPLETED", "CANCELLED")
    one.wait_for(lambda: not left(one, "n1", job), "the record to be gone")
    assert not drained(one, "n1")
    print(f"scancel: {done.stderr.strip() or 'accepted'}; the job {one.wait_end(job)}")


OTHER = """\
#include <string.h>
#include <thole/thole.h>
/* A library of another major version, as a node has it that was not updated. */
__attribute__((visibility("default"))) const thole_root *thole_entry_v1(uint32_t major, uint32_t minor, thole_status *status) {
  (void)major; (void)minor;
  status->code = THOLE_UNSUPPORTED;
  strcpy(status->reason, "VersionTooNew");
  strcpy(status->message, "this is libthole 0.0: the caller wants 0.1");
  return NULL;
}
"""


@pytest.mark.parametrize("kind, words", [("missing", "no such file|cannot open"), ("other", "this is libthole 0.0")])
def test_one_node_has_another_library(one, tmp_path, kind, words):
    """The node's ranks say which file it is and why; those of the others run. Slurm's own processes never load it."""
    library = one.d / "other/libthole.so.0"
    library.parent.mkdir()
    if kind == "other":
        (tmp_path / "other.c").write_text(OTHER)
        subprocess.run(["cc", "-shared", "-fPIC", f"-I{ROOT}/abi/include", "-o", library, tmp_path / "other.c"], check=True)
    script = one.work / "join.sh"
    script.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" = n2 ] && export THOLE_LIBRARY={library}\n'
                      f'exec {sys.executable} -c "import thole; print(thole.join().allocation.attempt)"\n')
    script.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "sdk/python")}
    done = one.run("srun", "-w", "n[1-2]", "-N2", "--ntasks-per-node=1", "-l", "--kill-on-bad-exit=0", "--thole-vgpu-memory=1Gi", script, check=False, env=env)
    assert done.returncode != 0
    assert re.search(r"^0: 1$", done.stdout, re.M), done.stdout + done.stderr
    assert re.search(rf"^1: .*({words})", done.stderr, re.M | re.I) and str(library) in done.stderr, done.stderr
    one.wait_quiet()
    assert one.is_ready() and not drained(one, "n2")
