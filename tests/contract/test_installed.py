"""What is installed is what a stranger needs: the samples, copied out of the repository, are built out of an installed tree
through CMake and through pkg-config, and do what docs/guide/embed.md and docs/guide/plugin.md say."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("THOLE_TEST_BUILD", ROOT / "build/release"))
WAYS = ("cmake", "pkg-config")


def environment(**more):
    """Without what would lead back to the checkout."""
    own = ("THOLE_", "CCACHE_", "CMAKE_", "PKG_CONFIG", "LD_", "PYTHON", "CFLAGS", "LDFLAGS")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(own)}, **more}


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], env=environment(**more), capture_output=True, text=True,
                          errors="replace", check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An installed tree that was moved: nothing in it may know where it was installed. The umask is a careless one."""
    first = tmp_path_factory.mktemp("installed") / "first"
    before = os.umask(0o002)
    try:
        run("cmake", "--install", BUILD, "--prefix", first)
    finally:
        os.umask(before)
    return first.rename(first.with_name("second"))


def libdir(prefix):
    return next(prefix.rglob("libthole.so.0")).parent


def pkg_config(prefix):
    return {"PKG_CONFIG_PATH": str(libdir(prefix) / "pkgconfig")}


def copied(sample, to):
    """A sample by itself, as somebody would have who does not have the repository."""
    shutil.copytree(ROOT / "samples" / sample, to)
    return to


def built_by_cmake(source, prefix):
    run("cmake", "-S", source, "-B", source / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", source / "build")
    return source / "build"


@pytest.mark.parametrize("way", WAYS)
def test_a_host_does_what_its_page_says(way, prefix, tmp_path):
    source = copied("embed", tmp_path / "embed")
    if way == "cmake":
        program, where = built_by_cmake(source, prefix) / "host", {}
    else:
        flags = run("pkg-config", "--cflags", "--libs", "thole", **pkg_config(prefix)).split()
        program, where = source / "host", {"LD_LIBRARY_PATH": str(libdir(prefix))}
        run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", program, source / "host.c", *flags)
    page = (ROOT / "docs/guide/embed.md").read_text()
    shown = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert run(program, **where) in shown


def test_what_the_page_says_in_c_compiles(prefix, tmp_path):
    page = (ROOT / "docs/guide/embed.md").read_text()
    fragments = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    source = tmp_path / "fragments.c"
    source.write_text("#include <thole/thole.h>\n" + "\n".join(fragments))
    flags = run("pkg-config", "--cflags", "thole", **pkg_config(prefix)).split()
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror", "-fsyntax-only", source, *flags)
    assert fragments


# Loads a folder of plugins; says what the core knows of them, and the GPUs that one of them answers.
LOADS = """
import json, sys
from ctypes import byref
from thole import _abi
from thole._native import check, check_with_room, core, elements, read, sized, text
folder, asked, options = sys.argv[1:]
of = core()
check(of.needed("core").load, of.handle, text(folder))
plugins = sized(_abi.thole_plugin_list)
kept = check_with_room(of.needed("core").plugins, of.handle, byref(plugins))
found = {read(p.id): read(p.reason) for p in elements(plugins.plugins, _abi.thole_plugin_info)}
if found.get(asked) == "":
    gpus = sized(_abi.thole_gpu_list)
    room = check_with_room(of.needed("device").list, of.handle, text(asked), text(options), byref(gpus))
    found[asked] = [[read(g.uuid), g.memory_mib, g.flags] for g in elements(gpus.gpus, _abi.thole_gpu)]
print(json.dumps(found))
"""


def loaded(prefix, folder, plugin, options=""):
    library = libdir(prefix) / "libthole.so.0"
    return json.loads(run(sys.executable, "-B", "-c", LOADS, folder, plugin, options, THOLE_LIBRARY=str(library),
                          PYTHONPATH=str(ROOT / "sdk/python")))


@pytest.mark.parametrize("way", WAYS)
def test_a_plugin_is_built_and_loaded(way, prefix, tmp_path):
    source = copied("plugin", tmp_path / "plugin")
    if way == "cmake":
        folder = built_by_cmake(source, prefix) / "plugins"
    else:
        run("make", "-C", source, **pkg_config(prefix))
        folder = source / "plugins"
    assert loaded(prefix, folder, "org.example.count") == {"org.example.count": [["SIM-one", 16384, 1]]}
    # What was built is what was digested: one more byte, and it is refused.
    with open(folder / "libcount.so", "ab") as library:
        library.write(b"\0")
    assert loaded(prefix, folder, "org.example.count") == {"org.example.count": "PluginDigestWrong"}


def test_what_the_two_ways_write_is_the_same(prefix, tmp_path):
    """But for the digest: compilers are given other options."""
    by_cmake = built_by_cmake(copied("plugin", tmp_path / "a"), prefix) / "plugins/count.yaml"
    run("make", "-C", copied("plugin", tmp_path / "b"), **pkg_config(prefix))
    texts = [re.sub(r"[0-9a-f]{64}", "", p.read_text()) for p in (by_cmake, tmp_path / "b/plugins/count.yaml")]
    assert texts[0] == texts[1]


def test_the_installed_plugins_load(prefix):
    """From the very folder that pkg-config names."""
    folder = run("pkg-config", "--variable=plugins", "thole", **pkg_config(prefix)).strip()
    said = loaded(prefix, folder, "thole.device.sim", '{"gpus": 2, "memory_mib": 1024}')
    assert [gpu[1:] for gpu in said.pop("thole.device.sim")] == [[1024, 1], [1024, 1]]
    assert set(said.values()) <= {""}, said


def test_nothing_knows_the_machine_that_built_it(prefix):
    """Neither text nor debug information names a folder of the build, of the checkout, or of the first prefix."""
    cache = os.environ.get("THOLE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "thole")
    words = {str(p).encode() for p in (ROOT, BUILD, BUILD.parent, cache, prefix.with_name("first"), prefix)}
    files = [p for p in prefix.rglob("*") if p.is_file() and not p.is_symlink()]
    found = [f"{p.relative_to(prefix)} names {word.decode()}" for p in files for word in words if word in p.read_bytes()]
    print(f"{len(files)} of {len(files)} installed files read")
    assert len(files) >= 15 and not found, "\n".join(found)


def test_only_the_owner_may_write(prefix):
    open_to_others = [str(p.relative_to(prefix)) for p in prefix.rglob("*")
                      if not p.is_symlink() and p.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]
    assert not open_to_others


def test_the_headers_are_those_of_the_checkout(prefix):
    there, here = ({p.relative_to(base): p.read_bytes() for p in (base / "thole").rglob("*.h")}
                   for base in (prefix / "include", ROOT / "abi/include"))
    assert there == here
