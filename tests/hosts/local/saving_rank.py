"""A rank that saves with the thole package, without a framework: a chain of hashes, and some padding.

The ranks meet after every step, and before they save, as those of a training job do in their collectives: one that is
gone or stopped holds up the others. With --in-turn they seal one after the other, so that it is known who commits.
"""
import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import time

import thole

options = argparse.ArgumentParser()
options.add_argument("--steps", type=int, default=12)
options.add_argument("--every", type=int, default=3)
options.add_argument("--pace", type=float, default=0.002, help="seconds after a step is told, before anything else")
options.add_argument("--in-turn", action="store_true")
options.add_argument("--alone", action="store_true", help="the ranks do not meet")
options.add_argument("--outside", default="", help="RANK,FILE: in attempt 1 this rank waits; whoever reads FILE starts it")
options.add_argument("--trace", default="", help="RANK,WHAT...: in attempt 1 this rank runs under `strace WHAT...`")
options = options.parse_args()
rank, ranks, attempt = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["THOLE_ATTEMPT"])


class Meeting:
    """Rank 0 waits until each of the others has come, and lets them go on."""

    def __init__(self):
        at = ("127.0.0.1", int(os.environ["MASTER_PORT"]))
        self.others = []
        if rank == 0:
            with socket.create_server(at) as door:
                self.others = [door.accept()[0] for _ in range(ranks - 1)]
        while rank > 0 and not self.others:
            try:
                self.others = [socket.create_connection(at)]
            except ConnectionRefusedError:
                time.sleep(0.01)

    def meet(self):
        for other in self.others if rank == 0 else []:
            self._hear(other)
        for other in self.others:
            other.sendall(b".")
        if rank > 0:
            self._hear(self.others[0])

    @staticmethod
    def _hear(other):
        if not other.recv(1):
            raise ConnectionError("a peer has gone")


def under_strace(what):
    os.execvp("strace", ["strace", "-qq", *what, sys.executable, *[a for a in sys.argv if not a.startswith("--trace")]])


def wait_outside(file):
    """Another process plays this rank, one that does not descend from the platform."""
    with open(file + ".new", "w") as out:
        json.dump({"environment": dict(os.environ), "command": [sys.executable, *sys.argv]}, out)
    os.replace(file + ".new", file)
    while True:
        time.sleep(60)


def main():
    with thole.join() as run:
        meeting = Meeting() if ranks > 1 and not options.alone else None
        done, state = 0, "start"
        if saved := run.restore():
            done, state = saved["step"], saved["state"]
            print(f"rank {rank}: goes on after step {done}", flush=True)
        while done < options.steps:
            state = hashlib.sha256(f"{state} {done}".encode()).hexdigest()
            done += 1
            run.step(done)
            time.sleep(options.pace)
            if meeting:
                meeting.meet()
            if done % options.every == 0 or done == options.steps:
                for turn in range(ranks if options.in_turn else 1):
                    if not options.in_turn or turn == rank:
                        run.save(done, {"step": done, "state": state, "padding": b"p" * 4096})
                    if meeting:
                        meeting.meet()
        run.report(digest=state)


first = attempt == 1
if first and options.outside.split(",")[0] == str(rank) and "THOLE_OUTSIDE" not in os.environ:
    wait_outside(options.outside.split(",", 1)[1])
if first and options.trace.split(",")[0] == str(rank):
    under_strace(options.trace.split(",", 1)[1].split(" "))
main()
