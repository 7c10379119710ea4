"""Runs the figures of tests/figures: scripts as they are, C++ as the built figure_NAME. Each prints JSON lines."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

from suites import ROOT, Context
from results import Suite

COLUMNS = ("id", "ours", "unit", "peer", "limit", "ratio", "goal")


def figures(prefixes):
    """(name, path or None if it is built) of every figure asked for."""
    folder = os.path.join(ROOT, "tests/figures")
    found = {}
    for file in sorted(os.listdir(folder)):
        name, suffix = os.path.splitext(file)
        if suffix == ".cc":
            found[name] = None
        elif os.access(os.path.join(folder, file), os.X_OK) and os.path.isfile(os.path.join(folder, file)):
            found.setdefault(name, os.path.join(folder, file))
    return {n: p for n, p in found.items() if not prefixes or any(n.startswith(x) for x in prefixes)}


def met(line):
    """Whether a figure meets its goal, a text such as "<= 5" about `ours`, or "ratio >= 0.9"; None where it has none."""
    goal = line.get("goal")
    if goal is None or goal == "":
        return None
    found = re.fullmatch(r"(ratio\s*)?(<=|>=|==|<|>)\s*([-+0-9.e]+)", str(goal).strip())
    if not found:
        return False
    value = line.get("ratio") if found.group(1) else line.get("ours")
    if value is None:
        return False
    limit = float(found.group(3))
    return {"<=": value <= limit, ">=": value >= limit, "==": value == limit,
            "<": value < limit, ">": value > limit}[found.group(2)]


# What makes the longest figures short: a look, not a measurement. What the environment says already stays.
SHORT = {"THOLE_PAIRS": "2", "THOLE_STEPS": "80", "THOLE_KILLS": "3", "THOLE_ROUNDS": "2"}


def knows_long(name):
    """Whether a figure has a longer version, as its first lines then say."""
    folder = os.path.join(ROOT, "tests/figures")
    for file in os.listdir(folder):
        if os.path.splitext(file)[0] == name:
            with open(os.path.join(folder, file), encoding="utf-8") as text:
                return "[--long]" in text.read(4000)
    return False


def run(name, path, context, lines, short=False):
    """Adds the lines of one figure to `lines` as they come; raises RuntimeError with what it said if it failed."""
    if path is None:
        suite = Suite("bench")
        if not context.build(suite, "release", f"figure_{name}"):
            raise RuntimeError(suite.results[-1].detail)
        path = os.path.join(context.folder("release"), "tests", f"figure_{name}")
    command = [context.python, "-B", path] if path.endswith(".py") else [path]
    if context.long and knows_long(name):
        command.append("--long")
    environment = {**(SHORT if short else {}), **os.environ, **context.environment()}
    before, other = len(lines), []
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True, errors="replace",
                              stdin=subprocess.DEVNULL) as figure:
            for text in figure.stdout:
                if text.startswith("{"):
                    line = json.loads(text)
                    lines.append({**{c: line.get(c) for c in COLUMNS}, "met": met(line), "note": line.get("note")})
                    print(f"  {line.get('id')} {shown(line.get('ours'))} {line.get('unit')}", file=sys.stderr, flush=True)
                else:
                    other.append(text)
        if figure.returncode != 0 or len(lines) == before:
            said.seek(0)
            raise RuntimeError(f"exit code {figure.returncode}\n{''.join(other)[-2000:]}{said.read()[-2000:]}")


def shown(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_table(lines):
    rows = [COLUMNS + ("met",)]
    for line in lines:
        rows.append(tuple(shown(line.get(c)) for c in COLUMNS) + ({True: "yes", False: "NO", None: "-"}[line["met"]],))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if i in (0, 2, 6, 7) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip(), flush=True)
    for line in lines:  # what a row cannot hold: how it was measured, and what else was seen
        if line["note"]:
            print(f"{line['id']}: {line['note']}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench", description="Runs the figures.")
    parser.add_argument("name", nargs="*", help="only figures whose name begins so")
    parser.add_argument("--json", action="store_true", help="print the lines as data")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="few repetitions: a look, not a measurement")
    length.add_argument("--long", action="store_true", help="the long versions too")
    arguments = parser.parse_args()
    context = Context(long=arguments.long)
    suite = Suite("bench")
    if not context.build(suite, "release"):
        print(suite.results[-1].detail, file=sys.stderr)
        return 1
    chosen = figures(arguments.name)
    if not chosen:
        print(f"tests/bench: no figure is named {' '.join(arguments.name)}", file=sys.stderr)
        return 2
    lines, failed = [], False
    for name, path in chosen.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            run(name, path, context, lines, arguments.short)
        except RuntimeError as problem:
            print(f"tests/bench: {name}: {problem}", file=sys.stderr)
            failed = True
    if arguments.json:
        print(json.dumps(lines, indent=1))
    else:
        print_table(lines)
    return 1 if failed or any(line["met"] is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
