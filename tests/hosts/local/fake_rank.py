"""A rank without a framework: speaks the job's side of the protocol, and does with its train steps what it is told to.

Its whole state is a chain of hashes; every `--every` steps rank 0 writes it beside the others' (a checkpoint for the
poor: one file, replaced at once). So an interrupted run ends with the digest of an unbroken one, or with another one.
"""
import argparse
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time

options = argparse.ArgumentParser()
options.add_argument("--steps", type=int, default=20)
options.add_argument("--pace", type=float, default=0.01)
options.add_argument("--every", type=int, default=5)
options.add_argument("--keep", default="", help="folder of the checkpoints; none: not saved")
options.add_argument("--first-step", type=float, default=0.0, help="seconds that the first step takes")
options.add_argument("--fail", default="", help="RANK,STEP,HOW: raise, exit, exit0, hang, linger, memory")
options.add_argument("--once", action="store_true", help="fail in the first attempt only")
options.add_argument("--ignore-stop", action="store_true")
options.add_argument("--leave-child", action="store_true", help="a grandchild in a session of its own lives on")
options.add_argument("--last-words", type=int, default=0, help="lines that are printed at the end")
options = options.parse_args()

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
attempt = int(os.environ["THOLE_ATTEMPT"])
platform = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
platform.connect(os.environ["THOLE_SOCKET"])
lock = threading.Lock()
stop = threading.Event()


def tell(**message):
    with lock:
        try:
            platform.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass


def beat():
    while True:
        tell(alive=True)
        time.sleep(0.5)


def listen():
    for line in platform.makefile():
        if "stop" in json.loads(line):
            stop.set()


def fail_now(how):
    if how == "exit":
        os._exit(7)
    if how == "exit0":
        os._exit(0)
    if how == "linger":  # as a process that is being taken down for long: its connection has ended, it has not
        platform.shutdown(socket.SHUT_RDWR)
    if how in ("hang", "linger"):
        threading.Event().wait()
    kind = MemoryError if how == "memory" else ValueError
    tell(failure={"type": kind.__name__, "message": "as it was told", "place": "fake_rank.py:1",
                  "traceback": ["Traceback (most recent call last):", f"{kind.__name__}: as it was told"]})
    raise kind("as it was told")


tell(hello={"protocol": 1, "rank": rank, "attempt": attempt, "pid": os.getpid()})
threading.Thread(target=beat, daemon=True).start()
threading.Thread(target=listen, daemon=True).start()
signal.signal(signal.SIGTERM, signal.SIG_IGN if options.ignore_stop else lambda *_: stop.set())
if options.leave_child and rank == 0 and os.fork() == 0:
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    os._exit(0)

file = os.path.join(options.keep, "checkpoint") if options.keep else ""
done, state = 0, "start"
if file and os.path.exists(file):
    done, state = json.load(open(file))
    tell(restored={"step": done, "bytes": len(state), "seconds": 0.001})
bad_rank, bad_step, how = (options.fail.split(",") + ["", "", ""])[:3]


def save():
    tell(sealing={"step": done})
    if rank == 0 and file:
        with open(file + ".new", "w") as out:
            json.dump([done, state], out)
        os.replace(file + ".new", file)
    tell(checkpoint={"step": done, "committed": rank == ranks - 1, "missing": 0, "bytes": 1000, "file_bytes": 1100,
                     "seconds": 0.001})


while done < options.steps:
    time.sleep(options.first_step if options.first_step and done == 0 else options.pace)
    state = hashlib.sha256(f"{state} {done}".encode()).hexdigest()
    done += 1
    tell(step=done)
    if how and rank == int(bad_rank) and done == int(bad_step) and not (options.once and attempt > 1):
        fail_now(how)
    leaving = stop.is_set() and not options.ignore_stop
    if done % options.every == 0 or leaving:
        save()
    if leaving and done < options.steps:
        print(f"rank {rank}: stopped after step {done}", flush=True)
        sys.exit(75)
for n in range(options.last_words):
    print(f"rank {rank}: line {n}", flush=True)
tell(result={"digest": state})
