"""Checks of the source that no compiler makes. Each answers the list of problems that it found."""

import concurrent.futures
import hashlib
import json
import os
import re
import subprocess

BUILD_PRODUCTS = re.compile(r"(^|/)(venv|\.venv|__pycache__|node_modules|build)/|\.(o|a|so|pyc|log)$")
SOURCE = (".h", ".cc", ".c", ".cu")


def tracked(root, *patterns):
    """Files that git knows or would add, so that a new file is checked before it is committed."""
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        capture_output=True, check=True,
    ).stdout.decode()
    return sorted({name for name in listed.split("\0") if name and os.path.isfile(os.path.join(root, name))})


def ours(root):
    """What people wrote. (That nothing else is tracked is a check of its own.)"""
    return [name for name in tracked(root) if not BUILD_PRODUCTS.search(name)]


def read(root, name):
    with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def sources(root):
    return [name for name in ours(root) if name.endswith(SOURCE)]


def formatted(root):
    names = [name for name in sources(root) if not name.startswith(("abi/include/", "samples/"))]
    problems = []
    for i in range(0, len(names), 40):
        done = subprocess.run(["clang-format-16", "--dry-run", "--Werror", *names[i : i + 40]], cwd=root,
                              capture_output=True, text=True, check=False)
        problems += sorted({line.split(":")[0] + ": run clang-format-16 -i" for line in done.stderr.splitlines()
                            if "error: code should be clang-formatted" in line})
    return problems


def sizes(root):
    """A file that a person can hold in mind: 500 lines of code, 400 of a header of the contract."""
    problems = []
    code = SOURCE + (".py",)
    for name in ours(root):
        if not name.endswith(code):
            continue
        limit = 400 if name.startswith("abi/include/") else 500
        lines = read(root, name).count("\n")
        if lines > limit and "generated" not in read(root, name)[:400].lower():
            problems.append(f"{name}: {lines} lines, {limit} are the most")
    return problems


# Marks of unfinished work, names that say nothing, and places of one machine. They are put together from pieces, so that
# this file is examined like every other.
FORBIDDEN_WORDS = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK"]) + r")\b")
FORBIDDEN_NAMES = re.compile(r"(^|[/_])(utils?|helpers?|managers?|misc|common)([_.]|$)")
FORBIDDEN_PATHS = re.compile("|".join(
    f"/{place}" for place in ("work" r"/(main|shared|\.)", "root" "/", "home" r"/(?!me/)[a-z]", "tmp" r"/w/", "tmp" "/bash_jobs")
))
# The first 16 digits of the SHA-256 of two neighbouring labels of a package registry's host: its name is in no file, this
# one included.
FORBIDDEN_HOSTS = {"a4aa2ac280bb8d1a", "4ff05e3c263b36b1", "08d54e49cb09e297",
                   "954ad027ab968ca3", "10d08ae2bdb80167"}
HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")


def names_a_registry(line):
    for host in HOST.findall(line):
        labels = host.split(".")
        for pair in zip(labels, labels[1:]):
            if hashlib.sha256(".".join(pair).encode()).hexdigest()[:16] in FORBIDDEN_HOSTS:
                return True
    return False


def words(root):
    problems = []
    for name in ours(root):
        if FORBIDDEN_NAMES.search(name) and "key-helper" not in name:
            problems.append(f"{name}: the name says nothing about what is in it")
        if not name.endswith(
            SOURCE + (".py", ".md", ".yaml", ".txt", ".cmake", ".proto", ".json", ".sh")
        ) and "." in os.path.basename(name):
            continue
        for number, line in enumerate(read(root, name).splitlines(), 1):
            if FORBIDDEN_WORDS.search(line):
                problems.append(f"{name}:{number}: unfinished: {line.strip()}")
            if FORBIDDEN_PATHS.search(line) or names_a_registry(line):
                problems.append(f"{name}:{number}: a path or host of one machine: {line.strip()[:120]}")
    return problems


