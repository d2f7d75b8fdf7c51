"""The SQLite file of the incidents for queries: made, opened safely, thrown away when it is not what we made.

Nothing in it is precious (the journal of the alerts has all of it), so it is not synced at each commit, and whatever is
wrong with it ends in a new one.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

from agent_broker.disk import require_private
from agent_broker.errors import IntegrityError

SCHEMA: Final = (
    """CREATE TABLE acks (
    id TEXT PRIMARY KEY, rank INTEGER NOT NULL, record BLOB NOT NULL
) STRICT, WITHOUT ROWID""",
    """CREATE INDEX by_last ON incidents (last_ns)""",
    """CREATE UNIQUE INDEX by_seq ON incidents (seq)""",
    """CREATE TABLE incidents (
    id TEXT PRIMARY KEY, revision INTEGER NOT NULL, seq INTEGER NOT NULL, time_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL, rank INTEGER NOT NULL, kind TEXT NOT NULL, record BLOB NOT NULL
) STRICT""",
    """CREATE TABLE place (
    one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, sha256 TEXT NOT NULL, size_bytes INTEGER NOT NULL
) STRICT""",
)
"""In the order of names; ``seq`` is the journal's line of the newest revision, ``place`` how far it was read."""

_FORMAT: Final = 1  # user_version
_PRAGMAS: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA locking_mode = EXCLUSIVE",  # before WAL: then there is no shared-memory file
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = OFF",  # a torn file is made again from the journal
    "PRAGMA cache_size = -2048",  # KiB
)
_MAKE: Final = sorted(SCHEMA, key=lambda each: not each.startswith("CREATE TABLE"))


def open_store(path: Path) -> sqlite3.Connection:
    """Open an existing store.

    Raises:
        FileNotFoundError: there is none.
        IntegrityError: others can read or write it, or it is a link, or not a store of this version.
        sqlite3.Error: it is damaged, or the disk refuses.
    """
    _require_ours(path)
    connection = _connect(path)
    try:
        _require_schema(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def make_store(path: Path) -> sqlite3.Connection:
    """Make an empty store in the place of whatever is there.

    Raises:
        OSError, sqlite3.Error: the disk refuses.
    """
    for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        each.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    connection = _connect(path)
    try:
        connection.execute("BEGIN")
        for statement in _MAKE:
            connection.execute(statement)
        connection.execute("INSERT INTO place VALUES (1, 0, ?, 0)", ("0" * 64,))
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IntegrityError(f"{path} can't be opened: {error.strerror}") from error
    try:
        require_private(path, os.fstat(fd))
    finally:
        os.close(fd)


def _require_schema(path: Path, connection: sqlite3.Connection) -> None:
    found = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name")]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != list(SCHEMA) or version != _FORMAT:
        raise IntegrityError(f"{path} is not a store of alerts of this version")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
