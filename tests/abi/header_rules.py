"""Rules A3, A6 and A14 of a header, as functions that answer what breaks them. test_headers.py runs them over the contract
and over specimens/, where each file breaks exactly one."""

import re

from toolbox import castxml, without_comments

MOST_LINES = 400
MOST_SLOTS = 12
FIXED = {"int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t"}


def length(text):
    lines = text.count("\n")
    return [f"{lines} lines, {MOST_LINES} are the most"] if lines > MOST_LINES else []


def included(text):
    found = re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', text, re.M)
    return [f"includes {name}" for name in found if name not in ("stdint.h", "stddef.h") and not name.startswith("thole/")]


def tables(text):
    """No table has more slots than a person reads at once."""
    problems = []
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\n\} \w+;", without_comments(text), re.S):
        slots = re.findall(r"\(\s*\*\s*(\w+)\s*\)\s*\(", body)
        if len(slots) > MOST_SLOTS:
            problems.append(f"{name} has {len(slots)} slots, {MOST_SLOTS} are the most")
    return problems


def kinds(text):
    """Every struct is sized, opaque or frozen, and says which."""
    problems = []
    everything_frozen = re.search(r"frozen +the structs of this header", text) is not None
    for whole in re.finditer(r"((?:/\*(?:(?!\*/).)*\*/\s*)?)typedef struct (\w+) \{(.*?)\n\} \w+;", text, re.S):
        before, name, body = whole.groups()
        fields = [f.strip() for f in without_comments(body).split(";") if f.strip()]
        if not fields:
            continue
        if "struct_size" in fields[0]:
            if fields[0] != "uint64_t struct_size" or not re.search(r"struct_size;\s*/\* sized", body):
                problems.append(f"{name}: struct_size is a uint64_t and its comment says sized")
        elif fields == ["uint64_t v"]:
            continue
        elif not (everything_frozen or "frozen" in (before + body.split("\n")[0]).lower()):
            problems.append(f"{name} is neither sized nor opaque, and does not say that it is frozen")
    return problems


def comments(text):
    """Every slot of a table has a comment of its own; a header has one that begins with its name."""
    problems = [] if re.match(r"/\* thole/\S+\.h: ", text) else ["the header does not begin with what it is"]
    for name, body in re.findall(r"typedef struct (\w+_api) \{(.*?)\n\} \w+;", text, re.S):
        for slot in re.finditer(r"^  \w+ \(\*(\w+)\)", body, re.M):
            if not body[: slot.start()].rstrip().endswith("*/"):
                problems.append(f"{name}.{slot.group(1)} has no comment")
    return problems


def members(source, include, ours):
    """Members are of fixed-width types: no bool, enumeration, long, bit field or va_list. `ours` tells our files' names."""
    graph = castxml(source, include)
    files = {e.get("id"): e.get("name") for e in graph.values() if e.tag == "File"}
    problems = []
    for e in graph.values():
        if e.tag not in ("Struct", "Union") or not ours(files.get(e.get("file"), "")):
            continue
        if e.tag == "Union":
            problems.append(f"{e.get('name')}: a union")
        for identifier in e.get("members", "").split():
            field = graph[identifier]
            if field.tag != "Field":
                continue
            where = f"{e.get('name')}.{field.get('name')}"
            if field.get("bits"):
                problems.append(f"{where}: a bit field")
            problems += [f"{where}: {p}" for p in _type_problems(graph, field.get("type"))]
    return problems


def _type_problems(graph, identifier, seen=()):
    e = graph[identifier]
    name = e.get("name", "")
    if e.tag == "Typedef":
        if name in FIXED:
            return []
        if name in ("va_list", "__gnuc_va_list", "__builtin_va_list"):
            return ["a va_list"]
        if name in ("size_t", "ssize_t", "ptrdiff_t", "intptr_t", "uintptr_t"):
            return [f"{name} is not of a fixed width"]
        return _type_problems(graph, e.get("type"), seen)
    if e.tag == "FundamentalType":
        return [] if name in ("char", "void", "double") else [f"{name} is not of a fixed width"]
    if e.tag == "Enumeration":
        return ["an enumeration has no fixed width in C"]
    if e.tag in ("Struct", "Union"):
        return ["a va_list"] if "va_list" in name else []
    if e.tag == "FunctionType":
        if any(a.tag == "Ellipsis" for a in e):
            return ["variable arguments"]
        parts = [a.get("type") for a in e if a.tag == "Argument"] + [e.get("returns")]
        return [p for part in parts for p in _type_problems(graph, part, seen)]
    return _type_problems(graph, e.get("type"), seen) if e.get("type") else []
