"""What a cluster at the door says, and how a process is told to come to it."""
import json
import os
import socket
import subprocess
import sys

import pytest
import ray
from cluster import PATIENCE
from thole.errors import TholeError
from thole.ray import cluster


@pytest.mark.parametrize("error, code", [(ray.exceptions.AuthenticationError("the token is wrong"), "THOLE_DENIED"),
                                         (ray.exceptions.RaySystemError("gone"), "THOLE_UNAVAILABLE"), (RuntimeError("gone"), "THOLE_UNAVAILABLE")])
def test_what_ray_says_at_the_door(tmp_path, monkeypatch, error, code):
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(error))
    with socket.create_server(("127.0.0.1", 0)) as door, pytest.raises(TholeError) as raised:
        cluster.connect(tmp_path, f"127.0.0.1:{door.getsockname()[1]}")
    assert raised.value.code == code and str(error).splitlines()[0] in raised.value.message


def test_a_token_that_is_missing(tmp_path):
    """Ray's own error, and no traceback."""
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")}, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    (tmp_path / "state").mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as door:
        done = subprocess.run([sys.executable, "-m", "thole.ray", "--state", str(tmp_path / "state"), "--address",
                               f"127.0.0.1:{door.getsockname()[1]}", "pool"], env=environment, capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
    assert done.returncode == 77 and "Traceback" not in done.stderr and "token" in done.stderr, done.stderr


def test_the_folders_authentication_is_for_its_own_cluster(tmp_path):
    (tmp_path / "cluster.json").write_text(json.dumps({"address": "10.0.0.1:6379", "auth": "token"}))
    known = cluster.Cluster(tmp_path)
    assert known.environment()["RAY_AUTH_MODE"] == known.environment("10.0.0.1:6379")["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in known.environment("127.0.0.1:6379") and cluster.ON_LOOPBACK in known.environment("127.0.0.1:6379")
