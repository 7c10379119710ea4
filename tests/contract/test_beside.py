"""Rule A10: the core works beside other copies of what is inside it, whether they come first or second, also where they are
global, and a process that knows nothing of it does not notice it.

Each case is a process of its own: it loads the other library and the core in one of the two orders, and then has the core
read YAML, place a gang, and encrypt and read a checkpoint.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("THOLE_TEST_BUILD", ROOT / "build/release"))
LIBRARY = BUILD / "sdk/libthole.so.0"
OTHERS = {
    "protobuf-lite": "libprotobuf-lite.so.32",
    "protobuf": "libprotobuf.so.32",
    "yaml-cpp": "libyaml-cpp.so.0.7",
    "spdlog": "libspdlog.so.1.10",
    "fmt": "libfmt.so.9",
    "openssl": "libcrypto.so.3",
    "libstdc++": "libstdc++.so.6",
}

# In C++, so that the other library is used through its own inline code too, as a host would.
WORK = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include "slots.h"

int main(int, char **argv) {
  const bool core_first = argv[1][0] == 'c';
  const int how = argv[3][0] == 'g' ? RTLD_NOW | RTLD_GLOBAL : RTLD_NOW | RTLD_LOCAL;
  if (core_first) host::root();
  if (dlopen(argv[2], how) == nullptr) { fprintf(stderr, "%s\n", dlerror()); return 9; }
  using namespace host;
  world w;
  w.open();
  w.make_key();
  auto document = sized<thole_document>();
  lent m;
  thole_status status = sized<thole_status>();
  int bad = 0;
  auto expect = [&](const char *what, thole_code code) {
    if (code != THOLE_OK) { ++bad; fprintf(stderr, "%s: %s %s\n", what, status.reason, status.message); }
  };
  expect("read", root()->job->read({}, job_text(), {}, &document, &m.room, &status));
  const auto *t = root()->checkpoint;
  auto save = sized<thole_save>();
  save.attempt = save.step = save.parts = 1;
  const one_tensor tensor;
  thole_writer writer{};
  thole_reader reader{};
  expect("begin", t->begin(w.core, &w.store, &save, &writer, &status));
  expect("put", t->put(writer, &tensor.item, &status));
  expect("seal", t->seal(writer, nullptr, &status));
  expect("end", t->end(writer, &status));
  expect("open", t->open(w.core, &w.store, nullptr, &reader, &status));
  float to[4] = {};
  auto box = sized<thole_box>();
  box.name = THOLE_STR("weights");
  box.to = to;
  box.size = sizeof to;
  expect("get", t->get(reader, &box, &status));
  expect("close", t->close(reader, &status));
  if (memcmp(to, tensor.numbers, sizeof to) != 0) ++bad;
  // An exception of the core's own libraries is caught inside it: this text makes yaml-cpp throw.
  if (root()->job->read({}, THOLE_STR("a: [1, 2"), {}, &document, &m.room, &status) != THOLE_INVALID) ++bad;
  return bad == 0 && !::testing::Test::HasFailure() ? 0 : 1;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    (folder / "work.cc").write_text(WORK)
    done = subprocess.run(
        ["g++", "-std=c++20", "-DTHOLE_ENABLE_DRAFT", f'-DTHOLE_LIBRARY_FILE="{LIBRARY}"', f"-I{ROOT / 'abi/include'}",
         f"-I{ROOT / 'tests/contract'}", folder / "work.cc", "-o", folder / "work", "-lgtest", "-lpthread", "-ldl"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "work"


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("order", ["core first", "other first"])
@pytest.mark.parametrize("other", OTHERS)
def test_works_beside(other, order, scope, program):
    done = subprocess.run([program, order, OTHERS[other], scope], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("modules", ["ssl, hashlib", "json, sqlite3, zlib", "numpy"])
def test_a_process_that_preloads_it_notices_nothing(modules):
    code = f"import {modules}; import hashlib; print(hashlib.sha256(b'thole').hexdigest())"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    beside = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                            env=dict(os.environ, LD_PRELOAD=str(LIBRARY)))
    assert (beside.returncode, beside.stdout, beside.stderr) == (0, plain.stdout, plain.stderr)


def test_protobuf_of_python_and_the_core_in_one_process():
    code = ("from google.protobuf import struct_pb2\nimport thole\nfrom google.protobuf import descriptor_pb2\n"
            "s = struct_pb2.Struct(); s['a'] = 1; print(s.SerializeToString() != b'')\n"
            "from thole import _native; _native.core()\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env=dict(os.environ, THOLE_LIBRARY=str(LIBRARY), PYTHONPATH=str(ROOT / "sdk/python")))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_the_others_are_there():
    missing = [name for name in OTHERS.values() if not Path("/usr/lib", f"{os.uname().machine}-linux-gnu", name).exists()]
    assert not missing
