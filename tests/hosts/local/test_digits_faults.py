"""The digits job, with a fault in each of its ranks: the digest at the end is that of an uninterrupted run."""
import json
import pathlib
import sys

import incidents
import pytest
from platform_tools import ROOT, Host
from test_processes import left

pytest.importorskip("jax", reason="jax is not installed")
DIGITS = ROOT / "samples" / "digits"
HANG = 5


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A host, how to run the job on it, and the summary of an uninterrupted run."""
    host = Host(tmp_path_factory.mktemp("digits"))
    job = host.folder / "digits.yaml"
    text = (DIGITS / "job.yaml").read_text()
    for old, new in (("workdir: .", f"workdir: {DIGITS}"), ("hangTimeout: 10s", f"hangTimeout: {HANG}s")):
        assert old in text
        text = text.replace(old, new, 1)
    job.write_text(text)

    def run(*options):
        path = f"{pathlib.Path(sys.executable).parent}:{__import__('os').environ['PATH']}"
        done = host("--json", "-q", "run", job, "--pool", DIGITS / "pool.yaml", *options, timeout=300, PATH=path)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    whole = run()
    assert not whole["incidents"] and whole["result"]["accuracy"] >= 0.95
    return host, run, whole


@pytest.mark.parametrize("fault", [f"{how}:rank={rank},{when}" for how, when in (("kill", "seal=3"), ("stop", "step=70"))
                                   for rank in range(4)] + ["stop:rank=2,seal=4"])
def test_the_digest_is_that_of_an_uninterrupted_run(digits, fault):
    host, run, whole = digits
    end = run("--inject", fault)
    assert end["result"]["digest"] == whole["result"]["digest"]
    assert end["result"]["accuracy"] == whole["result"]["accuracy"]
    incident, rank = end["incidents"][0], int(fault.split("rank=")[1][0])
    assert len(end["incidents"]) == 1 and end["attempts"] == 2 and incident["rank"] == rank, end["incidents"]
    # A kill at the third seal is one before, in or after the commit of step 60.
    assert incident["restoredStep"] in ((40, 60) if "seal=3" in fault else (60,) if "step" in fault else (60, 80))
    assert end["steps"]["run"] < 2 * 200
    if fault.startswith("stop"):
        assert incident["kind"] == "hang" and HANG <= incident["detectionSeconds"] <= HANG + 2
    else:
        assert incident["kind"] == "signal" and incident["detectionSeconds"] <= 1
    if rank == 2:
        what = "rank killed" if fault.startswith("kill") else "rank stands still"
        incidents.record("local", what, end["result"]["digest"], incident["detectionSeconds"] + incident["recoverySeconds"])
    print(f"\n{fault}: noticed after {incident['detectionSeconds']:.3f} s, went on after step {incident['restoredStep']}; equal digest")
    assert not left(host)
