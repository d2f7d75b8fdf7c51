"""What may reach the terminal, and how.

1. Data goes to stdout, everything said about it (progress, prompts, errors) to stderr.
2. Text that a stranger chose (paths, arguments, names) is printed without what a terminal would obey: control
   characters, escapes, and marks that reorder text become visible escapes.
3. ``--json`` prints the record and nothing else: one document, or one line a record for streams.
4. Colour only to a terminal; a pipe gets no colours and long lines instead of folded cells, so that grep finds paths.
"""

import re
import shutil
import sys
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any, Literal

import msgspec
from rich import box, filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 250

_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def printable(text: str) -> str:
    """Return text with everything that is not plainly visible turned into escapes of letters and digits."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def console(*, to_stderr: bool = False) -> Console:
    """Return a console for tables and sentences."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, width=columns(), highlight=False, markup=False, emoji=False)


def table(*columns: str, title: str = "") -> Table:
    """Return an empty table in the one style of this command; long cells fold, nothing is cut."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def cell(text: object, style: str = "") -> Text:
    """Return a cell that shows text as it is: no markup, nothing that a terminal would obey."""
    return Text(printable(str(text)), style=style)


def print_json(value: Any) -> None:
    """Print one JSON document, indented, of structs or plain values."""
    sys.stdout.write(safe_json(msgspec.json.format(msgspec.json.encode(value), indent=2)) + "\n")


def safe_json(data: bytes) -> str:
    """Return JSON with characters that a terminal would obey as JSON escapes; the document stays the same."""
    text = data.decode()
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def when(time_ns: int, *, to_the: Literal["day", "minute", "second"] = "second") -> str:
    """Return a wall-clock time as a person reads it: local, and to the second with the offset from UTC."""
    form = {"day": "%Y-%m-%d", "minute": "%Y-%m-%d %H:%M", "second": "%Y-%m-%d %H:%M:%S%z"}[to_the]
    return datetime.fromtimestamp(time_ns / 1e9, tz=UTC).astimezone().strftime(form)


def user_name(uid: int) -> str:
    """Return ``name (uid)``, or the number alone if the machine knows no name for it."""
    import pwd  # noqa: PLC0415 - not needed by most commands

    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def below_home(path: str, uid: int) -> str:
    """Return a path with ``~`` for the home of a user, if it lies there."""
    import pwd  # noqa: PLC0415 - not needed by most commands

    try:
        home = pwd.getpwuid(uid).pw_dir
    except KeyError:
        return path
    return f"~{path[len(home) :]}" if home not in {"", "/"} and path.startswith(f"{home}/") else path


def columns() -> int:
    """Return how wide lines may be: the terminal's width, or COLUMNS, or PIPE_COLUMNS into a pipe."""
    return shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns


def labelled(label: str, text: str, width: int, *, label_columns: int = 11) -> list[str]:
    """Return ``  label    text`` as printable lines of at most ``width`` columns; text folds below itself."""
    head = f"  {label:<{label_columns - 2}}"
    indent = " " * label_columns
    folded = wrap(
        printable(text),
        max(width, label_columns + 20),
        initial_indent=head,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return folded or [head.rstrip()]


def say(sentence: str) -> None:
    """Print a sentence about the data, at once, to stderr."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def size(count_bytes: int) -> str:
    """Return ``381.0 MB``: powers of ten, as disks and downloads are counted."""
    return filesize.decimal(count_bytes)


def plural(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``, ``2 entries``, ``2 processes``."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("ss"):
        return f"{count} {noun}es"
    return f"{count} {noun[:-1]}ies" if noun.endswith("ry") else f"{count} {noun}s"
