"""The text of metrics.render, read by Prometheus's own Python client, and written again from the cases that the OpenMetrics
project's parsers are tested with ($THOLE_DATA/openmetrics). promtool reads it in tests/unit/metrics."""

import itertools
import json
import math
import os
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sdk/python"))
os.environ.setdefault("THOLE_LIBRARY", str(Path(os.environ.get("THOLE_TEST_BUILD", ROOT / "build/release")) / "sdk/libthole.so.0"))

from thole import metrics  # noqa: E402

HOSTILE = ["", 'a"b', "a\\b", "a\nb", "{a=\"b\"} 1 # {} 2", "é", "😀", " ", "a,b", "\\n", "\t"]
_numbers = itertools.count()


def read():
    return {family.name: family for family in families_of(metrics.render())}


def test_every_kind_and_every_hostile_value_reads_back():
    counter = metrics.counter("om_images", "Images \\ and\na second line.", labels=("part",))
    gauge = metrics.gauge("om_loss", "Loss.", labels=("part",))
    histogram = metrics.histogram("om_step_seconds", "Time.", bounds=(0.1, 1.0, 1e7), unit="seconds", labels=("part",))
    for i, value in enumerate(HOSTILE):
        counter.labels(value).add(i + 0.5)
        gauge.labels(value).set(-i * 1e-300)
        histogram.labels(value).observe(i)
    found = read()
    assert {s.labels["part"]: s.value for s in found["om_images"].samples} == {v: i + 0.5 for i, v in enumerate(HOSTILE)}
    assert {s.labels["part"]: s.value for s in found["om_loss"].samples} == {v: -i * 1e-300 for i, v in enumerate(HOSTILE)}
    counts = {s.labels["part"]: s.value for s in found["om_step_seconds"].samples if s.name.endswith("_count")}
    assert counts == {value: 1 for value in HOSTILE}
    assert found["om_images"].documentation == "Images \\ and\na second line."
    assert found["om_step_seconds"].unit == "seconds"
    print(f"{len(HOSTILE)} of {len(HOSTILE)} values read back")


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-323, 1.7976931348623157e308, 2.0 ** 53, math.inf, -math.inf, math.nan])
def test_every_number_reads_back(value):
    name = f"om_number_{next(_numbers)}"
    metrics.gauge(name, "A number.").set(value)
    (sample,) = read()[name].samples
    assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))


def cases():
    folder = Path(os.environ.get("THOLE_DATA", "/nonexistent")) / "openmetrics/parsers"
    if not folder.is_dir():
        pytest.skip("needs the cases of OpenMetrics: THOLE_DATA names no folder with openmetrics/parsers")
    for case in sorted(folder.iterdir()):
        about = json.loads((case / "test.json").read_text())
        yield case.name, (case / about["file"]).read_bytes().decode(), about["shouldParse"]


def test_the_reader_tells_good_text_from_bad():
    """Or its yes to ours would mean nothing."""
    wrong, asked = set(), 0
    for name, text, good in cases():
        try:
            list(families_of(text))
            said = True
        except ValueError:
            said = False
        asked += 1
        if said != good:
            wrong.add(name)
    print(f"{asked - len(wrong)} of {asked} cases as listed")
    assert asked >= 150 and not wrong


def test_what_the_good_cases_say_can_be_said_by_us():
    """Each gauge and counter of the cases, with its labels, is defined, bound, set, rendered and read back the same."""
    said, expected = 0, {}
    for _, text, good in cases():
        if not good or "\0" in text:
            continue
        for family in families_of(text):
            if family.type not in ("gauge", "counter"):
                continue
            ours = f"om_case_{next(_numbers)}"
            for sample in family.samples:
                if sample.name != (family.name + "_total" if family.type == "counter" else family.name):
                    continue
                keys = tuple(sorted(sample.labels))
                # One family has one set of keys with us.
                own = ours + "_" + str(len(keys)) + "_" + "_".join(keys)
                make = metrics.counter if family.type == "counter" else metrics.gauge
                series = make(own, family.documentation, labels=keys).labels(*(sample.labels[k] for k in keys))
                at = own, tuple(sorted(sample.labels.items()))
                if family.type == "counter":
                    series.add(sample.value)
                    expected[at] = expected.get(at, 0.0) + sample.value
                else:
                    series.set(sample.value)
                    expected[at] = sample.value
                said += 1
    found = {(f.name, tuple(sorted(s.labels.items()))): s.value for f in read().values() for s in f.samples
             if f.name.startswith("om_case_")}
    same = sum(found.get(k) == v or (math.isnan(v) and math.isnan(found.get(k, 0.0))) for k, v in expected.items())
    print(f"{said} samples of the cases; {same} of {len(expected)} series read back")
    assert said > 0 and same == len(expected) == len(found)
