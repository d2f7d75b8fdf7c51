"""The SQLite side of the vault: opens the file safely, and turns every SQLite error into one of our families.

The file decides nothing about how it is read: its schema must be, character by character, the one below, so that
nobody can add a trigger or put a view in a table's place. One process at a time holds the file (exclusive lock).
What a commit wrote is on the disk when it returns (WAL with synchronous=FULL), and is moved into the main file at
once, so that the log beside it is empty between writes and old ciphertexts are overwritten (secure_delete). That
leaves pieces of them where SQLite moved a row from page to page, so ``compact`` writes the whole file anew.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_broker.disk import require_private, sync_folder
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.vault.envelope import damaged

_HEADER = """CREATE TABLE header (
    format INTEGER NOT NULL, vault_id BLOB NOT NULL, salt BLOB NOT NULL, key_check BLOB NOT NULL,
    generation INTEGER NOT NULL, manifest BLOB NOT NULL, manifest_mac BLOB NOT NULL
) STRICT"""
_RECORDS = """CREATE TABLE records (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, agent TEXT NOT NULL, owner_uid INTEGER NOT NULL, version INTEGER NOT NULL,
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, attributes TEXT NOT NULL,
    key_nonce BLOB NOT NULL, wrapped_key BLOB NOT NULL, nonce BLOB NOT NULL, ciphertext BLOB NOT NULL
) STRICT, WITHOUT ROWID"""
SCHEMA = (_HEADER, _RECORDS)

_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat2.html, 1.3.1

_PRAGMAS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA locking_mode = EXCLUSIVE",  # before WAL: then there is no shared-memory file
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
)

# https://www.sqlite.org/rescode.html: what the environment did. Every other code means that the file is not ours.
_ENVIRONMENT = {
    sqlite3.SQLITE_BUSY: "another process has the vault open",
    sqlite3.SQLITE_LOCKED: "another process has the vault open",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_NOMEM: "no memory is left",
}


class Database:
    """An open vault file whose schema was checked."""

    def __init__(self, path: Path) -> None:
        """Open an existing file.

        Raises:
            IntegrityError: others can read it, it is a link, or it is not a vault.
            UnavailableError: it can't be opened, or another process holds it.
        """
        self.path = path
        _check_file(path)
        with self.guard(f"the vault {path}"):
            self._connection = _connect(path)
        try:
            self._check_schema()
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Turn SQLite's errors into ours; ``name`` is what an IntegrityError says is damaged."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise MisuseError(f"the vault {self.path} is closed, or used from another thread") from error
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code in _ENVIRONMENT:
                raise UnavailableError(
                    f"the vault {self.path} can't be used: {_ENVIRONMENT[code]}",
                    next_step="stop the other process, or make room; nothing was lost",
                ) from error
            raise damaged(name) from error

    def rows(self, name: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query gives; ``name`` as in ``guard``."""
        with self.guard(name):
            return self._connection.execute(statement, values).fetchall()

    def write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Execute all statements in one transaction that is durable on return, or none.

        Raises:
            UnavailableError: the disk refused; nothing changed.
            IntegrityError: the file is damaged; nothing changed.
        """
        with self.guard(f"the vault {self.path}"):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self._tidy()

    def compact(self) -> None:
        """Write the file anew with nothing in it but its rows; durable on return. A killed one changed nothing.

        Raises:
            UnavailableError: the disk refused; the rows are as they were, and what was deleted may still be there.
            IntegrityError: the file is damaged.
        """
        with self.guard(f"the vault {self.path}"):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Release the file."""
        with self.guard(f"the vault {self.path}"):
            self._connection.close()

    def _tidy(self) -> None:
        """Move the log into the main file. If the disk refuses, the log stays, is valid, and the next write retries."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _ENVIRONMENT:
                raise damaged(f"the vault {self.path}") from error

    def _check_schema(self) -> None:
        found = self.rows(f"the vault {self.path}", "SELECT sql FROM sqlite_schema ORDER BY name")
        if found != [(statement,) for statement in SCHEMA]:
            raise IntegrityError(
                f"{self.path} is not a vault of this version: its tables are others",
                next_step="restore the vault from a backup",
            )


def create(path: Path, *rows: tuple[str, tuple[object, ...]]) -> None:
    """Make a vault file with its first rows, unless there is one: it appears complete or not at all.

    Raises:
        UnavailableError: the folder is missing or the disk refused.
    """
    draft = _draft_of(path)
    try:
        _discard(draft)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = _connect(draft)
        try:
            connection.execute("BEGIN")
            for statement, values in (*((table, ()) for table in SCHEMA), *rows):
                connection.execute(statement, values)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # close() would say nothing of a full disk
        finally:
            connection.close()
        os.link(draft, path)  # fails if another process was first
        draft.unlink(missing_ok=True)  # whoever opens it in this moment does so, too
        sync_folder(path.parent)
    except FileExistsError:
        _discard(draft)
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(
            f"the vault {path} can't be made: {error}", next_step="check that its folder exists and the disk has room"
        ) from error


def _draft_of(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _discard(draft: Path) -> None:
    for suffix in ("", "-wal"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _check_file(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(
            f"the vault {path} can't be opened: {error.strerror}", next_step="check its owner and mode"
        ) from error
    try:
        require_private(path, os.fstat(fd))
        if os.pread(fd, len(_MAGIC), 0) != _MAGIC:  # SQLite would take a very short file for a new one, and write to it
            raise damaged(f"the vault {path}")
        _drop_second_name(path, os.fstat(fd))
    finally:
        os.close(fd)  # before SQLite opens it: closing any descriptor of a file drops the process's locks on it


def _drop_second_name(path: Path, facts: os.stat_result) -> None:
    """Delete the name under which a vault was made, if its maker was killed before it did that itself."""
    draft = _draft_of(path)
    with contextlib.suppress(OSError):  # not there; or the disk refuses, which hurts nobody
        if os.path.samestat(draft.lstat(), facts):
            draft.unlink()
