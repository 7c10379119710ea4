"""A real Slurm on this machine, for tests: munge, slurmctld and several slurmd with fake GPUs, in namespaces of its own.

All of it lies in one folder. `down` kills the first process of the pid namespace, and with it everything in it: no process,
mount or port is left. It works as root, and as an ordinary user within a user namespace; jobs are then that one user's.
"""
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from watch import processes_left, wait_for  # noqa: E402

UNIT_MIB = 1024  # a shard of the sample configuration
PLUGIN_FOLDER = "/usr/lib/x86_64-linux-gnu/slurm-wlm"
PATIENCE = float(os.environ.get("THOLE_TEST_PATIENCE", "120"))  # seconds, for events on a machine that is busy

SLURM_CONF = """\
ClusterName=test
SlurmctldHost=ctl(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={d}/munge/s,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=6817
SlurmctldPidFile={d}/run/slurmctld.pid
SlurmdPidFile={d}/run/slurmd-%n.pid
SlurmdSpoolDir={d}/spool/%n
StateSaveLocation={d}/slurmctld
SlurmctldLogFile={d}/log/slurmctld.log
SlurmdLogFile={d}/log/slurmd-%n.log
SlurmctldDebug={debug}
SlurmdDebug={debug}
PlugStackConfig={d}/etc/plugstack.conf
PluginDir={plugin_folder}:{d}/plugins
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={d}/log/jobcomp
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
MailProg=/bin/true
MpiDefault=none
MpiParams=ports=12000-12999
ReturnToService=2
KillWait=5
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=10
DefMemPerCPU=100
GresTypes=gpu,shard
PrologFlags={prolog_flags}
JobRequeue=1
NodeName=n[1-{nodes}] NodeHostname=ctl NodeAddr=127.0.0.1 Port=[7001-{last_port}] CPUs=8 RealMemory=16000 Gres=gpu:sim:{gpus},shard:{shards} State=UNKNOWN
"""
PARTITION = "PartitionName=gpu Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP\n"

# munge and Slurm need a name that resolves, and an address besides 127.0.0.1 for getaddrinfo's AI_ADDRCONFIG.
INIT = """\
set -e
mount -t proc proc /proc
hostname ctl
ip link set lo up
ip addr add 127.0.0.2/8 dev lo
mount --bind '{d}/etc/hosts' '{root}/etc/hosts'
{chroot}
: > '{d}/run/ready'
set +e
exec {enter} /bin/bash -c 'sleep infinity & while :; do wait; done' thole-test-init '{d}'
"""
INIT_CHROOT = """\
mount -t tmpfs tmpfs '{root}/tmp'
mkdir -p '{root}{d}'
mount --bind '{d}' '{root}{d}'
mount -t proc proc '{root}/proc'
mount --rbind /dev '{root}/dev'
mount --rbind /sys '{root}/sys'
"""


class ClusterFailed(Exception):
    pass


