"""The commands for people against both daemons: an open of a decoy, told, settled, kept through the store's loss."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.bench.stage import OWNER, stage
from tests.e2e.patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        made.have(monitor=True, broker=True)
        yield made


def ab(world, *words):
    return subprocess.run(
        [".venv/bin/agent-broker", "--root", str(world.layout.root), *words],
        env={**os.environ, "COLUMNS": "250"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def alerts_of(world, path, *words):
    lines = ab(world, "alerts", "--json", "--limit", "1000", *words).stdout.splitlines()
    return [each for each in map(json.loads, lines) if each["path"] == str(path)]


def test_an_open_is_told_settled_and_stays_settled_when_the_store_is_lost(world, tmp_path):
    decoy = world.decoys[7]
    subprocess.run(
        ["/bin/cat", decoy], user=OWNER, group=OWNER, extra_groups=[], cwd="/", capture_output=True, check=True
    )
    (told,) = until(lambda: alerts_of(world, decoy))
    head, line = ab(world, "alerts").stdout.splitlines()
    assert head.split() == ["time", "severity", "kind", "who", "path", "n", "id"]
    assert line.split()[2:5] == ["critical", "decoy-opened", "cat"]
    assert line.split()[-3:] == [str(decoy), "1", told["id"][:7]]
    shown = ab(world, "alert", "show", told["id"][:7]).stdout
    assert "A decoy was opened" in shown
    assert "└─ cat" in shown
    assert str(decoy) in shown
    page = tmp_path / "incident.html"
    assert ab(world, "report", told["id"], "-o", str(page)).returncode == 0
    assert page.read_text().count('class="node') == len(told["lineage"])

    settled = ab(world, "alert", "ack", told["id"][:7], "--reason", "a drill")
    assert (settled.returncode, alerts_of(world, decoy)) == (0, [])
    assert alerts_of(world, decoy, "--all")[0]["acked"]["reason"] == "a drill"

    world.broker.stop()
    world.layout.alerts_store.unlink()
    world.have(monitor=True, broker=True)
    assert alerts_of(world, decoy, "--all")[0]["acked"]["reason"] == "a drill"
    assert alerts_of(world, decoy) == []
    assert "the store of alerts was missing, and was made anew" in " ".join(ab(world, "doctor").stdout.split())
    assert world.layout.alerts_store.stat().st_mode & 0o777 == 0o600
    assert world.layout.alerts_store.stat().st_uid != 0


def test_the_lineage_has_the_hash_of_each_program_that_still_runs(world):
    def told(decoy):
        subprocess.run(
            ["/bin/cat", decoy], user=OWNER, group=OWNER, extra_groups=[], cwd="/", capture_output=True, check=True
        )
        (alert,) = until(lambda: alerts_of(world, decoy))
        return alert

    # a busy machine may not hash it in time for the first; then the next one has it
    found = next(each for each in map(told, world.decoys[2:7]) if each["lineage"][1]["sha256"])

    parent = found["lineage"][1]
    assert found["process_sha256"] == sha256("/bin/cat")
    assert parent["image"]["pid"] == os.getpid()
    assert parent["sha256"] == sha256(f"/proc/{os.getpid()}/exe")
    assert f"sha256 {parent['sha256'][:12]}" in ab(world, "alert", "show", found["id"]).stdout


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
