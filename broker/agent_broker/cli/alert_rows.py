"""Alerts as one line each: the table of ``alerts``, and the lines that a follower gets.

Plain strings, since a follower waits for them. Text that a stranger chose is made printable before it is measured,
and wide characters are measured as a terminal draws them.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from rich.cells import cell_len, set_cell_size

from agent_broker.cli.incident_text import name_of
from agent_broker.cli.spans import clock, day, is_same_day
from agent_broker.cli.terminal import PIPE_COLUMNS, below_home, printable, user_name, when
from agent_broker.monitor.incident import Incident

ID_CHARS: Final = 7
"""Of an id; as many as ``alert show`` needs in any but the largest stores."""
_NARROW: Final = 70  # columns: below, an alert takes two lines
_ROOMY: Final = 100  # columns: below, long kinds are cut, which leaves room for paths
_WIDE: Final = 110  # columns: from here on the whole time is shown
_GAP: Final = " "
_SEVERITY, _KIND, _WHO, _COUNT = 8, 12, 17, 4  # columns, while rows are not known
_LONGEST_KIND: Final = 17  # columns: "credential-opened"
_RESET: Final = "\x1b[0m"
_COLOURS: Final = {"critical": "\x1b[1;31m", "warning": "\x1b[1;33m", "info": "\x1b[1;36m"}
_DIM: Final = "\x1b[2m"


class Row(Struct, frozen=True):
    """The cells of one line."""

    when: str
    severity: str
    kind: str
    who: str
    path: str
    count: str
    id: str


HEAD: Final = Row("time", "severity", "kind", "who", "path", "n", "id")


class _Widths(Struct, frozen=True):
    """Columns of a terminal; the path gets the rest."""

    when: int
    severity: int
    kind: int
    who: int
    count: int


_MEASURED: Final = _Widths.__struct_fields__


class Table:
    """One style for all lines of one run; widths from the rows if they are known, else for the usual ones."""

    def __init__(self, columns: int, *, colour: bool, rows: Iterable[Row] = ()) -> None:
        """Begin.

        Args:
            columns: of the terminal; PIPE_COLUMNS: no terminal, nothing is cut.
            colour: whether the reader shows colours.
            rows: those that will be shown, if they are known.
        """
        known = [HEAD, *rows]
        self.is_narrow = columns < _NARROW
        self._columns, self._colour = columns, colour
        self._is_cut = columns < PIPE_COLUMNS
        self._widths = _Widths(when_columns(columns), _SEVERITY, _KIND, _WHO, _COUNT)
        if len(known) > 1:
            self._widths = _Widths(*(max(cell_len(getattr(each, name)) for each in known) for name in _MEASURED))

    def head(self) -> str:
        """Return the line above the first one; empty if the terminal is too narrow for a table."""
        return "" if self.is_narrow else f"{self._line(HEAD, is_head=True).rstrip()}\n"

    def line(self, row: Row) -> str:
        """Return the line of a row, or its two lines in a narrow terminal."""
        return f"{self._folded(row) if self.is_narrow else self._line(row)}\n"

    def _line(self, row: Row, *, is_head: bool = False) -> str:
        widths = self._widths
        kind = max(widths.kind, len(row.kind))
        rest = self._columns - widths.when - widths.severity - kind - widths.count - ID_CHARS - 6 * len(_GAP)
        who = min(widths.who, max(12, rest // 2)) if self._is_cut else widths.who
        path = rest - who if self._is_cut else max(cell_len(row.path), 40)
        cells = (
            _pad(row.when, widths.when),
            self._severity(row.severity, is_head=is_head),
            _pad(row.kind, kind),
            fit(row.who, who),
            fit(row.path, path, keep_end=True),
            f"{row.count:>{widths.count}}",
            row.id if is_head else self._dim(row.id),
        )
        return _GAP.join(cells)

    def _folded(self, row: Row) -> str:
        begin = len(row.when) + self._widths.severity + 2 * len(_GAP)
        kind = fit(row.kind, min(len(row.kind), self._columns - begin))
        first = _GAP.join([row.when, self._severity(row.severity), kind])
        plain = begin + len(kind)
        tail = f"{row.count} times {row.id}" if row.count != "1" else row.id
        if plain + len(tail) < self._columns:
            first += " " * (self._columns - plain - len(tail)) + tail
            tail = ""
        who = fit(row.who, min(cell_len(row.who), (self._columns - 2) // 2))
        path = fit(row.path, min(cell_len(row.path), self._columns - 4 - cell_len(who)), keep_end=True)
        return "\n".join([first, *([f"  {tail}"] if tail else []), f"  {who}  {path}".rstrip()])

    def _severity(self, text: str, *, is_head: bool = False) -> str:
        padded = fit(text, self._widths.severity)
        if is_head or not self._colour or text not in _COLOURS:
            return padded
        return f"{_COLOURS[text]}{text}{_RESET}{padded[len(text) :]}"

    def _dim(self, text: str) -> str:
        return f"{_DIM}{text}{_RESET}" if self._colour else text


def row_of(incident: Incident, now_ns: int, columns: int) -> Row:
    """Return the cells of an incident, whole; times are those of the last event."""
    last_ns = max(incident.last_ns, incident.time_ns)
    return Row(
        when=_when(last_ns, now_ns, columns),
        severity=_short(incident.severity, _SEVERITY),
        kind=_short(incident.kind, _LONGEST_KIND if columns >= _ROOMY else _KIND),
        who=who(incident),
        path=short_path(incident),
        count=short_count(incident.count),
        id=printable(incident.id[:ID_CHARS]),
    )


def update_line(incident: Incident, columns: int) -> str:
    """Return the line that says that a shown incident went on."""
    until = clock(max(incident.last_ns, incident.time_ns))
    text = f"... {printable(incident.id[:ID_CHARS])} {incident.count:,} times until {until}"
    return fit(text, min(columns, cell_len(text))) + "\n"


def when_columns(columns: int) -> int:
    """Return how wide the time is."""
    return 19 if columns >= _WIDE else 8


def who(incident: Incident) -> str:
    """Return ``scanner <- claude``: the program and the agent that it descends from; without one, its user."""
    if not incident.lineage:
        return "unknown"
    image = incident.lineage[0].image
    if incident.agent:
        return f"{name_of(image)} <- {printable(incident.agent)}"
    return f"{name_of(image)} of {printable(user_name(image.uid).partition(' (')[0])}"


def short_path(incident: Incident) -> str:
    """Return the path with ``~`` for the home of whoever opened it, and how many more there are."""
    path = below_home(incident.path, incident.lineage[0].image.uid) if incident.lineage else incident.path
    more = f" +{len(incident.paths)}" if incident.paths else ""
    return f"{printable(path)}{more}"


def short_count(count: int) -> str:
    """Return a number in at most 5 columns: ``999``, ``9.9k``, ``100k``, ``1.2M``."""
    if count < 1000:  # noqa: PLR2004 - three digits
        return str(count)
    for size, unit in ((10**3, "k"), (10**6, "M"), (10**9, "G")):
        if count < size * 1000:
            return f"{count / size:.1f}{unit}" if count < size * 10 else f"{count // size}{unit}"
    return "many"


def fit(text: str, columns: int, *, keep_end: bool = False) -> str:
    """Return text in exactly so many columns of a terminal: padded, or cut with ``…`` at its end or its beginning."""
    if cell_len(text) <= columns:
        return _pad(text, columns)
    if columns < 2:  # noqa: PLR2004 - no room for a letter and the mark
        return "…"[:columns]
    if not keep_end:
        return set_cell_size(text, columns - 1) + "…"
    return "…" + _last_cells(text, columns - 1)


def _last_cells(text: str, columns: int) -> str:
    taken, used = "", 0
    for char in reversed(text[-columns:]):
        width = cell_len(char)
        if used + width > columns:
            break
        taken, used = char + taken, used + width
    return " " * (columns - used) + taken


def _short(text: str, columns: int) -> str:
    return fit(printable(text), columns).rstrip()


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - cell_len(text))


def _when(time_ns: int, now_ns: int, columns: int) -> str:
    if columns >= _WIDE:
        return when(time_ns)[:19]
    return clock(time_ns) if is_same_day(time_ns, now_ns) else day(time_ns)


def lines(rows: list[Row], columns: int, *, colour: bool) -> Iterator[str]:
    """Yield the whole table."""
    table = Table(columns, colour=colour, rows=rows)
    yield table.head()
    for row in rows:
        yield table.line(row)
