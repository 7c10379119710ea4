"""Runs the suites in order, says how each went, and closes with the count of all tests."""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback

import suites
from results import FAILED, PASSED, SKIPPED, Suite

sys.path.insert(0, os.path.join(suites.ROOT, "tests/hosts"))
import incidents  # noqa: E402


def read_arguments():
    parser = argparse.ArgumentParser(prog="tests/run", description="Builds and runs the tests.")
    parser.add_argument("--fast", action="store_true", help="without sanitizers, platforms and fuzzers")
    parser.add_argument("--suite", action="append", default=[], metavar="NAME", help="only this suite; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the suites")
    parser.add_argument("--long", action="store_true", help="the long versions of tests too")
    return parser.parse_args()


def chosen(arguments):
    if arguments.suite:
        unknown = [name for name in arguments.suite if name not in suites.ALL]
        if unknown:
            sys.exit(f"tests/run: no suite {', '.join(unknown)}; there are {', '.join(suites.ALL)}")
        return [name for name in suites.ALL if name in arguments.suite]
    return [name for name, (_, fast, _) in suites.ALL.items() if fast or not arguments.fast]


def run(name, context):
    suite = Suite(name)
    what = suites.ALL[name][2]
    print(f"== {name}: {what}", flush=True)
    begun = time.monotonic()
    try:
        suites.ALL[name][0](suite, context)
    except Exception:  # a suite that breaks is a failure of its own, and the others still run
        suite.add(f"{name} itself", FAILED, traceback.format_exc())
    suite.seconds = time.monotonic() - begun
    for result in suite.results:
        if result.outcome == FAILED:
            print(f"  FAILED {result.name}\n" + "\n".join("      " + line for line in result.detail.splitlines()))
        elif result.outcome == SKIPPED:
            print(f"  skipped {result.name}: {result.detail}")
    print(
        f"   {name}: {suite.count(PASSED)} passed, {suite.count(FAILED)} failed, {suite.count(SKIPPED)} skipped"
        f" in {suite.seconds:.0f} s",
        flush=True,
    )
    return suite


def table(rows, done):
    """What happened to the digits job on each platform that ran; on all of them it has to end with the same parameters. A platform whose
    tests ran and that has no row has not shown it."""
    found = [json.loads(line) for line in rows.read().splitlines()]
    ran = {s.name for s in done if s.name in ("local", "slurm", "kubernetes", "ray") and s.count(PASSED)}
    if not found and not ran:
        return []
    print(f"\n{'platform':<11} {'digest':<16} {'incident':<30} trains again after")
    print("\n".join(incidents.line(row) for row in found))
    digests, platforms = {row["digest"] for row in found}, {row["platform"] for row in found}
    suite = Suite("incidents")
    suite.seconds = 0.0
    suite.add(f"one digest in {len(found)} of {len(found)} rows: {', '.join(sorted(platforms))}" if len(digests) == 1 else "one digest on all platforms",
              PASSED if len(digests) == 1 else FAILED, "" if len(digests) == 1 else f"there are {len(digests)}: {sorted(digests)}")
    missing = sorted(ran - platforms)
    suite.add("a row for each platform that ran", FAILED if missing else PASSED, f"none for {', '.join(missing)}" if missing else "")
    return [suite]


def main():
    arguments = read_arguments()
    if arguments.list:
        for name, (_, fast, what) in suites.ALL.items():
            print(f"{name:12} {'' if fast else '(not with --fast) '}{what}")
        return 0
    if arguments.long:
        os.environ["THOLE_TEST_LONG"] = "1"
    begun = time.monotonic()
    context = suites.Context(long=arguments.long, named=bool(arguments.suite))
    rows = tempfile.NamedTemporaryFile(prefix="thole-incidents.", suffix=".jsonl")  # noqa: SIM115
    os.environ[incidents.ROWS] = rows.name
    done = [run(name, context) for name in chosen(arguments)]

    done += table(rows, done)
    print("\n" + "\n".join(f"{suite.name:12}{suite.seconds:6.0f} s {len(suite.results):6} tests" for suite in done))
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes. What did not pass:")
    quiet = True
    for suite in done:
        for result in suite.results:
            if result.outcome != PASSED:
                quiet = False
                first = result.detail.strip().splitlines()[:1]
                print(f"  {result.outcome:8}{suite.name}: {result.name}: {''.join(first)}")
    if quiet:
        print("  nothing")
    count = {outcome: sum(s.count(outcome) for s in done) for outcome in (PASSED, FAILED, SKIPPED)}
    print(f"{count[PASSED]} passed, {count[FAILED]} failed, {count[SKIPPED]} skipped", flush=True)
    return 1 if count[FAILED] or not count[PASSED] else 0


if __name__ == "__main__":
    sys.exit(main())
