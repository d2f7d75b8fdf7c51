"""What is frozen, as text for a person."""

from collections.abc import Sequence

from rich.table import Table

from agent_broker.cli.terminal import cell, plural, table, user_name, when
from agent_broker.grant.freeze import Freeze


def frozen_table(freezes: Sequence[Freeze]) -> Table:
    """Return one row an freeze."""
    shown = table("number", "who", "since", "why")
    for each in freezes:
        shown.add_row(cell(each.id), cell(who(each)), cell(when(each.since_ns, to_the="minute")), cell(each.reason))
    return shown


def who(freeze: Freeze) -> str:
    """Return whom a freeze concerns."""
    if freeze.agent is None:
        count = len(freeze.proc_ids)
        return f"{plural(count, 'process')} and what descends from {'it' if count == 1 else 'them'}"
    return f"{freeze.agent} of {'every user' if freeze.owner_uid is None else user_name(freeze.owner_uid)}"