class Cluster:
    """One cluster in one folder. Options that are not given are those of the sample configuration."""

    def __init__(self, folder, nodes=4, gpus=2, shards_per_gpu=32):
        self.d = pathlib.Path(folder).absolute()
        if len(str(self.d)) > 60:
            raise ClusterFailed(f"{self.d}: too long for the path of a socket, 60 bytes are the most")
        self.root = ""
        self.nodes, self.gpus, self.shards_per_gpu = nodes, gpus, shards_per_gpu
        self.names = [f"n{i + 1}" for i in range(nodes)]

    # --- Up and down. -----------------------------------------------------------------------------------------------

    def up(self, plugins=None, spank="required", job_submit=True, prolog_flags="Alloc,Contain", extra="", thole="",
           library="", root="", debug="verbose", wait=True, plugstack="", copies=(), binds=(), partitions=""):
        """Starts it. `plugins`: a folder with spank_thole.so and job_submit_thole.so, or None for a Slurm without us;
        `plugstack`, `extra`, `thole`: more lines of plugstack.conf ({d} is the folder), slurm.conf and thole.conf; `copies` are
        files that go to {d}/plugins; `root`: a chroot with another Slurm, in which the
        folders `binds` are seen, too."""
        self.down()
        self.root = root
        self._write(plugins, spank, job_submit, prolog_flags, extra, thole, library, root, debug, plugstack, copies,
                    partitions)
        self._start_namespace(root, binds)
        self.daemon("/usr/sbin/munged", "--force", f"--key-file={self.d}/munge/key", f"--socket={self.d}/munge/s",
                    f"--pid-file={self.d}/run/munged.pid", f"--log-file={self.d}/log/munged.log",
                    f"--seed-file={self.d}/munge/seed")
        self.start_slurmctld()
        for name in self.names:
            self.start_slurmd(name)
        if wait:
            self.wait_for(self.is_ready, "all nodes to be idle")
        return self

    def down(self):
        """Ends all of it; nothing is left but what the caller has outside the folder."""
        holder = self._holder()
        if holder:
            os.kill(holder, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while pathlib.Path(f"/proc/{holder}").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        shutil.rmtree(self.d, ignore_errors=True)
        if self.d.exists():
            raise ClusterFailed(f"{self.d} cannot be removed")

    def _holder(self):
        try:
            pid = int((self.d / "init.pid").read_text())
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if b"thole-test-init" in line and str(self.d).encode() in line else None

    def start_slurmctld(self, *options):
        self.daemon("/usr/sbin/slurmctld", *options)

    def start_slurmd(self, name):
        self.daemon("/usr/sbin/slurmd", "-N", name)

    def daemon(self, *argv):
        done = self.run(*argv, check=False)
        if done.returncode != 0:
            raise ClusterFailed(f"{argv[0]}: {done.stdout}{done.stderr}\n{self.log_end('slurmctld.log')}")

    def is_ready(self):
        done = self.run("sinfo", "-h", "-N", "-o", "%N %t", check=False, timeout=20)
        idle = {line.split()[0] for line in done.stdout.splitlines() if line.split()[1] in ("idle", "mix", "alloc", "comp")}
        return len(idle) == self.nodes

    # --- Inside. ----------------------------------------------------------------------------------------------------

    def enter(self):
        """The argv that runs a command inside."""
        return [str(self.d / "x")]

    def run(self, *argv, check=True, timeout=PATIENCE, **more):
        done = subprocess.run([*self.enter(), *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=timeout, check=False, **more)
        if check and done.returncode != 0:
            raise ClusterFailed(f"{argv}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def out(self, *argv, **more):
        return self.run(*argv, **more).stdout.strip()

    def wait_for(self, seen, what, seconds=PATIENCE):
        """Until `seen()` answers something true, which is returned."""
        try:
            return wait_for(seen, what, seconds, said=lambda: self.log_end("slurmctld.log"))
        except TimeoutError as late:
            raise ClusterFailed(str(late)) from None

    def log_end(self, name, lines=15):
        try:
            return "\n".join((self.d / "log" / name).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    # --- Jobs. ------------------------------------------------------------------------------------------------------

    def sbatch(self, *options, script=None, wrap=None):
        """Submits; answers the job's id."""
        argv = ["sbatch", "--parsable", "-D", str(self.work), *map(str, options)]
        argv += ["--wrap", wrap] if wrap is not None else [str(script)]
        return self.out(*argv, timeout=PATIENCE).split(";")[0]

    def jobs(self, job):
        """What scontrol says of a job: a dict for each of its tasks or components."""
        text = self.run("scontrol", "-d", "-o", "show", "job", job, check=False).stdout
        return [dict(re.findall(r"(\S+?)=(.*?)(?=\s+\S+?=|$)", line)) for line in text.splitlines() if "JobId=" in line]

    def field(self, job, name):
        found = self.jobs(job)
        return found[0].get(name, "") if found else ""

    def states(self, job):
        return [j.get("JobState", "") for j in self.jobs(job)]

    def wait_state(self, job, *wanted, seconds=PATIENCE):
        self.wait_for(lambda: (s := self.states(job)) and all(x in wanted for x in s),
                      f"job {job} to be {' or '.join(wanted)}; it is {self.states(job)}", seconds)
        return self.states(job)[0]

    def wait_end(self, job, seconds=PATIENCE):
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "OUT_OF_MEMORY")
        return self.wait_state(job, *ends, seconds=seconds)

    def wait_quiet(self):
        """Until no job runs or completes, so that all epilogs have run."""
        self.wait_for(lambda: not self.out("squeue", "-h", "-t", "R,CG,CF,S"), "the cluster to be quiet")

    def pids(self, command):
        """Pids, as seen from outside, of the cluster's processes whose program or title has this name."""
        space = os.readlink(f"/proc/{self._holder()}/ns/pid")
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == space and (
                        command == (entry / "comm").read_text().strip()
                        or command in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def command_line(self, pid):
        """Empty if the process is gone."""
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    # --- What it is made of. ----------------------------------------------------------------------------------------

    @property
    def work(self):
        return self.d / "work"

    def state_folder(self, node):
        return self.d / "state" / node

    def _write(self, plugins, spank, job_submit, prolog_flags, extra, thole, library, root, debug, plugstack,
               copies, partitions):
        d = self.d
        for name in ("etc", "run", "log", "slurmctld", "dev", "munge", "plugins", "state", "spool", "work"):
            (d / name).mkdir(parents=True, exist_ok=True)
            (d / name).chmod(0o755)
        self.work.chmod(0o1777)
        for name in self.names:
            (d / "spool" / name).mkdir()
        for i in range(self.gpus):
            self._make_device(d / "dev" / f"nvidia{i}")
        key = d / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = f"{d}/dev/nvidia[0-{self.gpus - 1}]" if self.gpus > 1 else f"{d}/dev/nvidia0"
        (d / "etc/gres.conf").write_text(
            f"AutoDetect=off\nName=gpu Type=sim File={files}\n" +
            "".join(f"Name=shard Count={self.shards_per_gpu} File={d}/dev/nvidia{i}\n" for i in range(self.gpus)))
        (d / "etc/hosts").write_text("127.0.0.1 localhost ctl " + " ".join(self.names) + "\n")
        if root:
            (d / "etc/cgroup.conf").write_text("CgroupPlugin=disabled\n")
        conf = SLURM_CONF.format(d=d, user=os.geteuid(), nodes=self.nodes, last_port=7000 + self.nodes, gpus=self.gpus,
                                 shards=self.gpus * self.shards_per_gpu, prolog_flags=prolog_flags, debug=debug,
                                 plugin_folder=PLUGIN_FOLDER)
        conf += partitions or PARTITION.format(nodes=self.nodes)
        plugstack = plugstack.replace("{d}", str(d))
        for file in copies:
            shutil.copy(file, d / "plugins")
        if plugins is not None:
            for plugin in pathlib.Path(plugins).glob("*.so"):
                shutil.copy(plugin, d / "plugins")
            if spank:
                plugstack += f"{spank} {d}/plugins/spank_thole.so config={d}/etc/thole.conf\n"
            if job_submit:
                conf += "JobSubmitPlugins=thole\n"
        (d / "etc/plugstack.conf").write_text(plugstack)
        (d / "etc/slurm.conf").write_text(conf + extra)
        for name in self.names:
            (d / f"etc/gpus.{name}").write_text(
                "".join(f"{i} SIM-{name}-gpu{i} {self.shards_per_gpu * UNIT_MIB}\n" for i in range(self.gpus)))
        (d / "etc/thole.conf").write_text(
            f"shard_memory = 1Gi\nlargest_gpu = {self.shards_per_gpu}Gi\nstate = {d}/state/%n\ngpus = {d}/etc/gpus.%n\n"
            + (f"library = {library}\n" if library else "") + thole)
        for file in (d / "etc").iterdir():
            file.chmod(0o644)

    @staticmethod
    def _make_device(path):
        """A character device that is no GPU. Anybody may make 0,0, which nobody can open; Slurm only looks at it."""
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(0, 0))
        path.chmod(0o666)

    def _start_namespace(self, root, binds):
        d = self.d
        user = [] if os.geteuid() == 0 else ["-U", "--map-current-user", "--keep-caps"]
        enter = f"chroot '{root}'" if root else ""
        chroot = INIT_CHROOT.format(d=d, root=root) if root else ""
        for folder in binds if root else ():
            chroot += f"mkdir -p '{root}{folder}'\nmount --bind '{folder}' '{root}{folder}'\n"
        script = INIT.format(d=d, root=root, chroot=chroot, enter=enter)
        with open(d / "log/namespace.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                ["unshare", *user, "-m", "-p", "-n", "-u", "-f", "--kill-child=KILL", "/bin/bash", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self._environment())
        deadline = time.monotonic() + PATIENCE
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (d / "run/ready").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ClusterFailed("no namespace: " + (d / "log/namespace.log").read_text())
            time.sleep(0.02)
        init = children.read_text().split()[0]
        (d / "init.pid").write_text(init)
        options = ["-t", init, *(["-U", "--preserve-credentials"] if user else []), "-m", "-p", "-n", "-u"]
        place = ["-r", "-w"] if root else []
        (d / "x").write_text("#!/bin/sh\nexec " + " ".join(["nsenter", *options, *place, "/usr/bin/env",
                             f"SLURM_CONF={d}/etc/slurm.conf", f"THOLE_SLURM_CONF={d}/etc/thole.conf"]) + ' "$@"\n')
        (d / "x").chmod(0o755)

    @staticmethod
    def _environment():
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"}


if __name__ == "__main__":
    sys.exit("cluster.py is used by up and down")
