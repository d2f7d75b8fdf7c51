"""The table for people, in the terminal and as docs/open-table.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.e2e.opens.expected import REASONS, expected, reason
from tests.e2e.opens.mechanisms import MECHANISMS, Mechanism
from tests.e2e.opens.places import FORMS
from tests.e2e.opens.trial import DENIED, DENYING, LEFT_OUT, NAMED, OBSERVE, OBSERVE_PLUS, TOLD, Cell, Mode

DOCUMENT = Path(__file__).parents[3] / "docs/open-table.md"
COLUMNS = 128
Cells = Mapping[tuple[str, str], Cell]
_HEAD = """# The table of opens

Every way to open a watched file, on every form of path that leads to it, carried out by processes of the file's user
against the monitor's own parts; `make attacks` does it and writes this page. No cell is typed by hand.

- `yes`: an incident names the process that did it: its pid, its program, and the process that started it.
- `told`: there is an incident. The kernel lets nobody wait who changes a path or a content, so that a process that has
  ended before it was looked up is told as gone.
- `sender`: an incident names the process that opened the file and sent the descriptor on.

"""
_FORMS = """
Forms of the path: *other mount ns*: a user and mount namespace of the opener's own, in which the folder is mounted
elsewhere. *overlay*: the watched path lies on an overlay; *copied up*: and was changed there after it was marked;
*through lower*, *through upper*: the watched path lies in a layer, and is opened through the overlay.

## The other modes

- **observe+, a decoy that is enrolled to be denied**: {denied} of the {yes} cells above that are `yes` and open
  something are refused with EPERM, and named; a descriptor that nobody got can't be passed on.
- **observe** (permission events are not to be had): {told} of the {all_told} cells above that are `yes`, `told` or
  `sender` are told; nobody waits, so who it was is known if it still lives.
- **enforce**: `make test-vm`, on ext4, tmpfs, overlayfs and btrfs.
"""


def differing(mode: Mode, cells: Cells) -> list[str]:
    """Return a line for each cell that is not as declared."""
    rows = {row.name: row for row in MECHANISMS}
    return [
        f"{mode.tier}{', deny' if mode.deny else ''}: {name} on {form}: {cell.result}, declared "
        f"{expected(rows[name], form, mode)} ({cell.detail})"
        for (name, form), cell in cells.items()
        if cell.result != expected(rows[name], form, mode)
    ]


def print_table(cells: Cells, seconds: float) -> None:
    """Print the table of the running tier."""
    title = f"Ways to open a watched file, tier {OBSERVE_PLUS.tier}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, style="bold")
    for form in FORMS:
        table.add_column(form, overflow="fold")
    for row in MECHANISMS:
        table.add_row(row.title, *(_shown(row, cells[row.name, form]) for form in FORMS))
    out = Console(width=COLUMNS, highlight=False, markup=False, emoji=False)
    out.print(table)
    for each in _reasons(cells):
        out.print(f"  {each}", style="dim")
    out.print()
    out.print(f"{len(cells)} cells in each of three modes, in {seconds:.0f} s")


def document(measured: Mapping[Mode, Cells]) -> str:
    """Return docs/open-table.md."""
    cells = measured[OBSERVE_PLUS]
    lines = [
        f"| |{'|'.join(f' {form} ' for form in FORMS)}|\n",
        f"|---|{'---|' * len(FORMS)}\n",
        *(
            f"| {row.title} |{'|'.join(f' {_shown(row, cells[row.name, form])} ' for form in FORMS)}|\n"
            for row in MECHANISMS
        ),
    ]
    legend = "".join(f"- {each}\n" for each in _reasons(cells))
    yes = [key for key, cell in cells.items() if cell.result == NAMED and expected_of(key, DENYING) == DENIED]
    seen = [key for key, cell in cells.items() if expected_of(key, OBSERVE) == TOLD]
    return (
        f"{_HEAD}Tier **{OBSERVE_PLUS.tier}**:\n\n{''.join(lines)}\n{legend}"
        + _FORMS.format(
            denied=sum(measured[DENYING][key].result == DENIED for key in yes), yes=len(yes),
            told=sum(measured[OBSERVE][key].result == TOLD for key in seen), all_told=len(seen),
        )
    )  # fmt: skip


def expected_of(key: tuple[str, str], mode: Mode) -> str:
    """Return what the cell of a mechanism's name and a form is to be."""
    name, form = key
    return expected(next(row for row in MECHANISMS if row.name == name), form, mode)


def _shown(row: Mechanism, cell: Cell) -> str:
    why = reason(row, cell.result)
    if cell.result == LEFT_OUT or why is None or why.letter == cell.result:
        return cell.result
    return f"{cell.result} ({why.letter})"


def _reasons(cells: Cells) -> Iterable[str]:
    """Return the legend of the letters that occur."""
    used = {reason(row, cells[row.name, form].result) for row in MECHANISMS for form in FORMS}
    return [f"{each.letter}: {each.text}" for each in REASONS if each in used]
