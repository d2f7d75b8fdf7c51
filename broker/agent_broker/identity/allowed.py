"""The programs that root allowed to open credential paths, or decoys, as root wrote them down.

One JSON file a record in ``registry/allowed``, owned by root and writable by root alone; the monitor reads them at
reload. A program is identified by
the hash of its bytes at the time of the open, so a changed file is not allowed any more; its path is for people.
"""

import hashlib
import re
import time
from pathlib import Path, PurePosixPath
from typing import Annotated

from msgspec import Meta, Struct

from agent_broker.disk import require_root_owned
from agent_broker.errors import MisuseError
from agent_broker.identity.records import load_record, remove_record, save_record
from agent_broker.ids import Sha256

MAX_REASON_CHARS = 500
_INTERPRETER = re.compile(
    r"(?:python|pypy)[\d.]*|node(?:js)?|node-\d+|bun|deno|(?:ba|da|z|k|mk|fi|c|tc|a)?sh\d*|perl[\d.]*|ruby[\d.]*"
    r"|php[\d.]*|lua[\d.]*|luajit|java|guile[\d.]*|tclsh[\d.]*|busybox|toybox|[mgon]?awk|env|ld-linux.*|ld-musl.*|ld\.so.*"
)


class AllowedProgram(Struct, frozen=True, forbid_unknown_fields=True):
    """One program that may open some paths without an alert."""

    program: str
    """Path of its executable, without links, when it was allowed."""
    sha256: Annotated[Sha256, Meta(pattern="^[0-9a-f]{64}$")]
    package: str
    """``NAME VERSION`` of the distribution's package that owned it then; empty: none."""
    opens: tuple[str, ...]
    """Paths, or patterns of the catalogue with the home written out (monitor.pattern)."""
    reason: str
    added_ns: int
    """CLOCK_REALTIME, as the next."""
    expires_ns: int
    """From when on it is not allowed any more; 0: never."""
    format: int = 1

    @property
    def file_name(self) -> str:
        """The name of its file in the registry: one record for one program and one set of paths."""
        named = "\0".join((self.program, self.sha256, *self.opens))
        return f"{hashlib.sha256(named.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"

    def holds_at(self, now_ns: int) -> bool:
        """Whether it has not expired."""
        return not self.expires_ns or now_ns < self.expires_ns


def is_interpreter(path: str) -> bool:
    """Whether a program runs whatever it is given, by its name: its own hash says nothing of what it does."""
    return _INTERPRETER.fullmatch(PurePosixPath(path).name) is not None


def allow(folder: Path, record: AllowedProgram) -> None:
    """Write one record durably; it replaces one for the same program and paths.

    Raises:
        MisuseError: an interpreter, a record without a reason, a path that is not absolute, or one that expired.
        UnavailableError: the disk refuses.
    """
    if problem := _problem(record):
        raise MisuseError(problem, next_step="allow a program of its own for one path, with a reason")
    save_record(folder / record.file_name, record)


def load_allowed(folder: Path) -> tuple[AllowedProgram, ...]:
    """Return all records of a registry folder, expired ones too, ordered by program; none if there is no folder.

    Raises:
        IntegrityError: a file (or the folder) that others than root could have written.
        MisuseError: a file that is not such a record, with the failing field's path.
    """
    if not folder.is_dir():
        return ()
    require_root_owned(folder, folder.lstat())
    found = [_load(path) for path in folder.glob("*.json")]
    return tuple(sorted(found, key=lambda each: (each.program, each.added_ns)))


def remove_allowed(folder: Path, record: AllowedProgram) -> None:
    """Delete one record durably; a missing file is fine."""
    remove_record(folder / record.file_name)


def _problem(record: AllowedProgram) -> str:
    if is_interpreter(record.program):
        return f"{record.program!r} runs whatever it is given: allowing it would allow every script"
    if not record.reason.strip() or len(record.reason) > MAX_REASON_CHARS:
        return f"a reason is needed, of no more than {MAX_REASON_CHARS} characters"
    if not record.opens or not all(each.startswith("/") for each in (record.program, *record.opens)):
        return "the program and what it opens are absolute paths"
    if re.fullmatch("[0-9a-f]{64}", record.sha256) is None:
        return "a program is allowed by its SHA-256"
    return "" if record.holds_at(time.time_ns()) else "it would have expired already"


def _load(path: Path) -> AllowedProgram:
    return load_record(path, AllowedProgram, "an allowed program", f"remove it: rm {path}")
