"""What the tests of the contract share: where things are, and how a compiler, castxml and nm are asked."""

import concurrent.futures
import json
import os
import re
import subprocess
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "abi/include"
SPECIMENS = Path(__file__).resolve().parent / "specimens"
BUILD = Path(os.environ.get("THOLE_TEST_BUILD", ROOT / "build/release"))
LIBRARY = BUILD / "sdk/libthole.so.0"


def headers(include=INCLUDE):
    return sorted(str(p.relative_to(include)) for p in (include / "thole").rglob("*.h"))


def is_draft(header):
    return "/draft/" in header


def run(*command, stdin=None):
    return subprocess.run([str(c) for c in command], input=stdin, capture_output=True, text=True, check=False)


def side_by_side(function, items):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def model():
    return json.loads((ROOT / "abi/model/thole.json").read_text())


def castxml(source, include):
    """castxml's graph of a C source: {id: element}."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.xml")
        done = run("castxml", "--castxml-output=1", "--castxml-cc-gnu-c", "cc", "-std=c11", f"-I{include}",
                   "-x", "c", source, "-o", out)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return {e.get("id"): e for e in xml.parse(out).getroot() if e.get("id")}


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)
