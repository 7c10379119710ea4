"""Rules A1, A7, A10 and A11 as the built files show them: what is exported, needed, run at load, and called."""

import re

import pytest
from toolbox import BUILD, LIBRARY, ROOT, run

NEEDED = {"libcrypto.so.3", "libgcc_s.so.1", "libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# What would end, print in, or change the process of somebody else.
FORBIDDEN = {
    "abort", "exit", "_exit", "_Exit", "quick_exit", "atexit", "__assert_fail", "printf", "puts", "putchar", "perror",
    "fprintf", "fputs", "fputc", "fwrite", "vprintf", "vfprintf", "__printf_chk", "__fprintf_chk", "__vfprintf_chk",
    "stdout", "stderr", "syslog", "signal", "sigaction", "sigprocmask", "pthread_sigmask", "setenv", "putenv", "unsetenv",
    "clearenv", "umask", "chdir", "fchdir", "setlocale", "system", "popen", "raise", "kill", "alarm", "daemon", "tzset",
    "localtime", "_ZSt4cout", "_ZSt4cerr", "_ZSt4clog",
}
# (file, name): why it is there all the same.
EXCUSED = {
    ("base/format.cc", "abort"): "fmt's own code for a failed assertion",
    ("base/format.cc", "stdout"): "fmt's print, which nothing of ours calls",
    ("base/format.cc", "stderr"): "as stdout",
    ("base/format.cc", "fwrite"): "as stdout",
    ("base/format.cc", "fputc"): "as stdout",
    ("base/format.cc", "fprintf"): "as stdout",
    ("checkpoint/key_program.cc", "pthread_sigmask"): "no SIGPIPE while it writes to a helper; the mask is put back",
    ("checkpoint/key_program.cc", "kill"): "a helper of its own that is out of time, where there is no pidfd",
    ("loader/plugin.cc", "pthread_sigmask"): "the thread that watches a stop takes no signal; the mask is put back",
}
# What <iostream>, which Protobuf's headers include, runs at load.
IOSTREAM = {"_ZNSt8ios_base4InitC1Ev", "_ZNSt8ios_base4InitD1Ev", "__cxa_atexit", "__dso_handle", ".bss"}


def exported(library):
    """{name: type letter} of what a shared object exports."""
    lines = run("nm", "-D", "--defined-only", library).stdout.splitlines()
    return {line.split()[-1].split("@")[0]: line.split()[-2] for line in lines if line.split()[-2] != "A"}


def dynamic(library):
    return run("readelf", "-d", "-W", library).stdout


def plugins():
    return sorted(p for p in (BUILD / "plugins").rglob("*.so") if p.is_file() and not p.is_symlink())


def our_objects():
    """(source below sdk/src, object) of each file of ours; generated code and other people's libraries are not."""
    objects = sorted((BUILD / "sdk/src/CMakeFiles").rglob("*.cc.o"))
    named = [(str(o.relative_to(BUILD / "sdk/src/CMakeFiles")).split("/", 1)[1].removesuffix(".o"), o)
             for o in objects if ".pb.cc" not in o.name]
    # What was built once and is no source any more is in no library.
    return [(source, o) for source, o in named if (ROOT / "sdk/src" / source).exists()]


def undefined(path):
    return {line.split()[-1].split("@")[0] for line in run("nm", "-u", path).stdout.splitlines() if line.split()}


def test_the_core_exports_its_entry_and_nothing_else():
    assert set(exported(LIBRARY)) == {"thole_entry_v1"}


def test_every_plugin_exports_its_entry_and_nothing_else():
    found = plugins()
    print(f"{len(found)} plugins: {', '.join(p.name for p in found)}")
    assert found
    for plugin in found:
        assert set(exported(plugin)) == {"thole_plugin_entry_v1"}, plugin.name


@pytest.mark.parametrize("library", [LIBRARY, *plugins()], ids=lambda p: p.name)
def test_shape(library):
    text, table = dynamic(library), run("readelf", "-s", "-W", library).stdout
    assert not re.search(r"\bUNIQUE\b", table), "STB_GNU_UNIQUE: shared with other copies in the process"
    assert "STATIC_TLS" not in text, "static TLS: cannot always be loaded late"
    assert "NODELETE" in text and "NOW" in text
    assert "RPATH" not in text and "RUNPATH" not in text or library != LIBRARY
    needed = set(re.findall(r"NEEDED.*\[(.*?)\]", text))
    assert needed <= NEEDED, f"needs {needed - NEEDED}"
    assert "TEXTREL" not in text
    assert "GNU_STACK" in (segments := run("readelf", "-l", "-W", library).stdout)
    assert not re.search(r"GNU_STACK.*RWE", segments)


def test_the_core_is_called_what_it_is():
    assert "libthole.so.0]" in dynamic(LIBRARY)
    assert "(RPATH)" not in dynamic(LIBRARY) and "(RUNPATH)" not in dynamic(LIBRARY)


def test_nothing_of_ours_ends_or_prints_in_a_process():
    objects = our_objects()
    problems = [f"{source} calls {name}" for source, path in objects for name in sorted(undefined(path) & FORBIDDEN)
                if (source, name) not in EXCUSED]
    print(f"{len(objects)} objects")
    assert len(objects) > 20 and not problems


def test_nothing_of_ours_runs_at_load():
    """No object of ours has a static initialiser; the .init_array of the library is libstdc++'s and Protobuf's."""
    problems = []
    for source, path in our_objects():
        if not re.search(r"_GLOBAL__sub_I_|_GLOBAL__sub_D_", run("nm", path).stdout):
            continue
        calls = run("objdump", "-r", "--section=.text.startup", path).stdout
        needed = {m.split("-0x")[0].split("+0x")[0] for m in re.findall(r"R_X86_64_\w+\s+(\S+)", calls)}
        if not needed or needed - IOSTREAM:
            problems.append(f"{source} {sorted(needed - IOSTREAM)}")
    assert not problems


def test_no_object_of_ours_asks_fmt_to_print():
    """The excuses of format.cc are for code that nothing of ours calls."""
    assert not [source for source, path in our_objects() if re.search(r"fmt::v\d+::(vprint|print)\(", run("nm", "-uC", path).stdout)]


def test_the_check_finds_a_forbidden_call(tmp_path):
    source = tmp_path / "specimen.cc"
    source.write_text('#include <cstdio>\n#include <cstdlib>\nstruct s { s() { std::puts("x"); } ~s() {} } here;\n'
                      "void f() { std::abort(); }\n")
    assert run("g++", "-std=c++20", "-c", source, "-o", tmp_path / "specimen.o").returncode == 0
    assert {"puts", "abort"} <= undefined(tmp_path / "specimen.o") & FORBIDDEN
    assert "_GLOBAL__sub_I_" in run("nm", tmp_path / "specimen.o").stdout


def test_the_check_finds_a_leaking_library(tmp_path):
    """Without version script and hidden visibility the same code exports more than its entry, and unique symbols too."""
    source = tmp_path / "leak.cc"
    source.write_text("#include <map>\n#include <string>\ntemplate <class T> T &one() { static T t; return t; }\n"
                      'extern "C" const void *thole_entry_v1() { one<std::map<int, std::string>>()[1] = "a"; return nullptr; }\n')
    library = tmp_path / "leak.so"
    assert run("g++", "-std=c++20", "-shared", "-fPIC", "-fgnu-unique", source, "-o", library).returncode == 0
    assert set(exported(library)) != {"thole_entry_v1"}
    assert "UNIQUE" in run("readelf", "-s", "-W", library).stdout


def test_the_newest_c_library_that_is_needed():
    versions = re.findall(r"GLIBC_([0-9.]+)", run("objdump", "-T", LIBRARY).stdout)
    newest = max(tuple(int(n) for n in v.split(".")) for v in versions)
    print("glibc", newest)
    assert newest <= (2, 36), "supported is Debian 12"
