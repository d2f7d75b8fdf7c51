"""The broker's alert log while the attacks run, as JSON."""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.demo.check import eventually
from tests.demo.processes import BROKER, Background

_WITHIN_S = 10
_NUMBERS = itertools.count()
"""Of all logs: the monitor may have seen a program that an earlier one used."""
Incident = dict[str, object]


class AlertLog:
    """A running ``agent-broker alerts --follow --json``."""

    def __init__(self, root: Path, folder: Path, decoy: Path) -> None:
        command = [str(BROKER), "--root", str(root), "alerts", "--follow", "--json", "--limit", "0"]
        self.decoy, self._folder = decoy, folder
        self.process = Background("alerts --follow --json", command, folder / "alerts.jsonl", os.environ)
        eventually(lambda: "following" in self.process.said(), "the alerts to be followed", within_s=_WITHIN_S)

    def incidents(self) -> list[Incident]:
        """Return all that came so far, oldest first; what was told again is not new."""
        whole = self.process.said().rpartition("\n")[0].splitlines()
        told = [json.loads(line) for line in whole if line.startswith("{")]
        return [each for each in told if each["revision"] == 0]

    def settle(self) -> None:
        """Return when everything that happened before is in the log: something new that happens now is in it."""
        program = self._folder / f"cat-{next(_NUMBERS)}"  # another one each time: another incident
        shutil.copy("/bin/cat", program)
        reader = subprocess.Popen([program, self.decoy], stdout=subprocess.DEVNULL)
        reader.wait()
        eventually(
            lambda: any(reader.pid in pids_of(each) for each in self.incidents()),
            "an alert on a read of the decoy",
            within_s=_WITHIN_S,
            seen=lambda: f"{len(self.incidents())} alerts",
        )


def pids_of(incident: Incident) -> set[int]:
    """Return the pids in an incident's lineage."""
    return {step["image"]["pid"] for step in incident["lineage"]}
