"""Rule A13: the built library and the headers are what was recorded, and the comparison is able to see a change."""

import json
import re
import shutil

import baseline
import pytest
from toolbox import INCLUDE, LIBRARY, ROOT, model, run

EXPLAIN = "If it was only appended: tests/abi/rebaseline. Otherwise it is a break: tests/abi/rebaseline --break 'REASON'."


def test_the_library_is_what_was_recorded():
    assert not baseline.differences(LIBRARY), EXPLAIN


def test_the_headers_are_what_was_recorded(tmp_path):
    assert not baseline.differences(baseline.witness(tmp_path)), EXPLAIN


def test_the_model_is_what_was_recorded():
    recorded, now = baseline.recorded_layout(), baseline.layout(model())
    assert not baseline.breaks(recorded, now), EXPLAIN
    assert json.loads(json.dumps(now)) == recorded, EXPLAIN


def test_the_baseline_holds_every_type():
    held = baseline.reachable_structs(model())
    print(f"{len(held)} structs are reachable from the entry's answer")
    assert {"thole_gang_api", "thole_checkpoint_api", "thole_plan", "thole_item", "thole_status"} <= held
    assert not baseline.missing_types(baseline.recorded().read_text())


def test_the_baseline_names_no_machine():
    assert not re.search(r'="/', baseline.recorded().read_text())


def test_a_library_without_types_is_refused(tmp_path):
    """Without -g abidiff finds no difference between anything: such a library must never become the baseline."""
    library = baseline.witness(tmp_path)
    stripped = tmp_path / "stripped.so"
    assert run("strip", "-g", "-o", stripped, library).returncode == 0
    assert baseline.missing_types(baseline.read_abi(stripped))
    with pytest.raises(SystemExit, match="was it built with -g"):
        baseline.write(stripped)


def edit(text, old, new):
    assert text.count(old) == 1, f"{text.count(old)} times: {old}"
    return text.replace(old, new)


def slot(text, name):
    """The text of a slot, with its comment."""
    found = re.search(rf"  /\*(?:(?!\*/).)*\*/\n  thole_code \(\*{name}\)\([^;]*;\n", text, re.S)
    return found.group(0)


def insert_a_field(text):
    return edit(text, "  uint32_t role;        /* index in the request */\n",
                "  uint64_t inserted;\n  uint32_t role;        /* index in the request */\n")


def move_a_slot(text):
    confirm, cancel = slot(text, "confirm"), slot(text, "cancel")
    return edit(edit(text, confirm, ""), cancel, cancel + confirm)


def change_a_parameter(text):
    changed = slot(text, "cancel").replace("thole_id gang", "uint64_t gang")
    return edit(text, slot(text, "cancel"), changed)


def reread(name, tmp_path):
    """A copy of the headers with gang.h changed by the function."""
    include = tmp_path / "include"
    shutil.copytree(INCLUDE, include)
    header = include / "thole/gang.h"
    header.write_text(name(header.read_text()))
    return include


@pytest.mark.parametrize("mutation", [insert_a_field, move_a_slot, change_a_parameter])
def test_a_break_is_seen(mutation, tmp_path):
    library = baseline.witness(tmp_path, reread(mutation, tmp_path))
    report = baseline.differences(library)
    assert "thole_" in report


@pytest.mark.parametrize("mutation", [insert_a_field, move_a_slot, change_a_parameter])
def test_a_break_is_seen_in_the_model_too(mutation, tmp_path):
    tree = tmp_path / "abi"
    shutil.copytree(reread(mutation, tmp_path), tree / "include")
    shutil.copy(ROOT / "abi/generate.py", tree)
    done = run("python3", "-B", tree / "generate.py")
    assert done.returncode == 0, done.stderr
    changed = json.loads((tree / "model/thole.json").read_text())
    assert baseline.breaks(baseline.recorded_layout(), baseline.layout(changed))


def test_what_is_appended_is_no_break():
    recorded = baseline.recorded_layout()
    now = json.loads(json.dumps(recorded))
    now["structs"]["thole_placement"]["fields"].append(["appended", now["structs"]["thole_placement"]["size"], 8, "uint64"])
    now["structs"]["thole_placement"]["size"] += 8
    now["values"]["THOLE_NEW"] = 1
    assert not baseline.breaks(recorded, now)
    now["structs"]["thole_str"]["fields"].append(["appended", 16, 8, "uint64"])
    now["structs"]["thole_str"]["size"] = 24
    assert baseline.breaks(recorded, now) == ["thole_str is frozen and has another size"]


def test_a_renumbered_value_is_a_break():
    recorded = baseline.recorded_layout()
    now = json.loads(json.dumps(recorded))
    now["values"]["THOLE_CONFLICT"] = 11
    del now["reasons"]["GangNoFitInDomain"]
    assert len(baseline.breaks(recorded, now)) == 2


def test_every_break_is_in_the_history():
    """The history is a list of {version, why, what}; it may be empty."""
    text = baseline.HISTORY.read_text()
    entries = re.findall(r"^- version: \"?[0-9.]+\"?\n  why: .+\n  what:\n(?:    - .+\n)+", text, re.M)
    assert len(entries) == len(re.findall(r"^- ", text, re.M))
