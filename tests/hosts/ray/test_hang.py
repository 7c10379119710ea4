"""A rank that stands still: all the others wait for it, and only it is to blame."""
import os
import signal
import subprocess
import time

import incidents
from running import Running


def test_a_stopped_rank_is_named_and_the_job_goes_on(small, local):
    running = Running(small)
    _, members = running.at_step(50)
    victim = 2
    child = subprocess.run(["ps", "-o", "pid=", "--ppid", str(members[victim]["pid"])], capture_output=True, text=True, check=True).stdout.split()[0]
    stopped = time.time()
    os.kill(int(child), signal.SIGSTOP)
    ended = running.end()
    first = ended["incidents"][0]
    assert ended["result"]["digest"] == local and ended["attempts"] == 2 and len(ended["incidents"]) == 1, ended["incidents"]
    assert (first["kind"], first["rank"]) == ("hang", victim) and "nothing was heard of it" in first["message"], first
    assert first["noticed"] - stopped >= 9, first  # hangTimeout is 10 s
    incidents.record("ray", "rank hung", ended["result"]["digest"], first["noticed"] + first["recoverySeconds"] - stopped)
