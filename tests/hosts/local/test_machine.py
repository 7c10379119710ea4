"""What the machine does: a port that is taken, a clock that is set back, memory and storage that run out, GPUs that another
user holds, a driver that is not there."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from platform_tools import HERE, Host, job_file, kill, pool_file, processes_of, tmpfs
from test_processes import chain, left

BUILD = pathlib.Path(os.environ.get("THOLE_TEST_BUILD", ""))


def saving(host, *options, steps=6, name="fake", **spec):
    return job_file(host.folder, [sys.executable, HERE / "saving_rank.py", "--steps", steps, "--every", 2, *options], name=name,
                    **{"checkpoint": {"interval": 2, "keep": 2}, **spec})


# --- Ports. --------------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_after_it_was_chosen(host):
    """Between choice and use anybody may take it: the next attempt has another one."""
    script = host.folder / "rank.py"
    script.write_text(
        "import os, socket, sys\n"
        "port, first = int(os.environ['MASTER_PORT']), os.environ['THOLE_ATTEMPT'] == '1'\n"
        "open(os.environ['OUT'] + os.environ['THOLE_ATTEMPT'], 'w').write(str(port))\n"
        "thief = socket.create_server(('127.0.0.1', port)) if first else None\n"
        "socket.create_server(('127.0.0.1', port))\n")
    job = job_file(host.folder, [sys.executable, script], members=1, role={"env": {"OUT": str(host.folder / "port-")}})
    code, end, said = host.run(job)
    assert code == 0 and end["attempts"] == 2, said
    assert "Address already in use" in said, "the log says why"
    assert (host.folder / "port-1").read_text() != (host.folder / "port-2").read_text()


# --- Clocks. -------------------------------------------------------------------------------------------------------------

CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long shift(void) {
  const char *file = getenv("SHIFTED_WHEN_THERE");
  return file != NULL && access(file, F_OK) == 0 ? 86400 : 0;
}
int clock_gettime(clockid_t id, struct timespec *t) {
  const int r = (int)syscall(SYS_clock_gettime, id, t);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec -= shift();
  return r;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to != NULL) *to = now.tv_sec;
  return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_clock_is_set_back_by_a_day(host):
    """While a job runs, and between two commands: hangs, checkpoints, ledger and resume do not depend on it."""
    (host.folder / "clock.c").write_text(CLOCK)
    shim, shifted = host.folder / "clock.so", host.folder / "shifted"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, host.folder / "clock.c"], check=True)
    clock = {"LD_PRELOAD": str(shim), "SHIFTED_WHEN_THERE": str(shifted)}
    process = host.start("--json", "run", saving(host, "--pace", 0.1, steps=400, recovery={"hangTimeout": "5s"}), "--pool", host.pool, **clock)
    host.wait_for(lambda s: s["newestStep"] >= 4)
    shifted.touch()
    reached = host.raw()["newestStep"]
    state = host.wait_for(lambda s: s["newestStep"] >= reached + 40 and s["checkpointsCommitted"] > 3)
    assert not state["incidents"], "nothing hangs because a clock was set back"
    kill(process)
    done = host("--json", "status", "fake", **clock)
    assert json.loads(done.stdout)["phase"] == "running"
    code, _, said = host.run(host.fake("--steps", 3, name="other", save=False), **clock)
    assert code == 0, said
    newest = json.loads(host("--json", "ckpt", "ls", "fake", **clock).stdout)["checkpoints"]
    steps = [c["step"] for c in newest if c["state"] == "committed"]
    assert steps == sorted(steps, reverse=True) and steps[0] > reached, "the newest is the newest, whatever its date"
    process = host.start("--json", "resume", "fake", **clock)
    host.wait_for(lambda s: s["attempt"] == 2 and s["newestStep"] > steps[0])
    assert host("cancel", "fake", **clock).returncode == 0
    process.communicate(timeout=60)
    assert host.raw()["phase"] == "stopped" and not left(host)


# --- Memory. -------------------------------------------------------------------------------------------------------------


def memory_group(limit):
    """A memory cgroup of version 1 or 2 with a limit, or None where none can be made."""
    for root, limit_file, swap_file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
                                        ("/sys/fs/cgroup", "memory.max", "memory.swap.max")):
        group = pathlib.Path(root) / f"thole-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit_file).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            (group / swap_file).write_text(str(limit) if "memsw" in swap_file else "0")
        except OSError:
            pass
        return group
    return None


def test_a_rank_that_the_kernel_kills_for_memory(host):
    """It is told apart from one that somebody killed. Where no cgroup can be made, only the latter is looked at."""
    group = memory_group(200 << 20)
    eats = ("import os, time\n"
            "if os.environ['THOLE_ATTEMPT'] == '1' and os.environ['RANK'] == '1':\n"
            "    eaten = b'x' * (400 << 20) if os.environ['EATS'] else os.kill(os.getpid(), 9)\n")
    job = job_file(host.folder, [sys.executable, "-c", eats], role={"env": {"EATS": "1" if group else ""}})
    command = host.arguments("--json", "run", job, "--pool", host.pool)
    if group:
        command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        if group:
            group.rmdir()
    end = json.loads(done.stdout)
    assert done.returncode == 0 and end["attempts"] == 2, done.stderr
    incident, = end["incidents"]
    assert (incident["rank"], incident["code"]) == (1, 9)
    if group:
        assert incident["kind"] == "memory" and "memory was out" in incident["message"], incident
    else:
        assert incident["kind"] == "signal" and "SIGKILL" in incident["message"], incident
    print(f"\n{'killed by the kernel' if group else 'no cgroup: killed by itself'}: {incident['message']}")


def test_memory_that_may_not_be_had(host):
    """The limit of the process, not of the machine: a MemoryError, which a platform would not see but for the report."""
    eats = ("import os, resource, thole\n"
            "with thole.join():\n"
            "    if os.environ['THOLE_ATTEMPT'] == '1' and os.environ['RANK'] == '1':\n"
            "        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
            "        eaten = bytearray(2 << 30)\n")
    code, end, said = host.run(job_file(host.folder, [sys.executable, "-c", eats]))
    assert code == 0 and (end["incidents"][0]["kind"], end["incidents"][0]["rank"]) == ("memory", 1), said


# --- Storage. ------------------------------------------------------------------------------------------------------------


def test_a_small_dev_shm(host):
    """Nothing of the platform or the package lies there."""
    line = " ".join(host.arguments("--json", "run", saving(host), "--pool", host.pool))
    done = subprocess.run(["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=4k tmpfs /dev/shm && {line}"],
                          capture_output=True, text=True, timeout=120)
    if not done.stdout:
        pytest.skip(f"needs mount: {done.stderr.strip()}")
    assert done.returncode == 0 and json.loads(done.stdout)["result"]["digest"] == chain(6), done.stderr


def test_a_state_folder_that_is_full(host):
    """There is no room for the job's state: a reason, and nothing is left; and with room, it runs."""
    with tmpfs(host.folder / "small", "size=64k,nr_inodes=200") as small:
        host.state = small / "state"
        done = host("--json", "run", saving(host), "--pool", host.pool)
        assert done.returncode in (74, 77), (done.stdout, done.stderr)
        assert json.loads(done.stdout)["error"]["reason"] in ("StateUnwritable", "StoreFull"), done.stdout
        assert not left(host)
        subprocess.run(["mount", "-o", "remount,size=16m,nr_inodes=0", small], check=False)
        code, end, said = host.run(saving(host))
        assert code == 0 and end["result"]["digest"] == chain(6), said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to mount HOME read-only")
