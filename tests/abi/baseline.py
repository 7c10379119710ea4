"""The recorded ABI: abi/baseline/MAJOR.MINOR/MACHINE.abixml, what libabigail reads in libthole.so, and layout.json, the
structs of the headers' model. The first sees types as the compiler laid them out, the second tells an appended field from a
break."""

import json
import os
import platform
import re
import subprocess
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from toolbox import INCLUDE, ROOT, headers, model, run

HISTORY = ROOT / "abi/HISTORY.yaml"


def folder():
    version = model()["abi"]
    return ROOT / "abi/baseline" / f"{version['major']}.{version['minor']}"


def recorded():
    return folder() / f"{platform.machine()}.abixml"


def read_abi(library):
    """What libabigail reads of the entry and of all that its answer leads to, without a path of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "all.abixml")
        done = run("abidw", "--no-comp-dir-path", "--no-corpus-path", "--no-show-locs", "--no-elf-needed", "--out-file", out,
                   library)
        if done.returncode != 0:
            raise RuntimeError(f"abidw: {done.stderr}")
        return prune(xml.parse(out).getroot())


def prune(corpus):
    """The part of a corpus that the entry's types lead to. A C++ library's debug information has ten thousand other types; and
    where a table is only declared in the unit of the entry, its definition is in another."""
    by_id, defined = {}, {}
    for e in corpus.iter():
        if e.get("id"):
            by_id.setdefault(e.get("id"), e)
        if e.tag == "class-decl" and e.get("is-declaration-only") != "yes" and len(e):
            defined.setdefault(e.get("name"), e)
    entry = next((e for e in corpus.iter("function-decl") if e.get("name") == "thole_entry_v1"), None)
    if entry is None:  # built without -g, or no library of ours
        return "<abi-corpus />\n"
    unit, numbers, held = xml.Element("abi-instr", {"address-size": "64", "path": "thole", "language": "LANG_C11"}), {}, []

    def number(identifier):
        e = by_id[identifier]
        if e.tag == "class-decl":
            e = defined.get(e.get("name"), e)
        if e.get("id") not in numbers:
            numbers[e.get("id")] = f"type-{len(numbers) + 1}"
            held.append(renumber(e))
        return numbers[e.get("id")]

    def renumber(e):
        attributes = {k: v for k, v in e.attrib.items() if k in KEPT}
        if e.get("id"):
            attributes["id"] = numbers.setdefault(e.get("id"), f"type-{len(numbers) + 1}")
        if e.get("type-id"):
            attributes["type-id"] = number(e.get("type-id"))
        copy = xml.Element(e.tag, attributes)
        copy.extend(renumber(child) for child in e if child.tag != "member-function" and child.tag != "member-type")
        return copy

    function = renumber(entry)
    unit.extend([*held, function])
    whole = xml.Element("abi-corpus", {k: corpus.get(k) for k in ("version", "architecture", "soname") if corpus.get(k)})
    whole.extend([corpus.find("elf-function-symbols"), unit])
    xml.indent(whole)
    return xml.tostring(whole, encoding="unicode") + "\n"


KEPT = ("name", "size-in-bits", "alignment-in-bits", "is-struct", "visibility", "binding", "access", "layout-offset-in-bits",
        "dimensions", "length", "const", "volatile", "value", "is-anonymous", "kind", "static", "mangled-name", "elf-symbol-id",
        "type", "is-defined", "is-variadic", "is-declaration-only")


def missing_types(abi):
    """Structs of the contract that a baseline does not hold in full: it would not notice a change of them."""
    held = set()
    for e in xml.fromstring(abi).iter("class-decl"):
        if e.get("is-declaration-only") != "yes" and len(e):
            held.add(e.get("name"))
    reachable = reachable_structs(model())
    return sorted(reachable - held)


def reachable_structs(contract):
    """The structs that the types of the entry's answer lead to. The others are cast from a thole_list or a pointer."""
    by_name = {s["name"]: s for s in contract["structs"]}
    seen, left = set(), ["thole_root"]
    while left:
        name = left.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        left += _names([f["type"] for f in by_name[name]["fields"]])
    return seen


def _names(value):
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [n for v in value.values() for n in _names(v)]
    if isinstance(value, list):
        return [n for v in value for n in _names(v)]
    return []


