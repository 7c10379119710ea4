"""Rule A14: no slot without a caller in this repository. A test alone is no caller: somebody has to need it."""

import re

import pytest
from toolbox import ROOT, model

CALLERS = ("adapters", "samples", "sdk/python", "plugins")


def texts_of_callers():
    return [path.read_text() for folder in CALLERS for path in sorted((ROOT / folder).rglob("*"))
            if path.suffix in (".c", ".cc", ".h", ".py") and path.is_file() and path.name not in ("_abi.py", "_layouts.py", "_constants.py")]


def tables():
    return {s["name"].removeprefix("thole_").removesuffix("_api"): [f["name"] for f in s["fields"][1:]]
            for s in model()["structs"] if s["kind"] == "table" and s["name"].endswith("_api")}


def call_of(service, slot):
    """root->gang->plan(...), root.gang.plan, or through a name for the table: const auto &api = *root.gang;
    api.plan(...), (*device)->list(...)"""
    return re.compile(rf"\b(?:{service}|api|table)\b(?:\(\))?\)?\s*(?:->|\.)\s*{slot}\b")


def uncalled(texts):
    return [f"{service}.{slot}" for service, slots in tables().items() for slot in slots
            if not any(service in text and call_of(service, slot).search(text) for text in texts)]


def test_every_slot_has_a_caller():
    count = sum(len(slots) for slots in tables().values())
    missing = uncalled(texts_of_callers())
    print(f"{count - len(missing)} of {count} slots")
    assert not missing


@pytest.mark.parametrize("slot", ["gang.plan", "core.open"])
def test_a_slot_that_nobody_calls_is_noticed(slot):
    assert slot in uncalled([call_of(*slot.split(".")).sub("", text) for text in texts_of_callers()])