def test_a_home_that_is_read_only(host):
    with tmpfs(host.folder / "home", "size=64k") as home:
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        env = {**os.environ, "HOME": str(home)}
        env.pop("XDG_STATE_HOME", None)
        done = subprocess.run([host.arguments()[0], "--json", "run", str(saving(host)), "--pool", str(host.pool)],
                              capture_output=True, text=True, env=env)
        assert done.returncode == 77 and json.loads(done.stdout)["error"]["reason"] == "StateUnwritable", done.stderr
        assert "--state" in done.stderr
        code, end, said = host.run(saving(host), HOME=str(home))
        assert code == 0 and end["result"]["digest"] == chain(6), said


# --- GPUs. ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpus(host):
    """The environment of a machine whose driver says that it has two GPUs. They are not there, but nothing says `simulated`:
    what is tested is what the platform does with real ones."""
    driver = BUILD / "tests" / "contract" / "plugins" / "fake"
    if not (driver / "libnvidia-ml.so.1").exists():
        pytest.skip("nvml.h was not there when this was built")
    locks = host.folder / "locks"
    return {"LD_LIBRARY_PATH": str(driver), "THOLE_GPU_LOCKS": str(locks)}


def gpu_job(host, *options, name="fake", gpus=1, members=1):
    job = host.fake(*options, name=name, members=members, save=False)
    spec = json.loads(job.read_text())
    spec["spec"]["roles"][0].pop("vgpu")
    spec["spec"]["roles"][0]["gpus"] = {"count": gpus}
    job.write_text(json.dumps(spec))
    return job


