#!/usr/bin/env python3
"""Puts layers (tar files, the lowest first) together to one image archive, in the form of `docker save`."""
from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile


def digest_of(path: str) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name", help="NAME:TAG of the image")
    options.add_argument("out")
    options.add_argument("layers", nargs="+")
    options.add_argument("--folder", default="/", help="where its command runs")
    options.add_argument("--user", default="", help="UID:GID of its command")
    options.add_argument("--env", action="append", default=[], help="NAME=VALUE")
    options.add_argument("--entrypoint", action="append", default=[], help="a word of its command")
    given = options.parse_args()
    digests = [digest_of(path) for path in given.layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + d for d in digests]},
              "config": {"User": given.user, "Env": given.env, "WorkingDir": given.folder, "Entrypoint": given.entrypoint or None}}
    text = json.dumps(config, sort_keys=True).encode()
    config_name = hashlib.sha256(text).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [given.name], "Layers": [d + "/layer.tar" for d in digests]}]
    with tarfile.open(given.out + ".new", "w") as archive:
        for name, data in (("manifest.json", json.dumps(manifest).encode()), (config_name, text)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for path, digest in zip(given.layers, digests):
            archive.add(path, digest + "/layer.tar")
    os.replace(given.out + ".new", given.out)


if __name__ == "__main__":
    main()
