"""The model of the headers, the ctypes made from it, and the layouts."""
import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest
from conftest import PACKAGE, ROOT

from thole import _abi

MODEL = json.loads((ROOT / "abi" / "model" / "thole.json").read_text())


def test_layouts_are_those_of_the_compiler(tmp_path):
    """The model is made by castxml; here the C compiler itself is asked, field by field."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    lines = ["#define THOLE_ENABLE_DRAFT", "#include <stdio.h>"]
    lines += [f"#include <thole/{header}>" for header in MODEL["headers"]] + ["int main(void) {"]
    for s in MODEL["structs"]:
        lines.append(f'printf("{s["name"]} %zu\\n", sizeof({s["name"]}));')
        lines += [f'printf("{s["name"]}.{f["name"]} %zu %zu\\n", offsetof({s["name"]}, {f["name"]}), '
                  f'sizeof((({s["name"]} *)0)->{f["name"]}));' for f in s["fields"]]
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text("\n".join(lines + ["return 0; }"]))
    subprocess.run(["cc", "-std=c11", f"-I{ROOT}/abi/include", source, "-o", program], check=True)
    said = subprocess.run([program], text=True, stdout=subprocess.PIPE, check=True).stdout.split("\n")[:-1]
    expected = []
    for s in MODEL["structs"]:
        struct = getattr(_abi, s["name"])
        expected.append(f"{s['name']} {ctypes.sizeof(struct)}")
        expected += [f"{s['name']}.{f['name']} {getattr(struct, f['name']).offset} {getattr(struct, f['name']).size}"
                     for f in s["fields"]]
    assert said == expected
    print(f"{len(said)} of {len(expected)} sizes and offsets")


@pytest.mark.parametrize("generator", ["abi/generate.py", "sdk/python/generate.py"])
def test_generated_files_are_up_to_date(generator):
    if generator.startswith("abi") and shutil.which("castxml") is None:
        pytest.skip("castxml is not installed")
    done = subprocess.run([sys.executable, ROOT / generator, "--check"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_a_wrong_layout_is_refused_at_import(tmp_path):
    text = (PACKAGE / "thole" / "_abi.py").read_text()
    wrong = text.replace('(\'len\', c_uint64),', '(\'len\', c_uint32), (\'more\', c_uint32),', 1)
    assert wrong != text
    path = tmp_path / "_abi.py"
    path.write_text(wrong)
    spec = importlib.util.spec_from_file_location("thole.wrong_abi", path)
    with pytest.raises(ImportError, match="thole_str.len lies at 8 here|thole_str.len"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_every_table_begins_with_its_size_and_every_slot_names_its_parameters():
    slots = 0
    for struct in MODEL["structs"]:
        if struct["kind"] != "table":
            continue
        assert struct["fields"][0]["name"] == "struct_size"
        assert len(struct["fields"]) - 1 <= 12, struct["name"]
        for field in struct["fields"][1:]:
            parameters = field["type"]["function"]["parameters"]
            assert parameters and not any(p["name"].startswith("argument") for p in parameters), field["name"]
            slots += 1
    print(f"{slots} slots")
    assert slots > 40


def test_the_library_opens_and_closes(library):
    from thole import _native

    core = _native.Core(library.root, "")
    assert core.handle.v
    core.close()
    with pytest.raises(_native.TholeError) as caught:
        core.close()
    assert (caught.value.code, caught.value.reason) == ("THOLE_STALE", "HandleStale")
    assert library.version


def test_a_library_that_is_not_there_is_a_sentence(tmp_path):
    from conftest import run_python

    code, output = run_python("import thole; thole.checkpoint.new_key('/nowhere/k')", {"THOLE_LIBRARY": str(tmp_path / "no.so")})
    assert code == 1 and "LibraryMissing" in output and "THOLE_LIBRARY" in output