def test_a_gpu_that_another_ledger_holds(host, gpus, tmp_path):
    """Two state folders are two ledgers: who comes second is refused, with the reason, and gets it later."""
    first = host.start("run", gpu_job(host, "--steps", 4000), **gpus)
    state = host.wait_for(lambda s: s["newestStep"] >= 1)
    held = state["members"][0]["grants"][0]["uuid"]
    assert held.startswith("GPU-") and state["simulated"] is False and state["backend"] == "exclusive"
    (tmp_path / "second").mkdir()
    second = Host(tmp_path / "second")
    done = second("--json", "run", gpu_job(second, "--steps", 3), **gpus)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["reason"]) == (69, "GpuHeldByOther"), done.stderr
    assert held in error["message"] and "another state folder" in error["message"]
    assert not (second.state / "jobs" / "fake").exists() and not left(second)
    # In the ledger of the first there is another GPU: a second job of that user has it.
    code, end, said = (lambda d: (d.returncode, json.loads(d.stdout), d.stderr))(
        host("--json", "run", gpu_job(host, "--steps", 3, name="two"), **gpus))
    assert code == 0 and end["gang"][0]["devices"][0]["uuid"] != held and "simulated" not in said, said
    kill(first, 2)
    done = second("--json", "run", gpu_job(second, "--steps", 3), **gpus)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be two users")
def test_a_gpu_that_another_user_holds(host, gpus):
    first = host.start("run", gpu_job(host, "--steps", 4000, members=2), **gpus)
    host.wait_for(lambda s: s["newestStep"] >= 1)
    with tmpfs(host.folder / "nobody", "size=512m") as theirs:
        # They cannot enter root's folders: they have a copy of all that they need.
        built = [host.arguments()[0], BUILD / "sdk" / "libthole.so.0", *(BUILD / "plugins").glob("*thole-device-nvml.*"),
                 pathlib.Path(gpus["LD_LIBRARY_PATH"]) / "libnvidia-ml.so.1"]
        for file in built:
            shutil.copy(file, theirs)
        job = gpu_job(host, name="job")
        job.write_text(job.read_text().replace(json.dumps(sys.executable), '"sh"'))
        shutil.copy(job, theirs)
        subprocess.run(["chown", "-R", "65534:65534", theirs], check=True)
        for folder in host.folder.parents:
            if str(folder).startswith("/tmp/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        host.folder.chmod(0o755)
        env = {**os.environ, **gpus, "LD_LIBRARY_PATH": str(theirs), "THOLE_PLUGINS": str(theirs), "HOME": str(theirs)}
        done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", theirs / "thole", "--json",
                               "run", theirs / job.name], capture_output=True, text=True, env=env, cwd="/")
    kill(first, 2)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["reason"]) == (69, "GpuHeldByOther"), done.stderr
    assert "user 0" in error["message"], error


