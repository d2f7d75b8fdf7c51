"""How credential paths, proposals and allowed programs are shown."""

from collections.abc import Iterable
from typing import Any

import msgspec
from rich.table import Table

from agent_broker.cli.paths_view import Row
from agent_broker.cli.terminal import cell, columns, labelled, table, user_name, when
from agent_broker.identity.allowed import AllowedProgram
from agent_broker.monitor.learning import Proposal


def rows_table(rows: Iterable[Row]) -> Table:
    """Return the table of patterns."""
    made = table("pattern", "holds", "files", "who may")
    for row in rows:
        style = "" if row.files else "dim"
        entry = row.entry
        made.add_row(
            cell(entry.pattern, style), cell(entry.holds, style), cell(row.files, style), cell(who_may(row), style)
        )
    return made


def who_may(row: Row) -> str:
    """Return who may open what matches, in words."""
    entry = row.entry
    said = [*entry.programs, *(f"{each} (agent)" for each in entry.agents)]
    said += [f"{each} (no agent)" for each in entry.without_agent]
    return ", ".join(said) or "nobody"


def row_record(row: Row) -> dict[str, Any]:
    """Return a row as JSON shows it."""
    return {**msgspec.structs.asdict(row.entry), "files": row.files}


def allowed_table(allowed: Iterable[AllowedProgram], now_ns: int) -> Table:
    """Return the table of what root allowed."""
    made = table("program", "sha256", "opens", "until", "reason", title="allowed by hash")
    for each in allowed:
        until = "for ever" if not each.expires_ns else when(each.expires_ns, to_the="minute")
        until = until if each.holds_at(now_ns) else f"expired {until}"
        opens = ", ".join(each.opens)
        made.add_row(cell(each.program), cell(each.sha256[:12]), cell(opens), cell(until), cell(each.reason))
    return made


def allowed_record(allowed: AllowedProgram) -> dict[str, Any]:
    """Return an allowed program as JSON shows it."""
    return msgspec.structs.asdict(allowed)


def proposal_lines(proposal: Proposal) -> list[str]:
    """Return the block of one proposal."""
    width = columns()
    lines = [f"{proposal.number}. {proposal.program}"]
    for label, text in (
        ("opens", proposal.opens),
        ("opened", f"{', '.join(proposal.paths)}, {proposal.count} times, last {when(proposal.last_ns)}"),
        ("sha256", proposal.sha256),
        ("package", proposal.package or "none: compare the hash with where you got it from"),
        ("user", user_name(proposal.uid)),
        ("lineage", " < ".join(proposal.lineage)),
        ("allow", f'sudo agent-broker paths allow {proposal.number} --reason "..." --expires 30d'),
    ):
        lines += labelled(label, text, width)
    return lines
