"""A job's metrics where Ray's are: the real page of the head's node, read as Prometheus reads it."""
import json
import subprocess
import urllib.request

import pytest
from cluster import SMALL_POOL, Cluster, kill, until
from prometheus_client.parser import text_string_to_metric_families
from running import Running


@pytest.fixture(scope="module")
def quick():
    """Three nodes that tell their page once a second."""
    import os

    os.environ["RAY_metrics_report_interval_ms"] = "1000"
    cluster = Cluster(SMALL_POOL, 0)
    cluster.environment["RAY_metrics_report_interval_ms"] = "1000"
    try:
        for _ in range(3):
            cluster.start()
        cluster.connect()
        yield cluster
    finally:
        import ray

        ray.shutdown()
        cluster.stop()
        del os.environ["RAY_metrics_report_interval_ms"]


def page():
    import ray

    head = next(n for n in ray.nodes() if n["Alive"] and "node:__internal_head__" in n["Resources"])
    with urllib.request.urlopen(f"http://127.0.0.1:{head['MetricsExportPort']}/metrics", timeout=10) as answer:
        return answer.read().decode()


def samples(text=None):
    """{(name, kind of incident or rank): the newest controller's value}: `max without (WorkerId)`, as the reference says."""
    found = {}
    for family in text_string_to_metric_families(text or page()):
        for sample in family.samples:
            if sample.name.startswith("ray_thole_") and sample.labels.get("job") == "digits" and "le" not in sample.labels:
                key = (sample.name.removeprefix("ray_"), sample.labels.get("kind") if "rank" not in sample.labels else sample.labels["rank"])
                found[key] = max(found.get(key, 0), sample.value)
    return found


def test_during_and_after_a_job(quick):
    running = Running(quick)
    running.at_step(60)
    now = until(lambda: {("thole_job_step", None), ("thole_checkpoint_step", None)} <= (found := samples()).keys() and found, what="the gauges")
    assert now["thole_ranks_alive", None] == 4 and now["thole_job_attempt", None] == 1 and now["thole_gang_members", None] == now["thole_gang_ranks", None] == 4
    assert now["thole_job_info", None] == 1 and now["thole_checkpoint_step", None] >= 20
    assert [now["thole_device_memory_bytes", str(rank)] for rank in range(4)] == [10 << 30] * 4
    assert [now["thole_device_share_ratio", str(rank)] for rank in range(4)] == [0.25] * 4
    ended = running.end()
    after = until(lambda: (found := samples())["thole_job_steps_run_total", None] >= 200 and found, what="the last counts")
    assert after["thole_job_steps_run_total", None] == ended["steps"]["run"] == 200
    assert after["thole_checkpoints_committed_total", None] == ended["checkpointsCommitted"] == 10
    assert after["thole_checkpoint_bytes_total", None] == sum(c["bytes"] for c in ended["checkpoints"]) > 0
    assert after["thole_checkpoint_seconds_count", None] == 10
    assert not any(name == "thole_incidents_total" for name, _ in after)
    until(lambda: ("thole_job_step", None) not in samples(), what="the end of the gauges")  # a gauge ends with its process


def test_after_incidents_no_counter_goes_back(quick):
    """A rank is killed, and then the controller, which is another process from then on."""
    running = Running(quick)
    _, members = running.at_step(50)
    kill(int(subprocess.run(["ps", "-o", "pid=", "--ppid", str(members[0]["pid"])], capture_output=True, text=True, check=True).stdout.split()[0]))
    until(lambda: samples().get(("thole_incidents_total", "signal"), 0) >= 1, what="the incident")
    until(lambda: running.at_step(100), what="step 100")
    before = samples()
    kill(running.controllers_pid())
    counters = [key for key in before if key[0].endswith(("_total", "_count"))]
    assert len(counters) >= 4
    lowest = {key: before[key] for key in counters}

    def none_went_back():
        now = samples()
        for key in counters:
            assert now[key] >= lowest[key], (key, now[key], lowest[key])
            lowest[key] = now[key]
        return now.get(("thole_recovery_seconds_count", None), 0) >= 2 and now

    until(none_went_back, what="the second recovery")
    ended = running.end()
    assert [i["kind"] for i in ended["incidents"]] == ["signal", "signal"], ended["incidents"]
    after = until(lambda: (found := samples())["thole_job_steps_run_total", None] >= ended["steps"]["run"] and found, what="the last counts")
    assert after["thole_incidents_total", "signal"] == 2
    assert after["thole_detection_seconds_count", None] == sum(i["detectionSeconds"] is not None for i in ended["incidents"])


def test_the_relabelling_of_the_reference(quick):
    """docs/reference/ray.md gives the rule that takes Ray's prefix away."""
    import re

    from cluster import ROOT

    text = (ROOT / "docs/reference/ray.md").read_text()
    expression, replacement = re.search(r"regex: '(.*)'.*replacement: '(.*)'", text).groups()
    names = {s.name for f in text_string_to_metric_families(page()) for s in f.samples if "thole_" in s.name}
    families = {s.name.removeprefix("ray_") for f in text_string_to_metric_families(page()) for s in f.samples if "thole_" in s.name}
    table = set(re.findall(r"^\| `(thole_\w+)` \|", (ROOT / "docs/reference/metrics.md").read_text(), re.M))
    lacking = {name for name in table if not any(f in (name, f"{name}_total", f"{name}_count") for f in families)}
    assert lacking == {"thole_metrics_dropped_series"}, lacking  # of the collector of what ranks count, which Ray has no place for
    renamed = {re.fullmatch(expression, n).expand(replacement.replace("$1", r"\1")) for n in names}
    assert renamed and all(n.startswith("thole_") for n in renamed), renamed
    assert re.fullmatch(expression, "ray_tasks") is None
    print(json.dumps(sorted(renamed)))