def test_two_jobs_share_a_gpu_of_one_ledger(host, gpus):
    def job(name, *options):
        return host.fake(*options, name=name, members=1, save=False)

    first = host.start("run", job("one", "--steps", 4000), **gpus)
    held = host.wait_for(lambda s: s["newestStep"] >= 1, "one")["members"][0]["grants"][0]
    done = host("--json", "run", job("two", "--steps", 3), **gpus)
    end = json.loads(done.stdout)
    assert done.returncode == 0 and end["backend"] == "none" and end["simulated"] is False, done.stderr
    assert end["gang"][0]["devices"][0]["uuid"] == held["uuid"], "best fit: the GPU that is used already"
    usage = {g["uuid"]: g["holders"] for g in json.loads(host("--json", "pool", **gpus).stdout)["gpus"]}
    assert usage[held["uuid"]] == 1 and sum(usage.values()) == 1
    kill(first, 2)


def test_what_a_rank_of_a_real_gpu_finds(host, gpus):
    out = host.folder / "environment"
    job = host.fake(name="fake", members=2, save=False)
    spec = json.loads(job.read_text())
    spec["spec"]["roles"][0]["command"] = ["sh", "-c", f"echo $CUDA_VISIBLE_DEVICES > {out}.$RANK"]
    spec["spec"]["roles"][0]["vgpu"]["memory"] = "100Gi"
    job.write_text(json.dumps(spec))
    done = host("--json", "run", job, **gpus)
    assert done.returncode == 0, done.stderr
    found = [pathlib.Path(f"{out}.{r}").read_text().strip() for r in (0, 1)]
    given = [m["devices"][0]["uuid"] for m in json.loads(done.stdout)["gang"]]
    assert found == given and len(set(found)) == 2 and all(f.startswith("GPU-") for f in found)


@pytest.mark.parametrize("pool", ("this machine", "a pool that is not simulated"))
def test_no_driver_is_a_reason_and_never_a_simulation(host, pool, tmp_path):
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("needs no-gpu: this machine has one")
    if not (BUILD / "plugins" / "libthole-device-nvml.so").exists():
        pytest.skip("nvml.h was not there when this was built")
    options = []
    if pool != "this machine":
        path = pool_file(tmp_path)
        spec = json.loads(path.read_text())
        spec["spec"].pop("simulated")
        spec["spec"]["gpus"].pop("memory")
        path.write_text(json.dumps(spec))
        options = ["--pool", path]
    for command in ("run", "plan", "explain"):
        done = host("--json", command, host.fake("--steps", 3), *options)
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["reason"]) == (69, "NoDriver"), (command, done.stdout, done.stderr)
        assert "--pool" in error["message"] and '"simulated": true' not in done.stdout
    assert json.loads(host("--json", "pool", *options).stdout)["error"]["reason"] == "NoDriver"
    assert not (host.state / "jobs" / "fake").exists() and not left(host)


def test_a_driver_that_fails_is_a_reason_too(host, gpus):
    for failing in ("fail init 999", "fail count 999"):
        done = host("--json", "run", host.fake("--steps", 3), **gpus, FAKE_NVML=failing)
        error = json.loads(done.stdout)["error"]
        assert done.returncode == 69 and error["reason"] in ("NoDriver", "DriverFailed", "DeviceFailed"), (failing, error)
        assert not left(host)


def test_a_job_that_asks_for_no_gpu_runs_where_there_is_no_driver(host):
    job = host.fake("--steps", 3, save=False)
    spec = json.loads(job.read_text())
    spec["spec"]["roles"][0].pop("vgpu")
    job.write_text(json.dumps(spec))
    done = host("--json", "run", job)
    assert done.returncode == 0 and json.loads(done.stdout)["simulated"] is False, done.stderr
    assert not processes_of(str(host.state))
