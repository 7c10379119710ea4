"""What plain words of YAML mean: tests/files/scalars.yaml has those that every reader takes for the same, and those that are
refused because readers differ. PyYAML, a reader of YAML 1.1, is asked as the peer."""
import json
import math
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[1] / "files"
EXPECTED = json.loads((FILES / "scalars.json").read_text())
yaml = pytest.importorskip("yaml", reason="needs PyYAML, a reader of YAML to compare with")


def read():
    return yaml.safe_load((FILES / "scalars.yaml").read_text())


def equal(ours, theirs):
    """As JSON has it: no number is a boolean, and no date is a text."""
    if isinstance(theirs, float) and isinstance(ours, float) and math.isnan(theirs):
        return math.isnan(ours)
    if isinstance(ours, bool) or isinstance(theirs, bool) or isinstance(ours, str) or isinstance(theirs, str):
        return type(ours) is type(theirs) and ours == theirs
    return ours == theirs


def test_the_lists_are_as_long():
    got = read()
    assert {part: len(got[part]) for part in EXPECTED} == {part: len(EXPECTED[part]) for part in EXPECTED}


def test_a_peer_takes_what_we_read_for_the_same():
    pairs = list(zip(EXPECTED["same"], read()["same"]))
    differing = [(ours, theirs) for ours, theirs in pairs if not equal(ours, theirs)]
    print(f"{len(pairs) - len(differing)} of {len(pairs)} scalars mean the same to PyYAML {yaml.__version__}")
    assert not differing


def test_what_we_refuse_is_worth_it():
    """Most of the refused words mean something else to this peer; the others do to readers of YAML 1.2."""
    pairs = list(zip(EXPECTED["refused"], read()["refused"]))
    differing = [(ours, theirs) for ours, theirs in pairs if not equal(ours, theirs)]
    print(f"{len(differing)} of {len(pairs)} refused words mean something else to PyYAML: {differing}")
    assert differing
