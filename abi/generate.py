#!/usr/bin/env python3
"""Makes abi/model/thole.json out of the headers: every struct with the size and offset of each field, every slot of every
table with its signature, every constant, enumeration and reason. Bindings for other languages are generated from the
model, so that whoever uses them needs no C compiler; a test makes it again and compares.

usage: abi/generate.py [--check]      needs castxml and a C compiler; --check writes nothing and fails if they differ

Types in the model:  "uint64", "double", "char", "void"     as C has them
                     "thole_str", "thole_code"              a struct, or an enumeration (an int32)
                     {"pointer": T, "const": bool}   {"array": T, "count": n}
                     {"function": {"returns": T, "parameters": [{"name", "type"}]}}
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDE = HERE / "include"
MODEL = HERE / "model" / "thole.json"
FUNDAMENTAL = {
    "void": "void", "char": "char", "double": "double", "float": "float",
    "signed char": "int8", "unsigned char": "uint8", "short int": "int16", "short unsigned int": "uint16",
    "int": "int32", "unsigned int": "uint32", "long int": "int64", "long unsigned int": "uint64",
}


def headers():
    """In the order of inclusion: the stable ones first, then the drafts."""
    stable = sorted(p.name for p in (INCLUDE / "thole").glob("*.h") if p.name != "thole.h")
    return stable + sorted(f"draft/{p.name}" for p in (INCLUDE / "thole" / "draft").glob("*.h"))


def source():
    return "#define THOLE_ENABLE_DRAFT\n" + "".join(f"#include <thole/{name}>\n" for name in headers())


def preprocess(text, *options):
    done = subprocess.run(["cc", "-E", "-P", "-x", "c", f"-I{INCLUDE}", *options, "-"], input=text, text=True,
                          stdout=subprocess.PIPE, check=True)
    return done.stdout


def castxml():
    with tempfile.TemporaryDirectory() as folder:
        c, out = Path(folder, "all.c"), Path(folder, "all.xml")
        c.write_text(source())
        subprocess.run(["castxml", "--castxml-output=1", "--castxml-cc-gnu-c", "cc", "-std=c11", f"-I{INCLUDE}", str(c),
                        "-o", str(out)], check=True)
        return xml.parse(out).getroot()


class Headers:
    """castxml's graph of declarations, and what it leaves out: the names of a slot's parameters."""

    def __init__(self):
        root = castxml()
        self.by_id = {e.get("id"): e for e in root if e.get("id")}
        self.file = {f.get("id"): os.path.relpath(f.get("name"), INCLUDE / "thole") for f in root.iter("File")}
        self.ours = set(headers())
        self.parameters = {}
        for name in headers():
            text = re.sub(r"/\*.*?\*/", "", (INCLUDE / "thole" / name).read_text(), flags=re.S)
            for struct in re.finditer(r"typedef struct (\w+) \{(.*?)\n\} \w+;", text, re.S):
                for slot in re.finditer(r"\(\*(\w+)\)\(([^)]*)\)", struct[2]):
                    self.parameters[struct[1], slot[1]] = self._names(slot[2])
            for function in re.finditer(r"^(?:THOLE_EXPORT|typedef) [^;{]*?(?:\(\*)?(\w+)\)?\(([^)]*)\);", text, re.M):
                self.parameters["", function[1]] = self._names(function[2])

    @staticmethod
    def _names(parameters):
        return [re.search(r"(\w+)\s*$", p)[1] for p in parameters.split(",") if p.strip() not in ("", "void")]

    def declared(self, kind):
        """Our declarations of a kind, in the order of the headers."""
        found = [e for e in self.by_id.values() if e.tag == kind and self.header(e) in self.ours]
        return sorted(found, key=lambda e: (headers().index(self.header(e)), int(e.get("line"))))

    def header(self, element):
        return self.file.get(element.get("file"))

    def type(self, identifier, names=()):
        e = self.by_id[identifier]
        if e.tag == "FundamentalType":
            return FUNDAMENTAL[e.get("name")]
        if e.tag == "Typedef":
            name = e.get("name")
            if self.header(e) in self.ours and isinstance(self.type(e.get("type")), str) and name.startswith("thole_"):
                return name
            return self.type(e.get("type"), names)
        if e.tag in ("CvQualifiedType", "ElaboratedType"):
            return self.type(e.get("type"), names)
        if e.tag == "Struct":
            return e.get("name")
        if e.tag == "ArrayType":
            return {"array": self.type(e.get("type")), "count": int(e.get("max")) + 1}
        if e.tag == "PointerType":
            to = self.type(e.get("type"), names)
            if isinstance(to, dict) and "function" in to:
                return to
            return {"pointer": to, "const": self.constant(e.get("type"))}
        if e.tag in ("FunctionType", "Function"):
            types = [self.type(a.get("type")) for a in e.iter("Argument")]
            names = list(names) or [f"argument{i}" for i in range(len(types))]
            if len(names) != len(types):
                raise SystemExit(f"{names} do not name {len(types)} parameters")
            parameters = [{"name": n, "type": t} for n, t in zip(names, types)]
            return {"function": {"returns": self.type(e.get("returns")), "parameters": parameters}}
        raise SystemExit(f"a type that the contract does not use: {e.tag} {e.get('name')}")

    def constant(self, identifier):
        e = self.by_id[identifier]
        return e.get("const") == "1" or (e.tag == "ElaboratedType" and self.constant(e.get("type")))

    def bits(self, identifier):
        """The size of a type, in bits."""
        e = self.by_id[identifier]
        if e.tag == "ArrayType":
            return self.bits(e.get("type")) * (int(e.get("max")) + 1)
        return int(e.get("size")) if e.get("size") else self.bits(e.get("type"))


def struct(read, element):
    name, fields = element.get("name"), []
    for member in element.get("members", "").split():
        f = read.by_id[member]
        if f.tag != "Field":
            continue
        if f.get("bits"):
            raise SystemExit(f"{name}.{f.get('name')} is a bit field: rule A6")
        fields.append({"name": f.get("name"), "offset": int(f.get("offset")) // 8, "size": read.bits(f.get("type")) // 8,
                       "type": read.type(f.get("type"), read.parameters.get((name, f.get("name")), ()))})
    slots = [f for f in fields if isinstance(f["type"], dict) and "function" in f["type"]]
    if [f["name"] for f in fields] == ["v"]:
        kind = "opaque"
    elif fields[0]["name"] != "struct_size":
        kind = "frozen"
    else:
        kind = "table" if len(slots) == len(fields) - 1 else "sized"
    return {"name": name, "header": read.header(element), "kind": kind, "size": int(element.get("size")) // 8,
            "align": int(element.get("align")) // 8, "fields": fields}


def enumerations(read):
    """An enumeration belongs to the int32 type that is declared right before it."""
    types = [t for t in read.declared("Typedef") if read.type(t.get("type")) == "int32"]
    found = []
    for e in read.declared("Enumeration"):
        before = [t for t in types if read.header(t) == read.header(e) and int(t.get("line")) <= int(e.get("line"))]
        values = [{"name": v.get("name"), "value": int(v.get("init"))} for v in e.iter("EnumValue")]
        found.append({"name": before[-1].get("name"), "header": read.header(e), "type": "int32", "values": values})
    return found


def constants():
    """The macros that are an integer or a text, evaluated."""
    names = []
    for name in headers():
        text = (INCLUDE / "thole" / name).read_text()
        names += [(m, name) for m in re.findall(r"^#define (THOLE_\w+)[ \t]+\S", text, re.M)]
    lines = preprocess(source() + "".join(f'@@ "{n}" {n}\n' for n, _ in names))
    values = dict(re.findall(r'^@@ "(\w+)" (.*?)\s*$', lines, re.M))
    found = []
    for name, header in names:
        text = values[name].strip("()")
        if re.fullmatch(r"(0x[0-9a-fA-F]+|[0-9]+)[uUlL]*", text):
            found.append({"name": name, "header": header, "value": int(text.rstrip("uUlL"), 0)})
        elif re.fullmatch(r'"[^"\\]*"', text):
            found.append({"name": name, "header": header, "value": text[1:-1]})
    return found


def reasons():
    lines = preprocess(source() + "THOLE_REASONS(@@)\n")
    text = r'"((?:[^"\\]|\\.)*)"'
    rows = re.findall(rf"@@\s*\(\s*(\w+)\s*,\s*(\w+)\s*,\s*{text}\s*,\s*{text}\s*\)", lines)
    return [{"name": n, "code": c, "meaning": m, "remedy": r} for n, c, m, r in rows]


def model():
    read = Headers()
    values = {c["name"]: c["value"] for c in constants()}
    functions = [{"name": f.get("name"), "header": read.header(f),
                  **read.type(f.get("id"), read.parameters["", f.get("name")])}
                 for f in read.declared("Function") if ("", f.get("name")) in read.parameters]
    callbacks = [{"name": t.get("name"), "header": read.header(t),
                  **read.type(t.get("type"), read.parameters["", t.get("name")])}
                 for t in read.declared("Typedef") if "function" in read.type(t.get("type"))]
    return {
        "model": 1,
        "abi": {"major": values["THOLE_ABI_MAJOR"], "minor": values["THOLE_ABI_MINOR"]},
        "headers": headers(),
        "constants": constants(),
        "enumerations": enumerations(read),
        "structs": [struct(read, e) for e in read.declared("Struct") if not e.get("incomplete")],
        "functions": functions,
        "callbacks": callbacks,
        "reasons": reasons(),
    }


def text_of(value, indent=0):
    """JSON with one line for each thing that has no list of things in it: a change shows as a line of a diff."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or (len(flat) + indent <= 120 and indent):
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{pad}{json.dumps(k)}: {text_of(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + text_of(v, indent + 1) for v in value) + "\n" + " " * indent + "]"


def main():
    text = text_of(model()) + "\n"
    if "--check" in sys.argv[1:]:
        if not MODEL.exists() or MODEL.read_text() != text:
            raise SystemExit("abi/model/thole.json is not what the headers say: run abi/generate.py")
        return
    MODEL.parent.mkdir(exist_ok=True)
    MODEL.write_text(text)


if __name__ == "__main__":
    main()
