"""Rule A4: one table of reasons, each legal as a condition of Kubernetes, short enough for a status, and used."""

import re

from toolbox import ROOT, model, run


def test_the_page_is_what_the_header_says():
    done = run(ROOT / "tests/abi/reasons", "--check")
    assert done.returncode == 0, done.stderr


def test_every_reason_is_legal():
    reasons = model()["reasons"]
    codes = {v["name"] for e in model()["enumerations"] for v in e["values"]}
    problems = []
    for reason in reasons:
        name = reason["name"]
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or len(name) >= 48:
            problems.append(f"{name} is not CamelCase of less than 48 characters")
        if reason["code"] not in codes:
            problems.append(f"{name} has no code: {reason['code']}")
        for text in (reason["meaning"], reason["remedy"]):
            if not text.endswith("."):
                problems.append(f"{name}: no full stop: {text}")
    print(f"{len(reasons)} reasons")
    assert not problems and len({r["name"] for r in reasons}) == len(reasons)


def test_every_reason_has_somebody_who_gives_it():
    """A reason that nothing gives is a promise that nobody keeps."""
    given = ""
    for folder in ("sdk/src", "plugins", "adapters"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".cc", ".h", ".c") and path.is_file():
                given += path.read_text()
    unused = [r["name"] for r in model()["reasons"]
              if not re.search(rf'(reason::{r["name"]}\b|"{r["name"]}")', given)]
    assert not unused
