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
from thole.ray import cluster, command


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


@pytest.mark.parametrize("error, code", [(ray.exceptions.ActorDiedError(), 69), (ray.exceptions.GetTimeoutError("61 s"), 69), (ValueError("ours"), None)])
def test_what_goes_wrong_behind_the_door(tmp_path, monkeypatch, capsys, error, code):
    """Ray's errors are a sentence and an exit code; a defect of ours stays one that is seen."""
    monkeypatch.setattr(command, "_pool", lambda _: (_ for _ in ()).throw(error))
    arguments = ["--state", str(tmp_path), "--address", "127.0.0.1:1", "pool"]
    if code is None:
        with pytest.raises(ValueError):
            command.main(arguments)
        return
    assert command.main(arguments) == code
    said = capsys.readouterr().err
    assert type(error).__name__ in said and "say this again" in said and len(said.splitlines()) == 1


def test_the_folders_authentication_is_for_its_own_cluster(tmp_path):
    (tmp_path / "cluster.json").write_text(json.dumps({"address": "10.0.0.1:6379", "auth": "token"}))
    known = cluster.Cluster(tmp_path)
    assert known.environment()["RAY_AUTH_MODE"] == known.environment("10.0.0.1:6379")["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in known.environment("127.0.0.1:6379") and cluster.ON_LOOPBACK in known.environment("127.0.0.1:6379")
