"""One agent from npm, enrolled: it works, its tool and a stranger get nothing, and unenrolment gives all back.

    python -m tests.e2e.vendors.main codex|gemini LAYOUT WAY

A process of its own: it leaves the machine's network, and lets nothing disturb its cleaning up. Prints a JSON object.
"""

import json
import sys

from tests.demo.check import StepFailedError
from tests.e2e.agents.attacks import use_by_stranger, use_by_tool
from tests.e2e.agents.place import Place, place
from tests.e2e.agents.row import WayRow
from tests.e2e.agents.ways import measure_way
from tests.e2e.vendors.clients import CLIENTS


def main(name: str, layout: str, way: str) -> dict[str, str]:
    """Return what came of it, in words."""
    client = CLIENTS[name]
    with place() as made:
        outcome = measure_way(made, WayRow(client, layout, way))
        told = {"result": outcome.result, "unenrolled": outcome.unenrolled, "problem": outcome.problem}
        if not outcome.problem:
            told |= _attacked(made, name, way)
    return told


def _attacked(made: Place, name: str, way: str) -> dict[str, str]:
    client = CLIENTS[name]
    made.log_in(client.ways[way]())
    made.enroll(client)
    try:
        return {"tool": use_by_tool(made, client), "stranger": use_by_stranger(made, client)}
    except StepFailedError as error:
        return {"problem": str(error)}
    finally:
        made.forget(client)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
