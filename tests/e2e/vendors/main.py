"""One agent from npm, enrolled: it works, its tool and a stranger get nothing, and unenrolment gives all back.

    python -m tests.e2e.vendors.main codex|gemini LAYOUT WAY

A process of its own: it leaves the machine's network, and lets nothing disturb its cleaning up. Prints a JSON object.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping

from tests.demo.check import require
from tests.demo.memory import grep
from tests.demo.snapshot import Snapshot, take_snapshot
from tests.e2e.agents.attacks import use_by_stranger, use_by_tool
from tests.e2e.agents.place import Place, place, require_well
from tests.e2e.vendors.clients import CLIENTS


def main(name: str, layout: str, way: str) -> dict[str, object]:
    """Return what came of it, in words; raises StepFailedError where it is not as it must be."""
    client = CLIENTS[name]
    with place() as made:
        made.install(client, layout)
        made.log_in(client.ways[way]())
        before = _files(made)
        try:
            made.enroll(client)
            _require_clean(made)
            made.answers("all is well")
            turn = made.turn(client)
            require_well(turn, client, made.login.sent)
            phantom = client.phantom(made.world.home)
            told = [each["target"] for each in turn.requests if phantom in str(each)]
            tool, stranger = use_by_tool(made, client), use_by_stranger(made, client)
            _require_clean(made)
            made.unenroll(client)
        finally:
            made.forget(client)
        after = _files(made)
        changed = [path for path, entry in before.items() if entry.differs_in(after.get(path))]
        return {"said": turn.said, "phantom_at_provider": told, "tool": tool, "stranger": stranger, "changed": changed}


def _files(made: Place) -> Snapshot:
    return take_snapshot(made.world.home, but=made.installed)


def _require_clean(made: Place) -> None:
    root = made.world.root
    left: Mapping[object, object] = grep(made.login.secrets, made.world.home, root / "var", root / "etc", root / "logs")
    require(not left, "no file of the home or of the daemons to hold a secret", left)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that everything is taken away
    os.umask(0o022)
    print(json.dumps(main(*sys.argv[1:])))
