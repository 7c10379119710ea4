"""Rules A3 and A6: sizes and offsets are what the model says, by every compiler and for every 64-bit machine, and sized
structs have no hole that an appended field or another compiler could fill differently."""

import pytest
from toolbox import INCLUDE, ROOT, headers, model, run

TARGETS = ["x86_64-linux-gnu", "aarch64-linux-gnu", "riscv64-linux-gnu", "powerpc64le-linux-gnu"]


def assertions():
    lines = ["#define THOLE_ENABLE_DRAFT", *(f"#include <{h}>" for h in headers())]
    count = 0
    for struct in model()["structs"]:
        name = struct["name"]
        lines.append(f'_Static_assert(sizeof({name}) == {struct["size"]}, "size of {name}");')
        count += 1
        for field in struct["fields"]:
            place = f'{name}, {field["name"]}'
            lines.append(f'_Static_assert(offsetof({place}) == {field["offset"]}, "offset of {place}");')
            count += 1
    return "\n".join(lines) + "\n", count


def compiled(compiler, source, *options):
    return run(compiler, "-x", "c", "-std=c11", "-fsyntax-only", f"-I{INCLUDE}", *options, "-", stdin=source)


@pytest.mark.parametrize("options", [[], ["-fshort-enums"], ["-funsigned-char"], ["-fsigned-char"], ["-O3"]])
def test_gcc_agrees_with_the_model(options):
    source, count = assertions()
    done = compiled("gcc", source, *options)
    print(f"{count} assertions")
    assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize("target", TARGETS)
def test_other_machines_agree_with_the_model(target):
    source, _ = assertions()
    # The headers need two of the compiler's own headers only, so no other machine's C library is needed.
    done = compiled("clang-16", source, f"--target={target}", "-ffreestanding")
    assert done.returncode == 0, done.stderr[:2000]


def test_a_wrong_model_is_noticed():
    source, _ = assertions()
    assert compiled("gcc", source.replace("offsetof(thole_status, code) == 8", "offsetof(thole_status, code) == 12")).returncode


def test_32_bits_are_another_contract():
    """Only 64-bit machines are supported; this shows that the assertions can fail."""
    source, _ = assertions()
    assert compiled("clang-16", source, "--target=i386-linux-gnu", "-ffreestanding").returncode != 0


def test_no_padding():
    problems = []
    for struct in model()["structs"]:
        end = 0
        for field in struct["fields"]:
            if field["offset"] != end:
                problems.append(f"{struct['name']}.{field['name']}: {field['offset'] - end} bytes of padding before it")
            end = field["offset"] + field["size"]
        if struct["size"] != end:
            problems.append(f"{struct['name']}: {struct['size'] - end} bytes of padding at the end")
        if struct["kind"] in ("sized", "table") and struct["size"] % 8:
            problems.append(f"{struct['name']}: its size is no multiple of 8")
    print(f"{len(model()['structs'])} structs")
    assert not problems


def test_the_model_is_what_the_headers_say():
    done = run("python3", "-B", ROOT / "abi/generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
