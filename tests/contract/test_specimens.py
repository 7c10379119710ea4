"""Each rule's test notices the specimen that breaks the rule: it fails with the specimen in the library's place, and passes
with the library. docs/rules/abi.md is the table of both."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("THOLE_TEST_BUILD", ROOT / "build/release"))
SPECIMENS = Path(__file__).resolve().parent / "specimens"

# specimen: (program, the test that must notice it)
NOTICED_BY = {
    "newer_host_is_served": ("entry", "entry.refuses_another_major_and_a_newer_minor"),
    "empty_slot": ("entry", "entry.every_slot_within_a_tables_size_is_filled"),
    "answer_overrun": ("sizes", "sizes.every_older_size_is_read_and_written_no_further"),
    "exact_size": ("sizes", "sizes.a_newer_size_with_a_dirty_tail_works"),
    "status_overrun": ("status", "status.is_never_written_beyond_its_size"),
    "unknown_reason": ("status", "status.says_a_known_reason_and_a_clean_sentence"),
    "any_handle": ("handles", "handles_.none"),
    "busy_at_load": ("load", "load.changes_nothing_in_the_process"),
    "prints": ("load", "load.nothing_is_printed"),
    "sets_umask": ("load", "load.calls_change_nothing_in_the_process"),
    "leaks_a_descriptor": ("load", "load.everything_that_was_opened_is_closed"),
    "thread_at_open": ("load", "load.open_starts_no_thread"),
    "unmapped": ("load", "load.keeps_one_copy_through_close_and_load"),
    "no_memory_no_answer": ("memory", "once_and_for_good/memory.is_out_at_every_allocation_of_core_and_gang/once"),
    "asks_a_clock": ("memory", "clock.is_never_asked_by_the_ledger"),
    "ignores_fork": ("fork", "ways/forked.every_slot_says_so/fork"),
    "waits_in_a_child": ("fork", "fork.under_load_no_child_hangs"),
    "undo_once": ("twophase", "two_phase.steps_that_come_out_of_order_are_told"),
    "half_a_gang": ("twophase", "two_phase.a_plan_that_was_overtaken_is_refused_whole"),
}


def run(program, test, library=None):
    """What one test of a contract program says about a library."""
    environment = dict(os.environ, THOLE_REAL_LIBRARY=str(BUILD / "sdk/libthole.so.0"))
    if library:
        environment["THOLE_CONTRACT_LIBRARY"] = str(library)
    done = subprocess.run([BUILD / f"tests/contract_{program}", f"--gtest_filter={test}"], env=environment,
                          capture_output=True, text=True, errors="replace", check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Every specimen, compiled."""
    folder = tmp_path_factory.mktemp("specimens")
    jobs = {}
    for source in sorted(SPECIMENS.glob("*.cc")):
        # A name of its own for what is looked for among the mapped files.
        out = folder / f"libthole_{source.stem}.so"
        jobs[source.stem] = (out, subprocess.Popen(
            ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden",
             "-DTHOLE_ENABLE_DRAFT", f"-I{ROOT / 'abi/include'}", source, "-o", out], stderr=subprocess.PIPE, text=True))
        if len(jobs) % 2 == 0:
            for _, job in jobs.values():
                job.wait()
    for name, (_, job) in jobs.items():
        assert job.wait() == 0, f"{name}: {job.stderr.read()}"
    return {name: out for name, (out, _) in jobs.items()}


def test_every_specimen_has_its_test():
    assert {p.stem for p in SPECIMENS.glob("*.cc")} == set(NOTICED_BY)


@pytest.mark.parametrize("name", NOTICED_BY)
def test_is_noticed(name, built):
    program, test = NOTICED_BY[name]
    code, words = run(program, test)
    assert code == 0 and re.search(r"\[  PASSED  \] 1 test", words), f"the library itself fails {test}:\n{words[-2000:]}"
    code, words = run(program, test, built[name])
    assert "[ RUN      ]" in words, words
    assert code != 0, f"{test} passes with {name}"


def test_the_page_of_rules_names_every_pair():
    page = (ROOT / "docs/rules/abi.md").read_text()
    missing = [f"{name}: {test}" for name, (_, test) in NOTICED_BY.items() if name not in page or test not in page]
    assert not missing
