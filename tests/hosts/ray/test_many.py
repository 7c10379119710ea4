"""A job with many members, on nodes of several GPUs."""
import json

from cluster import PATIENCE
from running import check_ledger_is_empty


def test_sixty_four_members(wide, tmp_path):
    """As many processes, each with its own rank, GPU and log, and words of another script in all of them."""
    (tmp_path / "job.yaml").write_text(
        "apiVersion: thole.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: many}\nspec:\n  roles:\n    - name: one\n      members: 64\n"
        "      vgpu: {memory: 1Gi, share: 0.05}\n      cpu: 100m\n      memory: 64Mi\n      env: {GREETING: \"grüße \N{SNOWMAN}\"}\n"
        "      command: [sh, -c, 'echo \"$GREETING $RANK of $WORLD_SIZE\"']\n")
    ended = json.loads(wide.program("submit", str(tmp_path / "job.yaml"), "--wait", "--json", timeout=3 * PATIENCE).stdout)
    assert (ended["phase"], ended["attempts"], len(ended["gang"])) == ("done", 1, 64)
    said = wide.program("logs", "many").stdout.splitlines()
    assert said == [f"{rank}| grüße \N{SNOWMAN} {rank} of 64" for rank in range(64)]
    per_gpu = [sum(m["devices"][0]["uuid"] == uuid for m in ended["gang"]) for uuid in {m["devices"][0]["uuid"] for m in ended["gang"]}]
    assert max(per_gpu) <= 16
    check_ledger_is_empty(wide)
