"""The broker is killed with SIGKILL while it delivers: nothing is lost, at most one a kill comes twice."""

import json
import subprocess
import sys
from pathlib import Path

from agent_broker.audit.journal import read
from tests.fakes.receivers import Receiver, World

REPOSITORY = Path(__file__).parents[2]
KILLS = 8


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_after(folder, first, lines):
    """Let a process deliver some more lines, then kill it wherever it is."""
    wanted = lines_of(folder / "out.jsonl") + lines
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.delivering", folder, str(first)], cwd=REPOSITORY)
    try:
        while lines_of(folder / "out.jsonl") < wanted:
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


async def test_nothing_is_lost_and_at_most_one_comes_twice_a_kill(tmp_path):
    for kill in range(KILLS):
        kill_after(tmp_path, 100_000 * kill, 7 + 5 * kill)
    world = World(tmp_path)
    async with world.delivering(rest := Receiver("ocsf")) as dispatch:
        while dispatch.status()[0].backlog:
            await rest.tried(1)
    world.log.close()

    recorded = [entry.body["what"] for entry in read(tmp_path / "alerts.log") if entry.kind == "incident"]
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    delivered = [(each["number"], each["what"]) for each in written]
    delivered += [(number, incident.what) for number, incident in rest.taken]
    once = list(dict.fromkeys(delivered))
    assert [what for _, what in once] == recorded
    assert [number for number, _ in once] == list(range(1, len(recorded) + 1))
    assert len(delivered) - len(once) <= KILLS
    assert len(recorded) > KILLS * 7
