"""The table for people, in the terminal and as docs/open-table.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.e2e.opens.expected import ENFORCED_ON, REASONS, expected, reason
from tests.e2e.opens.mechanisms import MECHANISMS, Mechanism
from tests.e2e.opens.places import FORMS
from tests.e2e.opens.trial import DENYING, ENFORCE, LEFT_OUT, NONE, OBSERVE, OBSERVE_PLUS, Cell, Mode
from tests.fakes.file_systems import KINDS

DOCUMENT = Path(__file__).parents[3] / "docs/open-table.md"
COLUMNS = 128
Cells = Mapping[tuple[str, str], Cell]
TITLES = {
    ENFORCE: "enforce, a decoy that is enrolled to be denied",
    DENYING: "observe+, a decoy that is enrolled to be denied",
    OBSERVE_PLUS: "observe+",
    OBSERVE: "observe: permission events are not to be had",
    NONE: "none: no BPF, so no lineage; permission events are to be had (else as observe)",
}
"""The tables, in their order; what is not measured is as declared."""
_HEAD = """# The table of opens

Every way to open a watched file, on every form of path that leads to it, carried out by processes of the file's user
against the monitor's own parts; `make attacks` does it and writes this page. No cell is typed by hand. The tier
*enforce* needs another kernel: its cells are what is declared, and what `make test-vm` carries out
(`tests/vm/test_open_table.py`), each of them on {kinds}; it fails if one differs. An overlay's layers
can't lie on an overlay: there they lie on a tmpfs. {differ}

- `yes`: an incident names the process that did it: its pid, its program, and the process that started it.
- `denied`: the same; and it was refused (EPERM; a descriptor does not arrive), and the file is as it was.
- `told`: there is an incident. Who opened is named by pid (tier *none*). The kernel lets nobody wait who changes a path
  or a content, nor in the tier *observe*: a process that has ended before it was looked up is told as gone.
- `sender`: an incident names the process that opened the file and sent the descriptor on.
- `no`: nothing is told. Opens that permissions refuse, and of a name that is not there, are: no tier sees them.
"""
_FORMS = """
Forms of the path: *other mount ns*: a user and mount namespace of the opener's own, in which the folder is mounted
elsewhere. *overlay*: the watched path lies on an overlay; *copied up*: and was changed there after it was marked;
*through lower*, *through upper*: the watched path lies in a layer, and is opened through the overlay. In *enforce*
(Linux 6.1) an overlay on which watched paths lie has `index=on,nfs_export=on`: without, its folders can't be watched.
"""


def differing(mode: Mode, cells: Cells) -> list[str]:
    """Return a line for each cell that is not as declared."""
    rows = {row.name: row for row in MECHANISMS}
    return [
        f"{mode.name}: {name} on {form}: {cell.result}, declared {expected(rows[name], form, mode)} ({cell.detail})"
        for (name, form), cell in cells.items()
        if cell.result != expected(rows[name], form, mode)
    ]


def declared(mode: Mode) -> Cells:
    """Return the cells of a mode that is carried out elsewhere."""
    return {(row.name, form): Cell(expected(row, form, mode)) for row in MECHANISMS for form in FORMS}


def print_tables(measured: Mapping[Mode, Cells], seconds: float) -> None:
    """Print the table of each tier."""
    out = Console(width=COLUMNS, highlight=False, markup=False, emoji=False)
    for mode, title in TITLES.items():
        cells = measured.get(mode) or declared(mode)
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True, style="bold")
        for form in FORMS:
            table.add_column(form, overflow="fold")
        for row in MECHANISMS:
            table.add_row(row.title, *(_shown(row, cells[row.name, form]) for form in FORMS))
        out.print(table)
    for each in _reasons(measured):
        out.print(f"  {each}", style="dim")
    out.print()
    cells = len(measured[OBSERVE_PLUS])
    out.print(f"{cells} cells in each of {len(measured)} modes in {seconds:.0f} s; enforce as declared: make test-vm")


def document(measured: Mapping[Mode, Cells]) -> str:
    """Return docs/open-table.md."""
    tables = "".join(_section(mode, measured.get(mode) or declared(mode)) for mode in TITLES)
    legend = "".join(f"- {each}\n" for each in _reasons(measured))
    head = _HEAD.format(kinds=", ".join(KINDS), differ=" ".join(_differences()))
    return f"{head}{legend}{_FORMS}{tables}"


def _differences() -> Iterable[str]:
    """Return a sentence for each cell that is another one on a file system of one kind."""
    titles = {row.name: row.title for row in MECHANISMS}
    for (kind, name, form), result in ENFORCED_ON.items():
        yield f"On {kind}, {titles[name]} by {form} is `{result}`."


def _section(mode: Mode, cells: Cells) -> str:
    lines = [
        f"| |{'|'.join(f' {form} ' for form in FORMS)}|\n",
        f"|---|{'---|' * len(FORMS)}\n",
        *(
            f"| {row.title} |{'|'.join(f' {_shown(row, cells[row.name, form])} ' for form in FORMS)}|\n"
            for row in MECHANISMS
        ),
    ]
    return f"\n## Tier {TITLES[mode]}\n\n{''.join(lines)}"


def _shown(row: Mechanism, cell: Cell) -> str:
    why = reason(row, cell.result)
    if cell.result == LEFT_OUT or why is None or why.letter == cell.result:
        return cell.result
    return f"{cell.result} ({why.letter})"


def _reasons(measured: Mapping[Mode, Cells]) -> Iterable[str]:
    """Return the legend of the letters that occur."""
    tables = [measured.get(mode) or declared(mode) for mode in TITLES]
    used = {reason(row, cells[row.name, form].result) for cells in tables for row in MECHANISMS for form in FORMS}
    return [f"{each.letter}: {each.text}" for each in REASONS if each in used]
