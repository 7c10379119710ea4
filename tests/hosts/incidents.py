"""One table over all platforms: what happened to the digits job, the digest it ended with, and how long it stood still."""
from __future__ import annotations

import json
import os
from typing import Any

ROWS = "THOLE_TEST_INCIDENTS"  # a file of JSON lines that tests/run makes, and reads when all suites have ended


def record(platform: str, incident: str, digest: str, seconds: float | None) -> None:
    """`seconds`: from the incident until a restored attempt trains; None where the attempt lived on."""
    row = {"platform": platform, "incident": incident, "digest": digest, "seconds": seconds}
    print(line(row))
    if path := os.environ.get(ROWS):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def line(row: dict[str, Any]) -> str:
    took = "lived on" if row["seconds"] is None else f"{row['seconds']:.1f} s"
    return f"{row['platform']:<11} {row['digest'][:16]:<16} {row['incident']:<30} {took:>18}"
