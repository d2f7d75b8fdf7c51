"""What was measured of the tools, line by line on the terminal, and as docs/clients-tools.md."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.clients.row import Outcome

DOCUMENT = Path(__file__).parents[3] / "docs/clients-tools.md"
_HEAD = """# The tools, as they were proven

Every tool as its distribution has it, run against a server on loopback that demands a credential, with both daemons.
`make clients` does it and writes this page; nothing in it is typed by hand. Measured in the tier **{tier}**.

**works**: the client did its work, and the server was given the real credential. **refused**: the client failed, and
the server was not given it. In no row did the client print a secret. The rules that were in force are in
tests/e2e/clients.

| client | version | who | what | result |
|---|---|---|---|---|
"""


def print_outcome(outcome: Outcome) -> None:
    """Say that one more is done, and what is wrong with it."""
    mark = "ok" if outcome.holds else "DIFFERS"
    sys.stdout.write(f"{mark:8}{outcome.seconds:5.1f} s  {outcome.name}: {outcome.result}\n")
    if outcome.problem:
        sys.stdout.write(f"    {outcome.problem}\n")
    sys.stdout.flush()


def document(tier: str, outcomes: Sequence[Outcome]) -> str:
    """Return the page."""
    cells = ((each.client, each.version, each.row.who, each.row.what, each.result) for each in outcomes)
    return _HEAD.format(tier=tier) + "".join("| " + " | ".join(line) + " |\n" for line in cells)