def differences(library, baseline=None):
    """abidiff's report of a library against the recorded baseline; empty if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        now = Path(folder, "now.abixml")
        abi = read_abi(library)
        if missing := missing_types(abi):
            raise RuntimeError(f"{library} does not show {', '.join(missing)}: was it built with -g?")
        now.write_text(abi)
        done = run("abidiff", "--no-show-locs", "--no-default-suppression", baseline or recorded(), now)
    if done.returncode & 3:
        raise RuntimeError(f"abidiff: {done.stdout}{done.stderr}")
    return done.stdout if done.returncode else ""


def witness(where, include=INCLUDE):
    """A library of the same name that is nothing but the headers' types: what a core would be that was built with them."""
    source = Path(where, "witness.c")
    source.write_text(
        "#define THOLE_ENABLE_DRAFT\n" + "".join(f"#include <{name}>\n" for name in headers(include))
        + "const thole_root *thole_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status) {\n"
        "  (void)abi_major; (void)abi_minor; (void)status;\n  return 0;\n}\n")
    library = Path(where, "libthole.so.0")
    subprocess.run(["gcc", "-g", "-shared", "-fPIC", "-std=c11", f"-I{include}",
                    "-Wl,-soname,libthole.so.0", source.name, "-o", str(library)], check=True, cwd=where)
    return library


def layout(contract):
    """Of each struct and enumeration what must not change, from the headers' model."""
    return {
        "structs": {s["name"]: {"kind": s["kind"], "size": s["size"], "fields": [
            [f["name"], f["offset"], f["size"], f["type"]] for f in s["fields"]]} for s in contract["structs"]},
        "values": {v["name"]: v["value"] for e in contract["enumerations"] for v in e["values"]}
        | {c["name"]: c["value"] for c in contract["constants"]},
        "reasons": {r["name"]: r["code"] for r in contract["reasons"]},
    }


def breaks(before, now):
    """What of `before` is not as it was in `now`. What was only appended is none."""
    found = []
    for name, struct in before["structs"].items():
        other = now["structs"].get(name)
        if other is None:
            found.append(f"{name} is gone")
            continue
        if other["kind"] != struct["kind"]:
            found.append(f"{name} was {struct['kind']} and is {other['kind']}")
        if struct["kind"] in ("frozen", "opaque") and other["size"] != struct["size"]:
            found.append(f"{name} is {struct['kind']} and has another size")
        for i, field in enumerate(struct["fields"]):
            if other["fields"][i : i + 1] != [field]:
                found.append(f"{name}.{field[0]} is not where and what it was")
                break
    for kind in ("values", "reasons"):
        for name, value in before[kind].items():
            if name in ("THOLE_ABI_MAJOR", "THOLE_ABI_MINOR"):
                continue
            if now[kind].get(name) != value:
                found.append(f"{name} was {value} and is {now[kind].get(name, 'gone')}")
    return found


def recorded_layout():
    return json.loads((folder() / "layout.json").read_text())


def write(library, why=None):
    """Records the library's ABI. A break needs a reason, which becomes a line of abi/HISTORY.yaml."""
    abi = read_abi(library)
    if missing := missing_types(abi):
        raise SystemExit(f"rebaseline: {library} does not show {', '.join(missing)}: was it built with -g?")
    if re.search(r'="/', abi):
        raise SystemExit("rebaseline: the baseline would hold a path of this machine")
    now = layout(model())
    broken = breaks(recorded_layout(), now) if (folder() / "layout.json").exists() else []
    if broken and not why:
        raise SystemExit("rebaseline: these are breaks; say why with --break 'REASON':\n  " + "\n  ".join(broken))
    folder().mkdir(parents=True, exist_ok=True)
    if broken:
        with HISTORY.open("a") as file:
            file.write(f"- version: {folder().name}\n  why: {json.dumps(why)}\n  what:\n")
            file.writelines(f"    - {json.dumps(line)}\n" for line in broken)
    recorded().write_text(abi)
    lines = ",\n".join(f" {json.dumps(k)}: {{\n" + ",\n".join(
        f"  {json.dumps(n)}: {json.dumps(v)}" for n, v in group.items()) + "\n }" for k, group in now.items())
    (folder() / "layout.json").write_text("{\n" + lines + "\n}\n")
    return broken
