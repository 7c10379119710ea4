"""The Go binding's layouts: what cgo reads out of the headers is held against the model of the headers by Go's compiler."""
from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from installed import ADAPTER

LAYOUTS = ADAPTER / "core/layouts.go"
STRUCTS = {s["name"]: s for s in json.loads((ADAPTER.parents[1] / "abi/model/thole.json").read_text())["structs"]}


def compiled(folder, text):
    """What Go's compiler says of the binding with other layouts; nothing if it takes them."""
    other = folder / "layouts.go"
    other.write_text(text)
    (folder / "overlay.json").write_text(json.dumps({"Replace": {str(LAYOUTS): str(other)}}))
    go = subprocess.run([ADAPTER / "setup/go"], capture_output=True, text=True, check=True, timeout=600).stdout.strip()
    done = subprocess.run([go, "build", "-overlay", folder / "overlay.json", "./core"], cwd=ADAPTER, capture_output=True, text=True, check=False, timeout=600,
                          env={**os.environ, "CGO_ENABLED": "1", "GOFLAGS": "-buildvcs=false -mod=readonly"})
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr


def test_every_layout_of_the_model_is_asserted(tmp_path):
    text = LAYOUTS.read_text()
    sizes, offsets = text.count("unsafe.Sizeof"), text.count("unsafe.Offsetof")
    assert (sizes, offsets) == (len(STRUCTS), sum(len(s["fields"]) for s in STRUCTS.values()))
    assert compiled(tmp_path, text) == ""
    print(f"{sizes} of {len(STRUCTS)} structs, {offsets} of {offsets} fields")


@pytest.mark.parametrize("struct, field", [("thole_str", None), ("thole_status", "flags"), ("thole_gang_api", "reserve")])
@pytest.mark.parametrize("by", [-8, 8])
def test_another_layout_does_not_compile(tmp_path, struct, field, by):
    asked = rf"unsafe\.Offsetof\(C\.{struct}{{}}\.{field}\)" if field else rf"unsafe\.Sizeof\(C\.{struct}{{}}\)"
    text, count = re.subn(rf"\[(\d+)\](struct{{}} = \[{asked}\])", lambda m: f"[{int(m[1]) + by}]{m[2]}", LAYOUTS.read_text())
    assert count == 1
    said = compiled(tmp_path, text)
    assert "cannot use" in said and struct in said, said
