#!/usr/bin/env python3
"""What the built library and plugins export, and what of it would be shared with other copies in a process. The peer is the
same library's own count of global symbols before the version script hides them (in its object files)."""

import json
import os
import re
import subprocess
from pathlib import Path

BUILD = Path(os.environ["THOLE_TEST_BUILD"])


def said(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout


def exported(library):
    return [line for line in said("nm", "-D", "--defined-only", library).splitlines() if line.split()[-2] not in ("A", "a")]


def hidden():
    """Global symbols in the objects that the library is linked from."""
    objects = list((BUILD / "sdk").rglob("*.o"))
    names = said("nm", "--defined-only", "--extern-only", *objects).splitlines()
    return len({line.split()[-1] for line in names if len(line.split()) == 3})


def line(name, ours, goal, peer=None):
    print(json.dumps({"id": f"symbols.{name}", "ours": ours, "unit": "symbols", "peer": peer, "limit": None,
                      "ratio": round(ours / peer, 6) if peer else None, "goal": goal}))


def main():
    core = (BUILD / "sdk/libthole.so.0").resolve()
    plugins = [p for p in sorted((BUILD / "plugins").rglob("*.so")) if p.is_file()]
    line("core.exported", len(exported(core)), "<= 4", hidden())
    for plugin in plugins:
        line(f"{plugin.stem}.exported", len(exported(plugin)), "== 1")
    libraries = [core, *plugins]
    line("unique", sum(len(re.findall(r"\bUNIQUE\b", said("readelf", "-s", "-W", x))) for x in libraries), "== 0")
    line("static_tls", sum("STATIC_TLS" in said("readelf", "-d", "-W", x) for x in libraries), "== 0")


main()
