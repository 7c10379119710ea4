"""A rank and its platform: the protocol of THOLE_SOCKET, stop requests, failures, forks, and life without a platform."""
import json
import signal
import socket
import subprocess
import time

import pytest
from conftest import python, run_python

RANK = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4", "NODE_RANK": "0", "THOLE_ATTEMPT": "3",
        "THOLE_JOB": "digits"}


def start(platform, code, **options):
    return python("-c", "import thole, os, sys, time\n" + code, environment={**RANK, "THOLE_SOCKET": platform.path}, **options)


def finish(process, seconds=30):
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def test_hello_steps_result_and_goodbye(platform):
    process = start(platform, """
with thole.join() as run:
    assert (run.rank, run.world_size, run.local_rank, run.local_world_size, run.node_rank) == (2, 4, 2, 4, 0)
    assert (run.attempt, run.name) == (3, "digits") and thole.join() is run
    for n in (1, 2, 3):
        run.step(n)
    run.report(digest="5eed", accuracy=0.5, good=True, nothing=None, odd=float("nan"))
""")
    code, output = finish(process)
    assert (code, output) == (0, "")
    platform.wait("closed")
    hello = platform.heard[0]["hello"]
    assert hello == {"protocol": 1, "rank": 2, "attempt": 3, "pid": process.pid}
    assert platform.all("step") == [1, 2, 3]
    assert platform.all("result") == [{"digest": "5eed", "accuracy": 0.5, "good": True, "nothing": None, "odd": "nan"}]


def test_alive_comes_twice_a_second_while_the_script_is_busy(platform):
    process = start(platform, "run = thole.join()\nwhile True:\n    pass")
    begin = time.monotonic()
    platform.wait(lambda m: len(platform.all("alive")) >= 4)
    took = time.monotonic() - begin
    process.kill()
    finish(process)
    assert 1.5 < took < 10


def test_a_stop_request(platform):
    process = start(platform, """
run = thole.join()
run.step(1)
while not run.should_stop:
    time.sleep(0.01)
assert run.stop_reason == "cancel" and 8 < run.stop_deadline - time.monotonic() < 9.5, run.stop_deadline
sys.exit(thole.EXIT_STOPPED)
""")
    platform.wait("step")
    platform.say({"something": "newer"})
    platform.say({"stop": {"reason": "cancel", "grace": 9.0}})
    assert finish(process) == (75, "")


def test_sigterm_is_a_stop_request(platform):
    process = start(platform, """
run = thole.join()
run.step(1)
while not run.should_stop:
    time.sleep(0.01)
print(run.stop_reason)
sys.exit(thole.EXIT_STOPPED)
""")
    platform.wait("step")
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (75, "SIGTERM\n")


def test_a_handler_of_the_script_is_kept(platform):
    process = start(platform, """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
run = thole.join()
run.step(1)
time.sleep(30)
""")
    platform.wait("step")
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 7


@pytest.mark.parametrize("block", ["with thole.join() as run:\n    fail(2)", "run = thole.join()\nfail(2)"])
def test_a_failure_is_told_with_its_place(platform, tmp_path, block):
    script = tmp_path / "train.py"
    script.write_text("import json, thole\n"
                      "def fail(n):\n"
                      "    return json.loads('{') if n == 0 else fail(n - 1)\n" + block + "\n")
    process = python(script, environment={**RANK, "THOLE_SOCKET": platform.path})
    code, output = finish(process)
    assert code == 1 and "JSONDecodeError" in output  # Python's own traceback is printed too, once
    assert output.count("Traceback") == 1
    platform.wait("closed")
    (failure,) = platform.all("failure")
    assert failure["type"] == "JSONDecodeError" and failure["place"] == "train.py:3"
    assert failure["message"].startswith("Expecting property name") and "JSONDecodeError" in failure["traceback"][-1]
    assert len(failure["traceback"]) <= 20


def test_a_failure_with_a_huge_message_fits_in_a_line(platform):
    process = start(platform, "run = thole.join()\nraise ValueError('x' * 1000000 + '\\n' + 'y\\n' * 100000)")
    finish(process)
    platform.wait("closed")
    (failure,) = platform.all("failure")
    assert failure["type"] == "ValueError" and len(failure["message"]) == 4000


