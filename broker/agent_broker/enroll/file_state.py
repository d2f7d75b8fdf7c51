"""What a file was at one moment: enough to know later whether it is still that file, unwritten."""

import hashlib

import msgspec
from msgspec import Struct

from agent_broker.ids import Sha256

Attributes = tuple[tuple[str, bytes], ...]
"""Extended attributes, access lists among them, ordered by name."""


class FileState(Struct, frozen=True):
    """What fstat says about a file; all that can show that it is another one, or was written."""

    dev: int
    ino: int
    mode: int
    """``st_mode``: type and permission bits."""
    uid: int
    gid: int
    nlink: int
    size_bytes: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    def same_version(self, other: "FileState") -> bool:
        """Say whether nothing but the time of access differs."""
        return msgspec.structs.replace(self, atime_ns=0) == msgspec.structs.replace(other, atime_ns=0)

    def same_bytes(self, other: "FileState") -> bool:
        """Say whether it is the same file, not written; a rename and a chmod move ``ctime`` and are allowed."""
        return (self.dev, self.ino, self.size_bytes, self.mtime_ns) == (
            other.dev,
            other.ino,
            other.size_bytes,
            other.mtime_ns,
        )


class KnownFolder(Struct, frozen=True):
    """A folder as it was seen earlier."""

    path: str
    """Relative to the home; ``.`` is the home."""
    dev: int
    ino: int


class Expected(Struct, frozen=True):
    """The version of a file that a change was made for."""

    state: FileState
    sha256: Sha256


def sha256_of(data: bytes) -> Sha256:
    """Return the digest of bytes."""
    return Sha256(hashlib.sha256(data).hexdigest())
