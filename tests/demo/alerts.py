"""A running ``agent-broker alerts --follow``, read as a person reads it."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from tests.demo.check import eventually
from tests.demo.processes import BROKER, Background

_HEAD = re.compile(r"^(CRITICAL|WARNING|INFO)  (\S+ \S+)  (\S+)$")
_ROW = re.compile(r"^  ([a-z0-9][a-z0-9 ]{0,7}?) {2,}(.*)$")
_FOLLOWING = "following alerts"
_WITHIN_S = 60


class Alert(Struct, frozen=True):
    """One printed alert."""

    severity: str
    kind: str
    rows: dict[str, str]
    """Label: text."""

    def __str__(self) -> str:
        return f"{self.severity} {self.kind}: {self.rows.get('lineage', '')}"


class Follower:
    """The command, and what it printed so far."""

    def __init__(self, root: Path, folder: Path) -> None:
        command = [str(BROKER), "--root", str(root), "alerts", "--follow", "--long", "--limit", "0"]
        self.process = Background("alerts --follow", command, folder / "alerts.log", os.environ)
        eventually(
            lambda: self.process.require_alive() and _FOLLOWING in self.process.said(),
            "agent-broker alerts --follow to follow",
            within_s=_WITHIN_S,
            seen=self.process.said,
        )

    def alerts(self) -> list[Alert]:
        """Return the alerts that are complete: an empty line ends each."""
        blocks = self.process.said().split("\n\n")[:-1]
        return [alert for block in blocks if (alert := _read(block)) is not None]

    def wait_for(self, what: str, wanted: Callable[[Alert], bool]) -> Alert:
        """Return the first alert that is wanted."""
        return eventually(
            lambda: next(filter(wanted, self.alerts()), None),
            f"an alert: {what}",
            within_s=_WITHIN_S,
            seen=lambda: "; ".join(map(str, self.alerts())) or "no alert",
        )


def _read(block: str) -> Alert | None:
    lines = block.splitlines()
    while lines and not _HEAD.match(lines[0]):  # what it says before the first alert
        lines.pop(0)
    if not lines:
        return None
    head = _HEAD.match(lines[0])
    rows: dict[str, str] = {}
    label = ""
    for line in lines[1:]:
        if row := _ROW.match(line):
            label = row[1]
            rows[label] = row[2]
        elif label:
            rows[label] = f"{rows[label]} {line.strip()}"
    return Alert(head[1], head[3], rows) if head else None
