"""The broker's alert log while the attacks run, as JSON."""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.demo.check import eventually
from tests.demo.processes import BROKER, Background

_WITHIN_S = 60
_NUMBERS = itertools.count()
"""Of all logs: the monitor may have seen a program that an earlier one used."""
Incident = dict[str, object]


class AlertLog:
    """``agent-broker alerts --follow --json``, running."""

    def __init__(self, root: Path, folder: Path, decoy: Path) -> None:
        self._root = root
        self._command = [str(BROKER), "--root", str(root), "alerts", "--follow", "--json", "--limit", "0"]
        self.decoy, self._folder = decoy, folder
        self._followers: list[Background] = []
        self.follow_again()

    def follow_again(self) -> None:
        """Follow the broker that serves now; what another one told is kept."""
        self.close()
        log = self._folder / f"alerts-{len(self._followers)}.jsonl"
        follower = Background("alerts --follow --json", self._command, log, os.environ)
        self._followers.append(follower)
        eventually(lambda: "following" in follower.said(), "the alerts to be followed", within_s=_WITHIN_S)

    def close(self) -> None:
        """Follow no more."""
        for each in self._followers[-1:]:
            each.stop()

    def incidents(self) -> list[Incident]:
        """Return all that came so far, oldest first; what was told again is not new."""
        said = [each.said().rpartition("\n")[0] for each in self._followers]
        told = [json.loads(line) for line in "\n".join(said).splitlines() if line.startswith("{")]
        return [each for each in told if each["revision"] == 0]

    def is_own(self, incident: Incident) -> bool:
        """Return whether an incident tells of what ``settle`` did."""
        return any(Path(each).parent == self._folder for each in _programs_of(incident))

    def settle(self) -> None:
        """Return when everything that happened before is in the log.

        Alerts are told in the order in which their programs were looked at: so first nothing may be in work any more.
        What is told after that is last: a read of the decoy by a program that nobody has seen.
        """
        eventually(lambda: in_work(self._root) == 0, "every alert to be stored", within_s=_WITHIN_S)
        program = self._folder / f"cat-{next(_NUMBERS)}"  # another one each time: another incident
        shutil.copy("/bin/cat", program)
        subprocess.run([program, self.decoy], stdout=subprocess.DEVNULL, check=False)
        eventually(
            lambda: any(str(program) in _programs_of(each) for each in self.incidents()),  # a pid may come again
            "an alert on a read of the decoy",
            within_s=_WITHIN_S,
            seen=lambda: f"{len(self.incidents())} alerts",
        )


def in_work(root: Path) -> int:
    """Return how many incidents both daemons together know of that are not stored yet; 1 if one does not answer."""
    done = subprocess.run([BROKER, "--root", root, "doctor", "--json"], capture_output=True, check=False)
    said = json.loads(done.stdout)
    broker, monitor = said["broker"], said["monitor"]
    if broker is None or monitor is None:
        return 1
    return int(broker["incidents_in_work"] + monitor["incidents_in_work"] + monitor["incidents_unacknowledged"])


def _programs_of(incident: Incident) -> set[str]:
    return {step["image"]["filename"] for step in incident["lineage"]}


def pids_of(incident: Incident) -> set[int]:
    """Return the pids in an incident's lineage."""
    return {step["image"]["pid"] for step in incident["lineage"]}
