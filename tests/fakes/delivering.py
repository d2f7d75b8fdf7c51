"""A process that records incidents as fast as it can and delivers them to a file. Usage: FOLDER FIRST"""

import asyncio
import itertools
import sys
from pathlib import Path

from agent_broker.audit.sinks.json_lines import JsonLines
from tests.fakes.receivers import World, an_incident


async def main(folder: Path, first: int) -> None:
    world = World(folder)
    sink = JsonLines(
        folder / "out.jsonl",
        severity="info",
        max_bytes=1 << 30,
        keep=1,
        mapping=lambda incident, number: {"number": number, "what": incident.what},
    )
    async with world.delivering(sink):
        for number in itertools.count(first):
            await world.log.record(an_incident(number))


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
