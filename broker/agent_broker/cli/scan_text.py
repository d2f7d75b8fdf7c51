"""What ``scan`` found, for a person: agents, what lies in plain, what is safe, what was not looked at, what to do."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_broker.cli.terminal import cell, labelled, plural, printable, table
from agent_broker.enroll.inventory_rows import IN_PLAIN, AgentRow, CredentialRow

if TYPE_CHECKING:
    from agent_broker.cli.scan import Home

_HASH_CHARS = 12
_MAX_PLACES = 4
"""Named below a command; further ones are counted."""
_MAX_WHERE_SHARE = 0.45
_MAX_WHAT_SHARE = 0.25
_MANY_DAYS, _YEAR_DAYS = 1000, 365
_STATES = {
    "vault": "in the vault",
    "decoy": "decoy, watched",
    "planted": "planted decoy, watched",
    "phantom": "phantom of the broker's",
    "encrypted": "needs a passphrase",
    "unrecognised": "nothing recognised in it",
}
_ENROLLED = {"yes": "enrolled", "changed": "not this file", "no": "not enrolled"}


def show_home(home: "Home", out: Console) -> None:
    """Print one home."""
    title = f"{home.user} ({home.uid}), {home.home}" if home.home else "set for everybody on this machine"
    out.print(cell(title, "bold"))
    out.print()
    if home.agents:
        out.print(_agents(home.agents, home.home))
        out.print()
    plain, safe = home.in_plain, [row for row in home.credentials if row.state not in IN_PLAIN]
    if plain:
        out.print(_plain(plain, home.home, out.width))
        out.print()
    if safe:
        out.print(_safe(safe, home.home, out.width))
        out.print()
    if not (home.agents or home.credentials):
        out.print(cell("  no agent and no credential was found"))
    for why, count in home.not_looked_at.items():
        text = why if count == 1 else f"{count:,} files or folders: {why}"
        _lines(out, "not looked at", text, 16, "yellow")
    _show_remedies(home, out)


def show_total(homes: "list[Home]", machine: "Home | None", out: Console) -> None:
    """Print the last line: how much lies in plain."""
    everybodys = len(machine.in_plain) if machine is not None else 0
    count = sum(len(home.in_plain) for home in homes) + everybodys
    where = f"in {plural(len(homes), 'home')}" if len(homes) != 1 else f"in {homes[0].home}"
    where += f", {everybodys} of them set for everybody" if everybodys else ""
    style = "bold red" if count else "bold green"
    out.print(cell(f"{plural(count, 'credential')} in plain {where}", style))


def _agents(rows: list[AgentRow], home: str) -> Table:
    made = table("agent", "version", "program", "sha256", "")
    for row in rows:
        made.add_row(
            cell(row.agent),
            cell(f"{row.version or '?'} ({row.layout})"),
            cell(_short(row.path, home)),
            cell(row.sha256[:_HASH_CHARS] or "not hashed"),
            cell(_ENROLLED[row.enrolled], "green" if row.enrolled == "yes" else "yellow"),
        )
    return made


def _plain(rows: list[CredentialRow], home: str, width: int) -> Table:
    made = table("in plain", "what", "age", "who can read it")
    _bound(made, rows, home, width)
    for row in rows:
        made.add_row(
            _place(row, home),
            cell(_what(row)),
            cell(_age(row)),
            cell(row.who, "red" if row.readers.everybody else ""),
        )
    return made


def _safe(rows: list[CredentialRow], home: str, width: int) -> Table:
    made = table("not in plain", "what", "age", "state")
    _bound(made, rows, home, width)
    for row in rows:
        style = "green" if row.state in {"vault", "decoy", "planted", "phantom"} else ""
        made.add_row(_place(row, home), cell(_what(row)), cell(_age(row)), cell(_STATES[row.state], style))
    return made


def _bound(made: Table, rows: list[CredentialRow], home: str, width: int) -> None:
    """Keep paths from taking the room of words: a path folds, a word should not."""
    places = [len(_where(row, home)) for row in rows] + [len(row.name) + 2 for row in rows]
    made.columns[0].width = min(max(places), int(width * _MAX_WHERE_SHARE))
    made.columns[1].width = min(max(len(_what(row)) for row in rows), int(width * _MAX_WHAT_SHARE))
    made.columns[2].no_wrap = True
    made.columns[2].justify = "right"


def _where(row: CredentialRow, home: str) -> str:
    place = _short(row.path, home) or "-"
    return f"{place}:{row.line}" if row.line else place


def _what(row: CredentialRow) -> str:
    what = row.holds if row.files == 1 else f"{row.holds}, {row.files:,} files"
    if row.state == "unopened":
        what += " or a decoy: not opened"
    elif row.state == "plain" and not row.opened:
        what += ", by its place"
    return what


def _place(row: CredentialRow, home: str) -> Text:
    """Return where it is, and below it which member or variable."""
    place = cell(_where(row, home))
    return place.append(f"\n  {printable(row.name)}", "dim") if row.name else place


def _age(row: CredentialRow) -> str:
    if not row.mtime_ns:
        return "now"
    return f"{row.age_days} d" if row.age_days < _MANY_DAYS else f"{row.age_days // _YEAR_DAYS} y"


def _show_remedies(home: "Home", out: Console) -> None:
    """Print each command once, with what it is for."""
    places: dict[str, dict[str, list[str]]] = {row.remedy: {} for row in home.agents if row.remedy}
    for row in home.credentials:
        for remedy in row.remedies:
            effect = "moves" if {*row.agents} & {*remedy.split()} else "has watched"
            places.setdefault(remedy, {}).setdefault(effect, []).append(_where(row, home.home))
    if not places:
        return
    out.print(cell("what to do", "bold"))
    for remedy, effects in places.items():
        out.print(cell(f"  {remedy}"), soft_wrap=True)
        for effect, where in effects.items() if remedy.startswith("sudo ") else ():  # the others name their file
            named = list(dict.fromkeys(where))
            more = f" and {len(named) - _MAX_PLACES} more" if len(named) > _MAX_PLACES else ""
            _lines(out, "", f"{effect} {', '.join(named[:_MAX_PLACES])}{more}", 6, "dim")
    out.print()


def _lines(out: Console, label: str, text: str, label_columns: int, style: str) -> None:
    for line in labelled(label, text, out.width, label_columns=label_columns):
        out.print(cell(line, style))


def _short(path: str, home: str) -> str:
    """The home is named above; of the machine there is none."""
    if not home:
        return printable(path)
    below = home.rstrip("/") + "/"
    return printable("~/" + path.removeprefix(below) if path.startswith(below) else path)
