"""docs/guide/slurm.md, word for word, on a fresh Debian 12: every block in its order, in one shell, from `sdk/setup/install` on."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest
from conftest import CHROOT, ROOT
from watch import processes_left

GUIDE = ROOT / "docs/guide/slurm.md"
ENTER = """\
set -e
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount -t proc proc "$1/proc"
mount --bind /etc/ssl/certs "$1/etc/ssl/certs"
exec chroot "$1" /bin/bash -c 'cd /thole && exec /bin/bash /guide.sh' thole-test-guide "$1"
"""


def missing():
    if CHROOT:
        return "needs own-slurm: the guide is of this machine's release"
    if os.environ.get("THOLE_TEST_LONG") != "1":
        return "needs long: it makes a Debian and builds everything in it, a quarter of an hour"
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        return "needs mmdebstrap, as root"
    return ""


@pytest.fixture
def debian():
    """A Debian 12 with nothing but its minimum and certificates, and this checkout in it."""
    if reason := missing():
        pytest.skip(reason)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="thole-debian.", dir="/tmp"))
    mirror = subprocess.run("apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' 'Component: main' | sort -u | head -n 1",
                            shell=True, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm", folder, mirror], check=True)
    files = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True).stdout
    (folder / "thole").mkdir()
    subprocess.run(f"tar -C '{ROOT}' --null --ignore-failed-read -T - -c | tar -C '{folder}/thole' -x", shell=True, input=files, check=True)
    for name in ("etc/pip.conf", "etc/hosts", "etc/resolv.conf"):
        if pathlib.Path("/", name).exists():
            shutil.copy(pathlib.Path("/", name), folder / name)
    for file in pathlib.Path("/etc/apt/apt.conf.d").glob("99*"):
        shutil.copy(file, folder / "etc/apt/apt.conf.d")
    yield folder
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


def test_word_for_word_on_a_fresh_debian(debian, local_digest):
    blocks = re.findall(r"^```sh[^\n]*\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    script = "set -euo pipefail\n" + "".join(f"echo '--- block {n} of {len(blocks)}'\n{text}" for n, text in enumerate(blocks, 1))
    (debian / "guide.sh").write_text(script)
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "REQUESTS_")) or k.lower().endswith("_proxy")}
    done = subprocess.run(["unshare", "-m", "-p", "-f", "--kill-child=KILL", "/bin/bash", "-c", ENTER, "enter", debian], capture_output=True, text=True,
                          timeout=3000, check=False, stdin=subprocess.DEVNULL, errors="replace",
                          env={**kept, "HOME": "/home", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
    assert re.search(rf"^0\| digest {local_digest} ", done.stdout, re.M), done.stdout[-5000:]
    assert done.stdout.count("thole-record 1") == 4, "the job by hand has four tasks with a record each"
    assert not processes_left(debian)
    print(f"{len(blocks)} of {len(blocks)} blocks on a fresh Debian 12; digest {local_digest} = {local_digest}")
