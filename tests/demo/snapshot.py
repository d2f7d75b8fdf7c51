"""A home at one moment: what each file holds, whose it is, its mode and its time of change."""

import hashlib
import os
import stat
from pathlib import Path

from msgspec import Struct


class Entry(Struct, frozen=True):
    """One file, folder or link."""

    mode: str
    """As ``ls -l`` shows it: type and permissions."""
    uid: int
    gid: int
    mtime_ns: int
    sha256: str
    """Of the content, or of a link's target; empty for folders."""

    def differs_in(self, other: "Entry | None") -> str:
        """Return the names of what is not equal; empty if nothing is."""
        if other is None:
            return "missing"
        return ", ".join(name for name in self.__struct_fields__ if getattr(self, name) != getattr(other, name))


Snapshot = dict[str, Entry]
"""By path relative to the home."""


def take_snapshot(home: Path, but: Path | None = None) -> Snapshot:
    """Return every file of a home, but those of one folder. Reads as root, which wakes no critical alert."""
    paths = sorted(path for path in home.rglob("*") if but is None or not path.is_relative_to(but))
    return {str(path.relative_to(home)): _entry(path) for path in paths}


def _entry(path: Path) -> Entry:
    facts = path.lstat()
    content = b""
    if stat.S_ISREG(facts.st_mode):
        content = path.read_bytes()
    elif stat.S_ISLNK(facts.st_mode):
        content = os.fsencode(path.readlink())
    digest = "" if stat.S_ISDIR(facts.st_mode) else hashlib.sha256(content).hexdigest()
    mtime_ns = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_mtime_ns  # a folder's changes with its files
    return Entry(stat.filemode(facts.st_mode), facts.st_uid, facts.st_gid, mtime_ns, digest)


class Changes(Struct, frozen=True):
    """What differs between two moments."""

    same: tuple[str, ...]
    changed: dict[str, str]
    """Path: what is different, or ``missing``."""
    new: tuple[str, ...]


def compare(before: Snapshot, after: Snapshot) -> Changes:
    """Return what became of the files of ``before``, and which came since."""
    changed = {path: entry.differs_in(after.get(path)) for path, entry in before.items()}
    return Changes(
        same=tuple(path for path, difference in changed.items() if not difference),
        changed={path: difference for path, difference in changed.items() if difference},
        new=tuple(path for path in after if path not in before),
    )