def test_leaving_on_purpose_is_no_failure(platform):
    process = start(platform, "with thole.join() as run:\n    sys.exit(3)")
    assert finish(process) == (3, "")
    platform.wait("closed")
    assert platform.all("failure") == []


def test_a_forked_child_says_nothing(platform):
    process = start(platform, """
run = thole.join()
run.step(1)
child = os.fork()
if child == 0:
    run.step(99)
    run.report(child=True)
    assert thole.join() is run and not run.should_stop
    time.sleep(1.2)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0
run.step(2)
""")
    assert finish(process) == (0, "")
    platform.wait("closed")
    assert platform.all("step") == [1, 2] and platform.all("result") == [] and len(platform.connections) == 1


def test_a_child_that_lives_on_does_not_keep_the_connection(platform):
    process = start(platform, """
run = thole.join()
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
""", stdin=subprocess.PIPE)
    assert process.wait(timeout=30) == 0
    platform.wait("closed")
    process.communicate(timeout=30)


def test_a_platform_that_does_not_read_holds_nothing_up(tmp_path):
    path = str(tmp_path / "s")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    process = python("-c", """
import thole, time
run = thole.join()
began = time.monotonic()
for n in range(200000):
    run.step(n + 1)
print(time.monotonic() - began < 20)
run.close()
""", environment={**RANK, "THOLE_SOCKET": path})
    connection, _ = server.accept()
    process.wait(timeout=60)  # it has been sent more than the socket holds, and went on to its end
    assert process.stdout.read() == "True\n"
    connection.settimeout(5)
    data = b""
    while piece := connection.recv(1 << 20):
        data += piece
    lines = data.split(b"\n")
    assert json.loads(lines[0])["hello"]["rank"] == 2
    steps = [json.loads(line)["step"] for line in lines[:-1] if b"step" in line]
    assert steps == sorted(steps) and len(steps) < 200000


def test_a_platform_that_goes_away_is_said_once(platform):
    process = start(platform, """
run = thole.join()
run.step(1)
while run._platform.connected:
    time.sleep(0.01)
run.step(2)
run.report(fine=True)
""")
    platform.wait("step")
    platform.close()
    for connection in platform.connections:
        connection.shutdown(socket.SHUT_RDWR) if connection.fileno() >= 0 else None
    code, output = finish(process)
    assert code == 0 and output.count("the platform has gone") == 1


@pytest.mark.parametrize("path", ["/nowhere/at/all", "x" * 200])
def test_a_socket_that_cannot_be_used_is_said_and_survived(path):
    code, output = run_python("import thole\nwith thole.join() as run:\n    run.step(1)", {**RANK, "THOLE_SOCKET": path})
    assert code == 0 and "cannot be used" in output


def test_without_a_platform():
    code, output = run_python("""
import thole
with thole.join() as run:
    assert (run.rank, run.world_size, run.attempt) == (0, 1, 1)
    run.step(1)
    assert run.restore(like={"a": 1}) is None and run.save(1, {"a": 1}) is None and not run.save_due(10)
    run.report(x=1)
    thole.metrics.counter("a", "b").add()
    assert not run.should_stop
""", {"THOLE_LIBRARY": "/nowhere/libthole.so.0"})
    assert (code, output) == (0, "")


@pytest.mark.parametrize("environment, sentence", [
    ({"RANK": "two"}, "RANK is 'two'"), ({"RANK": "4", "WORLD_SIZE": "4"}, "ranks count from 0"), ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
    ({"THOLE_ATTEMPT": "0"}, "THOLE_ATTEMPT"), ({"THOLE_STORE": "/x"}, "THOLE_RUN"), ({"THOLE_CHECKPOINT_KEEP": "-1"}, "THOLE_CHECKPOINT_KEEP")])
def test_a_bad_environment_is_a_sentence(environment, sentence):
    code, output = run_python("import thole\nthole.join()", environment)
    assert code == 1 and sentence in output


def test_reports_are_scalars_only(platform):
    process = start(platform, """
import numpy
run = thole.join()
run.report(n=numpy.float32(0.5), i=numpy.int64(3))
try:
    run.report(bad=[1])
except TypeError as error:
    print(error)
""")
    code, output = finish(process)
    assert code == 0 and "no JSON scalar" in output
    assert platform.wait("result")["result"] == {"n": 0.5, "i": 3}
