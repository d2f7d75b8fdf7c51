"""What was measured, line by line on the terminal, and as docs/clients.md."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.agents.row import DeedOutcome, WayOutcome

DOCUMENT = Path(__file__).parents[3] / "docs/clients.md"
_HEAD = """# The agents, as they were proven

Every agent as npm has it, run against a provider on loopback, with both daemons and the commands that people type.
`make clients` does it and writes this page; nothing in it is typed by hand.
[The tools](clients-tools.md) have a page of their own. Measured in the tier **{tier}**.

## Ways to be logged in

Each line is one home: logged in in this way, enrolled, one turn with a tool, unenrolled, one turn without the broker.
**works** says that all of this held while it was enrolled: each request to the model carried exactly the real
credential, in the header that is named; no file of the home or of the daemons, and no memory or environment of the
agent and of its tool, held a secret; no alert was raised. **unenrolled**: what became of every file that was touched
(content, owner, mode, time of change); afterwards the agent worked as before.

| agent | version | layout | way of authentication | enrolled | the provider saw | unenrolled |
|---|---|---|---|---|---|---|
"""
_DEEDS = """
## What happens to an enrolled agent

| agent | version | layout | logged in by | what | result |
|---|---|---|---|---|---|
"""


def print_outcome(outcome: WayOutcome | DeedOutcome) -> None:
    """Say that one more is done, and what is wrong with it."""
    mark = "ok" if outcome.holds else "DIFFERS"
    sys.stdout.write(f"{mark:8}{outcome.seconds:5.1f} s  {outcome.row.name}: {outcome.result}\n")
    if isinstance(outcome, DeedOutcome) and not outcome.holds:
        sys.stdout.write(f"    declared: {outcome.row.expected}\n")
    if outcome.problem:
        sys.stdout.write(f"    {outcome.problem}\n")
    sys.stdout.flush()


def document(tier: str, ways: Sequence[WayOutcome], deeds: Sequence[DeedOutcome]) -> str:
    """Return docs/clients.md."""
    lines = [_line(each, each.result, each.header or "-", each.unenrolled) for each in ways]
    more = [_line(each, each.row.what, each.result) for each in deeds]
    return _HEAD.format(tier=tier) + "".join(lines) + _DEEDS + "".join(more)


def _line(outcome: WayOutcome | DeedOutcome, *cells: str) -> str:
    row = outcome.row
    whole = (row.client.title, row.client.version, row.layout, row.way, *cells)
    return "| " + " | ".join(cell.replace("|", "/") for cell in whole) + " |\n"
