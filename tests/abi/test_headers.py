"""Rules A3, A6 and A14: each header alone and in pairs, in every language level, by two compilers; its types; its size."""

import itertools

import header_rules
import pytest
from toolbox import INCLUDE, SPECIMENS, headers, is_draft, run, side_by_side

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsyntax-only", f"-I{INCLUDE}"]
C = [("c", f"-std={level}") for level in ("c99", "c11", "c17")]
CXX = [("c++", f"-std={level}") for level in ("c++11", "c++14", "c++17", "c++20")]
COMPILERS = {"c": ("gcc", "clang-16"), "c++": ("g++", "clang++-16")}


def compiles(job):
    """What a compiler says about a source of these headers; empty if nothing."""
    compiler, language, level, names, options = job
    source = "".join(f"#include <{name}>\n" for name in names) + "int thole_translation_unit_is_not_empty;\n"
    done = run(compiler, "-x", language, level, *WARNINGS, *options, "-", stdin=source)
    return "" if done.returncode == 0 else f"{compiler} {level} {' '.join(names)}: {done.stderr[:600]}"


def refused(jobs):
    return [problem for problem in side_by_side(compiles, jobs) if problem]


@pytest.mark.parametrize("header", headers())
def test_alone_in_every_language(header):
    draft = ["-DTHOLE_ENABLE_DRAFT"] if is_draft(header) else []
    jobs = [(compiler, language, level, [header, header], draft)
            for language, level in C + CXX for compiler in COMPILERS[language]]
    assert len(jobs) == 14
    assert not refused(jobs)


@pytest.mark.parametrize("options", [[], ["-fshort-enums", "-funsigned-char"]])
def test_every_pair_in_either_order(options):
    pairs = list(itertools.permutations(headers(), 2))
    jobs = [(compiler, language, level, pair, ["-DTHOLE_ENABLE_DRAFT", *options])
            for pair in pairs
            for compiler, language, level in (("gcc", "c", "-std=c99"), ("clang++-16", "c++", "-std=c++11"))]
    problems = refused(jobs)
    print(f"{len(jobs) - len(problems)} of {len(jobs)}")
    assert not problems


@pytest.mark.parametrize("header", [h for h in headers() if is_draft(h)])
def test_a_draft_is_refused_without_its_macro(header):
    done = run("gcc", "-x", "c", *WARNINGS, "-", stdin=f"#include <{header}>\n")
    assert done.returncode != 0 and "is a draft" in done.stderr


def test_the_stable_headers_need_no_draft():
    assert not refused([("gcc", "c", "-std=c99", ["thole/thole.h"], [])])


@pytest.mark.parametrize("header", headers())
def test_rules_of_the_text(header):
    text = (INCLUDE / header).read_text()
    for rule in (header_rules.length, header_rules.included, header_rules.tables, header_rules.kinds,
                 header_rules.comments):
        assert not rule(text), rule.__name__


def test_members_have_fixed_widths(tmp_path):
    source = tmp_path / "all.c"
    source.write_text("#define THOLE_ENABLE_DRAFT\n" + "".join(f"#include <{h}>\n" for h in headers()))
    seen = []

    def ours(name):
        seen.append(name)
        return "include/thole/" in name

    assert not header_rules.members(source, INCLUDE, ours)
    assert any("include/thole/gang.h" in name for name in seen)


SPECIMEN_OF = {
    "long_header": header_rules.length,
    "foreign_include": header_rules.included,
    "wide_table": header_rules.tables,
    "unclassified_struct": header_rules.kinds,
    "silent_slot": header_rules.comments,
}


def specimen_text(name):
    text = (SPECIMENS / f"{name}.h").read_text()
    return text + "/* padding */\n" * header_rules.MOST_LINES if name == "long_header" else text


@pytest.mark.parametrize("name", SPECIMEN_OF)
def test_a_specimen_breaks_exactly_its_rule(name):
    broken = [rule for rule in SPECIMEN_OF.values() if rule(specimen_text(name))]
    assert broken == [SPECIMEN_OF[name]]


def test_every_forbidden_member_is_found():
    found = header_rules.members(SPECIMENS / "members.h", INCLUDE, lambda name: name.endswith("members.h"))
    expected = ["truth", "colour", "wide", "size", "bits", "rest", "either", "printf_like", "takes_long"]
    missed = [name for name in expected if not any(name in problem for problem in found)]
    innocent = [p for p in found if "good" in p]
    print(f"{len(expected) - len(missed)} of {len(expected)}")
    assert not missed and not innocent, found
