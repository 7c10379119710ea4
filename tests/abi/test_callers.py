"""Rule A14: no slot without a caller in this repository. A test alone is no caller: somebody has to need it."""

import re

import pytest
from toolbox import ROOT, model

CALLERS = ("adapters", "samples", "sdk/python", "plugins")


def text_of_callers():
    found = []
    for folder in CALLERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".cc", ".h", ".py") and path.is_file() and path.name != "_abi.py":
                found.append(path.read_text())
    return "\n".join(found)


def tables():
    return {s["name"].removeprefix("thole_").removesuffix("_api"): [f["name"] for f in s["fields"][1:]]
            for s in model()["structs"] if s["kind"] == "table" and s["name"].endswith("_api")}


def uncalled(text):
    return [f"{service}.{slot}" for service, slots in tables().items() for slot in slots
            if not re.search(rf"\b{service}\b(\(\))?\s*(->|\.)\s*{slot}\b", text)]


def test_every_slot_has_a_caller():
    text = text_of_callers()
    count = sum(len(slots) for slots in tables().values())
    missing = uncalled(text)
    print(f"{count - len(missing)} of {count} slots")
    assert not missing


@pytest.mark.parametrize("slot", ["gang.plan", "core.open"])
def test_a_slot_that_nobody_calls_is_noticed(slot):
    service, name = slot.split(".")
    text = re.sub(rf"\b{service}\b(\(\))?\s*(->|\.)\s*{name}\b", "", text_of_callers())
    assert slot in uncalled(text)
