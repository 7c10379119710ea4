"""Compares an unbroken run with one that was killed and came back: `thole status --json` of both.

usage: compare.py UNBROKEN.json KILLED.json
"""

import json
import sys


def read(path):
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    # `thole status NAME --json` answers one job.
    return found["jobs"][0] if "jobs" in found else found


def main():
    unbroken, killed = (read(path) for path in sys.argv[1:3])
    print(f"\n{'':14}{'unbroken':>14}{'killed':>14}")
    for title, value in (
        ("attempts", lambda j: j["attempts"]),
        ("steps run", lambda j: j["steps"]["run"]),
        ("checkpoints", lambda j: j["checkpointsCommitted"]),
        ("accuracy", lambda j: f"{j['result']['accuracy']:.4f}"),
        ("seconds", lambda j: f"{j['seconds']:.1f}"),
    ):
        print(f"{title:14}{value(unbroken):>14}{value(killed):>14}")
    digests = [job["result"]["digest"] for job in (unbroken, killed)]
    print(f"\nparameters, unbroken  {digests[0]}\nparameters, killed    {digests[1]}")
    problems = []
    if digests[0] != digests[1]:
        problems.append("the parameters differ")
    if killed["attempts"] < 2 or not killed["incidents"]:
        problems.append("no rank was killed")
    elif killed["incidents"][0]["restoredStep"] <= 0:
        problems.append("it began again at the beginning")
    if killed["steps"]["run"] >= 2 * unbroken["steps"]["run"]:
        problems.append("it did the work twice")
    if min(job["result"]["accuracy"] for job in (unbroken, killed)) < 0.95:
        problems.append("the accuracy is below 0.95")
    if problems:
        sys.exit("quickstart: " + "; ".join(problems))
    print("equal, to the bit")


if __name__ == "__main__":
    main()
