"""npm's caches: what the registry told npm of a package's tarball, and the tarball itself.

A cache is a folder of whoever ran npm. What a registry said is in it as npm got it: the document of a package (its
versions and the integrity of each one's tarball), found by the index and stored under its own hash. Root's cache can
be written by root alone; a user's says only what the user lets it say.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from agent_broker.enroll.beneath import open_regular, open_without_links

MAX_TARBALL_BYTES = 1 << 30
_MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
_MAX_BUCKET_BYTES = 1024 * 1024
_MAX_BUCKETS = 50_000
_MAX_DOCUMENTS_BYTES = 256 * 1024 * 1024
"""Of all documents that are read."""
_REQUEST = "make-fetch-happen:request-cache:"
_CHUNK_BYTES = 1024 * 1024


class NpmCaches:
    """Several caches, asked in this order. Raises nothing for what it finds: what can't be read is not there."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._documents: dict[str, list[bytes]] | None = None
        self._told: dict[str, list[dict[str, Any]]] = {}
        self._left_bytes = _MAX_DOCUMENTS_BYTES

    def integrities(self, name: str, version: str) -> tuple[bytes, ...]:
        """Return the SHA-512 that registries told npm of a version's tarball; more than one: they differ."""
        if name not in self._told:
            self._told[name] = [self._document(each) for each in self._index().get(name.replace("/", "%2f"), ())]
        found: dict[bytes, None] = {}
        for document in self._told[name]:
            noted = _at(document, "versions", version, "dist", "integrity")
            if isinstance(noted, str) and (digest := sha512_of(noted)) is not None:
                found.setdefault(digest)
        return tuple(found)

    def open_tarball(self, integrity: bytes) -> BinaryIO | None:
        """Return the content that is kept under a hash, open; whether it has this hash is for the caller to see."""
        for folder in self._folders:
            try:
                file = os.fdopen(open_regular(str(_content_of(folder, integrity))), "rb")
            except OSError:
                continue
            if os.fstat(file.fileno()).st_size <= MAX_TARBALL_BYTES:
                return file
            file.close()
        return None

    def _document(self, integrity: bytes) -> dict[str, Any]:
        for folder in self._folders:
            data = read_bounded(_content_of(folder, integrity), min(_MAX_DOCUMENT_BYTES, self._left_bytes))
            self._left_bytes -= len(data)
            if data and hashlib.sha512(data).digest() == integrity:
                return json_object(data)
        return {}

    def _index(self) -> dict[str, list[bytes]]:
        """Return the hashes of packages' documents by the end of their addresses; read once."""
        if self._documents is None:
            self._documents = {}
            for folder in self._folders:
                for address, integrity in _entries(folder / "index-v5"):
                    self._documents.setdefault(address.rpartition("/")[2].lower(), []).append(integrity)
        return self._documents


def sha512_of(integrity: str) -> bytes | None:
    """Return the digest of ``sha512-BASE64`` among the hashes of an integrity string."""
    for each in integrity.split():
        kind, _, text = each.partition("-")
        if kind == "sha512":
            try:
                digest = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                return None
            return digest if len(digest) == hashlib.sha512().digest_size else None
    return None


def digest_of_file(file: BinaryIO) -> bytes:
    """Return the SHA-512 of an open file, which is at its first byte again then.

    Raises:
        OSError: it can't be read.
        ValueError: it has grown beyond what a tarball may have.
    """
    digest, done = hashlib.sha512(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        done += len(chunk)
        if done > MAX_TARBALL_BYTES:
            raise ValueError("it grows")
    file.seek(0)
    return digest.digest()


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return a regular file's content; nothing if it is larger, a link, something else, or can't be read."""
    try:
        with os.fdopen(open_regular(str(path)), "rb") as file:
            data = file.read(most_bytes + 1)
    except OSError:
        return b""
    return data if len(data) <= most_bytes else b""


def json_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object; empty if it is none. Its text is whoever's wrote it."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _content_of(folder: Path, integrity: bytes) -> Path:
    digest = integrity.hex()
    return folder / "content-v2/sha512" / digest[:2] / digest[2:4] / digest[4:]


def _entries(index: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the addresses of documents that a cache holds, each with the hash of the last one."""
    buckets = (place for one in _folder(index) for two in _folder(one) for place in _folder(two))
    for number, bucket in enumerate(buckets):
        if number >= _MAX_BUCKETS:
            return
        last: dict[str, bytes | None] = {}
        for line in read_bounded(bucket, _MAX_BUCKET_BYTES).splitlines():
            entry = json_object(line.partition(b"\t")[2])
            key, noted = entry.get("key"), entry.get("integrity")
            if isinstance(key, str) and key.startswith(_REQUEST) and not key.endswith(".tgz"):
                last[key.removeprefix(_REQUEST)] = sha512_of(noted) if isinstance(noted, str) else None
        yield from ((address, digest) for address, digest in last.items() if digest is not None)


def _folder(path: Path) -> list[Path]:
    """Return what is in a folder; nothing if it is none."""
    try:
        fd = open_without_links(str(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        with os.scandir(fd) as listing:
            return [path / entry.name for entry, _ in zip(listing, range(_MAX_BUCKETS), strict=False)]
    finally:
        os.close(fd)


def _at(document: dict[str, Any], *names: str) -> object:
    value: object = document
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
