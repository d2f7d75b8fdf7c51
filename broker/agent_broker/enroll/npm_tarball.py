"""What is in an npm package's tarball, read as if its maker were an enemy.

Nothing is unpacked: its files are hashed as they stream by. Refused, as ``ValueError``: a member that lies outside
the package or has a path that no file can have, a sparse file, a header larger than a header is, more members or bytes
than a package may have. Links in it are not followed and not counted: npm unpacks none.
"""

import gzip
import hashlib
import tarfile
from typing import BinaryIO, cast

from msgspec import Struct

_MAX_READ_BYTES = 1024 * 1024
"""Of one read: tarfile reads a header's text, whose length its maker says, at once."""
_MAX_MEMBERS = 100_000
_MANIFEST = b"package.json"
_IGNORE, _PACKED_IGNORE = b".npmignore", b".gitignore"


class Room:
    """How many bytes all tarballs of one comparison may hold, unpacked."""

    def __init__(self, size_bytes: int) -> None:
        self.left_bytes = size_bytes

    def take(self, size_bytes: int) -> None:
        """Take some of it.

        Raises:
            ValueError: there is no more.
        """
        self.left_bytes -= size_bytes
        if self.left_bytes < 0:
            raise ValueError("the tarballs hold too much")


class Packed(Struct, frozen=True):
    """A tarball's files, by their paths in the package."""

    files: dict[bytes, bytes]
    """SHA-256."""
    manifest: bytes
    """Its package.json; empty: it has none, or one that is too large."""


class _Stream:
    """A gzip file's content for tarfile; bounded."""

    def __init__(self, file: BinaryIO, room: Room) -> None:
        self._zipped = gzip.GzipFile(fileobj=file, mode="rb")
        self._room = room
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ_BYTES:
            raise ValueError("a header is too large")
        data = self._zipped.read(size)
        self._room.take(len(data))
        self._place += len(data)
        return data

    def tell(self) -> int:
        return self._place

    def seek(self, place: int) -> int:
        """Go on to a place; tarfile never goes back."""
        if place < self._place:
            raise ValueError("a member lies in another")
        while self._place < place:
            if not self.read(min(place - self._place, _MAX_READ_BYTES)):
                break
        return self._place


def read_tarball(file: BinaryIO, room: Room) -> Packed:
    """Return what is in it, as npm would unpack it.

    Args:
        file: the tarball, from its first byte; stays the caller's.
        room: what may be read, shared by all tarballs of a comparison.

    Raises:
        ValueError, tarfile.TarError, EOFError, OSError: it is none, or one that npm could not have made.
    """
    files: dict[bytes, bytes] = {}
    manifest = b""
    stream = cast("BinaryIO", _Stream(file, room))
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        members = 0
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
            members += 1
            if members > _MAX_MEMBERS:
                raise ValueError("it has too many members")
            path = _path_in_package(member.name)
            if not member.isreg():
                continue
            if member.issparse() or not path:
                raise ValueError("a member is no file of the package")
            files[path], content = _hash(archive, member, keeps=path == _MANIFEST)
            manifest = content if path == _MANIFEST else manifest
    return Packed(_as_unpacked(files), manifest)


def _path_in_package(name: str) -> bytes:
    """Return a member's path below the one folder that all lie in, which has any name."""
    parts = [part for part in name.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b".")]
    if name.startswith("/") or b".." in parts or b"\0" in b"".join(parts):
        raise ValueError("a member lies outside the package")
    return b"/".join(parts[1:])


def _hash(archive: tarfile.TarFile, member: tarfile.TarInfo, *, keeps: bool) -> tuple[bytes, bytes]:
    digest, content = hashlib.sha256(), b""
    file = archive.extractfile(member)
    while file is not None and (chunk := file.read(_MAX_READ_BYTES)):
        digest.update(chunk)
        content = content or chunk
    return digest.digest(), content if keeps and member.size <= _MAX_READ_BYTES else b""


def _as_unpacked(files: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the names that npm gives them: it writes ``.gitignore`` as ``.npmignore``, if there is no such file."""
    unpacked = {path: digest for path, digest in files.items() if path.rpartition(b"/")[2] != _PACKED_IGNORE}
    for path, digest in files.items():
        folder, slash, name = path.rpartition(b"/")
        if name == _PACKED_IGNORE:
            unpacked.setdefault(folder + slash + _IGNORE, digest)
    return unpacked
