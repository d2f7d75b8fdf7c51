"""The matrix as a table for people, in the terminal and as docs/attack-matrix.md."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.demo.agent import MORE, VERSION
from tests.e2e.attacks.row import NOTHING, Outcome, Row

DOCUMENT = Path(__file__).parents[3] / "docs/attack-matrix.md"
COLUMNS = 96
_STYLES = {"secret": "bold red", "use": "bold yellow", "outage": "bold yellow", NOTHING: "green"}
_HEAD = """# The attack matrix

Every known way around the broker, carried out against both daemons and the real agents, by processes of the agent's
own user. `make attacks` does it and writes this page; nothing in the columns *gets* and *alert* is typed by hand.

- **gets**: `secret`: the attacker could read a real key. `use`: the provider got a request of the attacker's with the
  real key, (ssh) the attacker got a signature, or (other tools) the server got the credential, or a token of it.
  `outage`: neither, but the agent was not served any more. `nothing`: none of these.
- **alert**: whether an incident in the alert log has the attack, or the agent that it was done to, in its lineage.
- **stopped by**: for what the running tier does not stop: the tier or setting that does.

Measured in the tier **{tier}**, with {agents}.
Techniques are numbered as in MITRE ATT&CK.

| attack | on | technique | ATT&CK | gets | tier | alert | stopped by |
|---|---|---|---|---|---|---|---|
"""
_TAIL = """
Left out: a copy of the agent on a FUSE file system of the user's (tests/kernel/test_fuse_user.py mounts one as
`fusermount3` does), and everything that needs root. How a watched file can be opened, and what is seen of it, is in
[open-table.md](open-table.md), by the same command.
"""


def console() -> Console:
    """Return where it is printed."""
    return Console(width=COLUMNS, highlight=False, markup=False, emoji=False)


def print_outcome(outcome: Outcome) -> None:
    """Say on a terminal that one more is done."""
    if sys.stdout.isatty():
        mark = "ok" if outcome.holds else "DIFFERS"
        console().print(f"{outcome.row.name:20} {outcome.gets:8} {mark} {outcome.seconds:.1f} s", style="dim")


def print_table(tier: str, outcomes: Sequence[Outcome], seconds: float) -> None:
    """Print all."""
    table = Table(title=f"Attacks on the broker, tier {tier}", title_justify="left", header_style="bold", box=None)
    table.add_column("attack", no_wrap=True, style="bold")
    table.add_column("technique", overflow="fold")
    table.add_column("ATT&CK", no_wrap=True)
    table.add_column("gets", no_wrap=True)
    table.add_column("alert", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in outcomes:
        row = each.row
        gets = Text(each.gets, _STYLES[each.gets])
        table.add_row(row.name, _technique(row), row.mitre, gets, _yes(each), "" if each.holds else "!")
    out = console()
    out.print(table)
    differ = sum(not each.holds for each in outcomes)
    out.print()
    out.print(f"{len(outcomes)} attacks in {seconds:.0f} s; {differ} did not turn out as declared")


def print_details(outcome: Outcome) -> None:
    """Show one attack in full; nothing secret is in it."""
    row = outcome.row
    out = console()
    out.print()
    out.print(f"{row.name}: {row.technique}", style="bold")
    out.print(f"  declared: {row.gets}, {'an alert' if row.alert else 'no alert'}")
    out.print(f"  seen:     {outcome.gets}, {', '.join(outcome.alerts) or 'no alert'}  ({outcome.seconds:.1f} s)")
    for each in outcome.others:
        out.print(f"  alert that does not name it: {each}")
    if outcome.problem:
        out.print(f"  proves nothing: {outcome.problem}", style="red")
    out.print(outcome.loot.strip(), style="dim")


def document(tier: str, outcomes: Sequence[Outcome]) -> str:
    """Return docs/attack-matrix.md."""
    lines = [
        f"| {row.name} | {row.agent} | {row.technique} | {row.mitre} | {each.gets} | {tier} | {_yes(each)} "
        f"| {row.stopped_by} |\n"
        for each in outcomes
        for row in [each.row]
    ]
    agents = f"Claude Code {VERSION}, " + ", ".join(f"{name} {version}" for name, version in MORE.items())
    return _HEAD.format(tier=tier, agents=agents) + "".join(lines).replace("|  |", "| |") + _TAIL


def _technique(row: Row) -> Text:
    text = Text(row.technique)
    return text.append(f"\n  stopped by {row.stopped_by}", "dim") if row.stopped_by else text


def _yes(outcome: Outcome) -> str:
    return "yes" if outcome.alerts else "no"
