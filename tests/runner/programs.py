"""Runs GoogleTest executables and pytest, and reads what they say about each of their tests."""

import concurrent.futures
import glob
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree

from results import FAILED, PASSED, SKIPPED

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
TIME_LIMIT = 900  # seconds for one program
PYTEST_FILES = ("test_*.py", "*_test.py")


def last_lines(text, count=30):
    return "\n".join(text.strip().splitlines()[-count:])


def run_gtests(suite, executables, environment=None, jobs=2):
    """Runs the executables side by side and adds each of their tests."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(lambda path: _run_gtest(path, environment), executables):
            for name, result, detail in outcome:
                suite.add(name, result, detail)


def _run_gtest(path, environment):
    program = os.path.basename(path)
    # Libraries that stand in for a machine's, such as a driver that is not there.
    fake = os.path.join(os.path.dirname(path), "fake")
    more = {"LD_LIBRARY_PATH": fake} if os.path.isdir(fake) else {}
    with tempfile.TemporaryDirectory(prefix="thole-test.") as work:
        report = os.path.join(work, "report.json")
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [path, f"--gtest_output=json:{report}"],
                cwd=work,
                env={**os.environ, **(environment or {}), **more, "TMPDIR": work},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [(program, FAILED, f"did not end within {TIME_LIMIT} s")]
        print(f"    {program} {time.monotonic() - begun:.1f} s", flush=True)
        output = done.stdout + done.stderr
        try:
            with open(report, encoding="utf-8") as file:
                found = _gtest_cases(program, json.load(file), output)
        except (OSError, ValueError):
            return [(program, FAILED, f"ended with {done.returncode} before its report:\n{last_lines(output)}")]
        if not found:
            return [(program, FAILED, "has no tests")]
        if done.returncode != 0 and all(result != FAILED for _, result, _ in found):
            found.append((program, FAILED, f"exit code {done.returncode}:\n{last_lines(output)}"))
        return found


def _gtest_cases(program, report, output):
    found = []
    for group in report.get("testsuites", []):
        for case in group.get("testsuite", []):
            name = f"{program}: {group['name']}.{case['name']}"
            if case.get("status") == "NOTRUN":
                found.append((name, FAILED, "disabled: a test runs or says what it needs"))
            elif "failures" in case:
                found.append((name, FAILED, "\n".join(f["failure"] for f in case["failures"])))
            elif case.get("result") == "SKIPPED":
                found.append((name, SKIPPED, _gtest_skip_text(case, group["name"], output)))
            else:
                found.append((name, PASSED, ""))
    return found


def _gtest_skip_text(case, group, output):
    """GoogleTest 1.12 writes the words of a skip to its output only."""
    begun = output.find(f"[ RUN      ] {group}.{case['name']}\n")
    ended = output.find("[  SKIPPED ]", begun)
    text = output[begun:ended] if 0 <= begun < ended else ""
    lines = [line for line in text.splitlines()[1:] if line.strip() and not line.endswith(": Skipped")]
    return " ".join(lines).strip() or "no reason given"


def run_pytest(suite, folder, python, environment=None):
    """Runs pytest over a folder and adds each test."""
    name = os.path.relpath(folder, ROOT)
    if not any(glob.glob(os.path.join(folder, "**", pattern), recursive=True) for pattern in PYTEST_FILES):
        suite.add(name, FAILED, "has no tests")
        return
    with tempfile.TemporaryDirectory(prefix="thole-test.") as work:
        report = os.path.join(work, "report.xml")
        command = [python, "-B", "-u", "-m", "pytest", "-v", "-p", "no:cacheprovider",
                   "-o", f"python_files={' '.join(PYTEST_FILES)}", f"--basetemp={work}/t", f"--junitxml={report}", folder]
        code, said = _follow(command, {**os.environ, **(environment or {}), "TMPDIR": work})
        try:
            root = xml.etree.ElementTree.parse(report).getroot()
        except (OSError, xml.etree.ElementTree.ParseError):
            suite.add(name, FAILED, f"exit code {code}:\n{last_lines(said)}")
            return
        cases = list(root.iter("testcase"))
        for case in cases:
            _add_case(suite, case)
        if not cases or code not in (0, 1):
            suite.add(name, FAILED, f"exit code {code}:\n{last_lines(said)}")


def _follow(command, environment):
    """Runs pytest; says of each file, when it is through, how many of its tests ran and how long they took. (exit code, output)"""
    said, file, tests, begun = [], "", 0, time.monotonic()
    ended = begun  # when the last test did: a line is read when its test is over
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        limit = threading.Timer(4 * TIME_LIMIT, process.kill)
        limit.start()
        for line in process.stdout:
            said.append(line)
            found = re.match(r"(?:\S*/)?(\S+\.py)::.* (?:PASSED|FAILED|SKIPPED|ERROR)", line)
            if found and found.group(1) != file or line.startswith("==") and file:
                if file:
                    print(f"    {file} {tests} tests, {ended - begun:.1f} s", flush=True)
                file, tests, begun = found.group(1) if found else "", 0, ended
            if found:
                tests, ended = tests + 1, time.monotonic()
        limit.cancel()
    return process.returncode, "".join(said)


def run_go(suite, folder, go, environment):
    """Runs the Go tests of a module and adds each test."""
    name = os.path.relpath(folder, ROOT)
    done = subprocess.run([go, "test", "-trimpath", "-count=1", "-json", "./..."], cwd=folder, env={**os.environ, **environment},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=4 * TIME_LIMIT, check=False)
    said, ended = {}, 0
    for line in done.stdout.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        test = f"{event.get('Package', '')}.{event.get('Test', '')}"
        if "Test" in event and event["Action"] == "output":
            said[test] = said.get(test, "") + event["Output"]
        elif "Test" in event and event["Action"] in ("pass", "fail", "skip"):
            ended += 1
            suite.add(test, {"pass": PASSED, "fail": FAILED, "skip": SKIPPED}[event["Action"]], last_lines(said.get(test, "")))
    if not ended or (done.returncode != 0 and not any(r.outcome == FAILED for r in suite.results)):
        suite.add(f"go test {name}", FAILED, f"exit code {done.returncode}:\n{last_lines(done.stdout + done.stderr)}")


def _add_case(suite, case):
    name = f"{case.get('classname', '')}.{case.get('name', '')}"
    for tag in ("failure", "error"):
        found = case.find(tag)
        if found is not None:
            suite.add(name, FAILED, last_lines(found.text or found.get("message", ""), 60))
            return
    skipped = case.find("skipped")
    if skipped is None:
        suite.add(name, PASSED)
    else:
        suite.add(name, SKIPPED, skipped.get("message", ""))