# A folder of sdk/src may include itself and what is named for it here; nothing else may include any of them.
LAYERS = {
    "base": (),
    "model": ("base",),
    "gang": ("base", "model"),
    "partition": ("base", "model"),
    "checkpoint": ("base", "model"),
    "metrics": ("base", "model"),
    "recovery": ("base", "model"),
    "loader": ("base",),
    "core": ("base", "model", "gang", "partition", "checkpoint", "metrics", "recovery", "loader"),
    "capi": ("base", "model", "gang", "partition", "checkpoint", "metrics", "recovery", "loader", "core"),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')


def include_problems(name, text):
    """The include lines of one file that go against the arrows."""
    problems = []
    parts = name.split("/")
    inside = parts[2] if name.startswith("sdk/src/") and len(parts) > 3 else None
    for number, line in enumerate(text.splitlines(), 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        target = found.group(1)
        folder = target.split("/")[0]
        where = f"{name}:{number}: includes {target}"
        if inside is not None:
            if folder in LAYERS and folder != inside and folder not in LAYERS[inside]:
                problems.append(f"{where}: {inside} may include {', '.join(LAYERS[inside]) or 'no other folder'}")
            if inside not in ("capi",) and folder in ("adapters", "plugins"):
                problems.append(f"{where}: the core knows neither adapters nor plugins")
        elif name.startswith(("adapters/", "plugins/", "samples/", "tests/contract/")):
            own = "/".join(parts[:2])
            if "sdk/src" in target or (folder in LAYERS and "/" in target and not _lies_in(name, target)):
                problems.append(f"{where}: {own} sees the contract only")
            if target.startswith("../.."):
                problems.append(f"{where}: reaches into another folder")
        elif name.startswith("abi/include/"):
            if not target.startswith("thole/") and target not in ("stdint.h", "stddef.h"):
                problems.append(f"{where}: a header of the contract needs stdint.h and stddef.h only")
    return problems


def _lies_in(name, target):
    root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
    parts = name.split("/")
    return any(os.path.exists(os.path.join(root, *parts[:i], target)) for i in range(1, len(parts)))


def includes(root):
    problems = []
    for name in sources(root):
        problems += include_problems(name, read(root, name))
    return problems


def layers_in_cmake(root):
    """What CMake lets a layer see is the table above."""
    problems = []
    text = read(root, "sdk/src/CMakeLists.txt")
    uses = {name: rest.split("LINK")[0].replace("USES", "").split() for name, rest in
            re.findall(r"thole_layer\((\w+)([^)]*)\)", text)}
    for name, allowed in LAYERS.items():
        if name not in uses:
            problems.append(f"sdk/src/CMakeLists.txt: no thole_layer({name})")
        for lower in uses.get(name, []):
            if lower not in allowed:
                problems.append(f"sdk/src/CMakeLists.txt: {name} USES {lower}")
    return problems


def readable(root):
    """Every file can be read by a person; what cannot is made by a script, as tests/fuzz/binary_corpus does."""
    problems = []
    for name in ours(root):
        with open(os.path.join(root, name), "rb") as file:
            if b"\0" in file.read():
                problems.append(f"{name}: binary")
    return problems


def no_build_products(root):
    """A tree that is cloned holds source: no environment, log, object or cache."""
    return [f"{name}: tracked" for name in tracked(root) if BUILD_PRODUCTS.search(name)][:20]


def clang_tidy(root, folder):
    """clang-tidy over every file of the core and what loads it, as .clang-tidy says.

    A file that was found good is not examined again until it, a header of ours or .clang-tidy changes."""
    with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as file:
        commands = {os.path.realpath(entry["file"]): entry["command"] for entry in json.load(file)}
    names = [name for name in sources(root) if name.startswith(("sdk/src/", "plugins/", "adapters/"))
             and os.path.realpath(os.path.join(root, name)) in commands]
    shared = hashlib.sha256(read(root, ".clang-tidy").encode())
    for name in sources(root):
        if name.endswith(".h"):
            shared.update(name.encode() + read(root, name).encode())
    known = os.path.join(folder, "tidy")
    os.makedirs(known, exist_ok=True)

    def examine(name):
        state = shared.copy()
        state.update(f"{name} {commands[os.path.realpath(os.path.join(root, name))]} {read(root, name)}".encode())
        good = os.path.join(known, state.hexdigest()[:32])
        if os.path.exists(good):
            return []
        done = subprocess.run(["clang-tidy-16", "--quiet", "-p", folder, "--warnings-as-errors=*", name], cwd=root,
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            with open(good, "w", encoding="utf-8"):
                return []
        return [line.replace(root + "/", "") for line in done.stdout.splitlines() if ": error:" in line] or [
            f"{name}: {done.stdout[-500:]}{done.stderr[-500:]}"]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for found in pool.map(examine, names) for problem in found]


CHECKS = [
    ("clang-format", formatted),
    ("sizes of files", sizes),
    ("words, names and paths", words),
    ("include order", includes),
    ("layers in CMake", layers_in_cmake),
    ("no build products", no_build_products),
    ("every file is text", readable),
]
