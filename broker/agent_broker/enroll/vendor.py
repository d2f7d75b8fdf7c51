"""What the vendor's own files beside an executable say of it: its version, and whether they agree with its bytes.

npm: the package's ``package.json``; the integrity that npm noted at installation
(``node_modules/.package-lock.json`` or ``package-lock.json``); the tarball of exactly this integrity in npm's cache,
and in it the file itself. Claude's native installer: a file in ``versions`` is named after its version.

All of it lies in folders that the user can write: it shows that things fit together, and proves nothing. A mismatch
is a reason to say no; an agreement is none to say yes.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from agent_broker.enroll.beneath import open_without_links
from agent_broker.ids import Sha256

AGREES, DISAGREES, NONE = "agrees", "disagrees", "none"

_MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
_MAX_TARBALL_BYTES = 1 << 30
_MAX_MEMBERS = 10_000
_CHUNK_BYTES = 1024 * 1024
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+)+[0-9A-Za-z.+-]*")
_MAX_VERSION_CHARS = 64


@dataclass(frozen=True)
class Vendor:
    """What was found."""

    version: str
    """Empty: nothing says."""
    evidence: str
    """AGREES, DISAGREES or NONE."""
    what: str
    """A sentence: what was compared with what."""


@dataclass(frozen=True)
class _Package:
    root: Path
    name: str
    version: str


def version_of(path: Path) -> str:
    """Return the version that the vendor's files say of an executable or script; empty if they say none."""
    package = _package_of(path)
    if package is not None:
        return package.version
    return path.name if _is_version_folder(path) else ""


def vendor_of(path: Path, sha256: Sha256, caches: tuple[Path, ...]) -> Vendor:
    """Compare a file's hash with what its vendor's files say. Raises nothing for what it finds.

    Args:
        path: of the executable or script, resolved.
        sha256: of its bytes, taken by the caller.
        caches: npm's cache folders, ``~/.npm/_cacache``.
    """
    version = version_of(path)
    package = _package_of(path)
    if package is None and version:
        return Vendor(version, NONE, "the native installer names the file after its version, and leaves nothing else")
    if package is None:
        return Vendor(version, NONE, "no evidence: no vendor's file lies beside it")
    try:
        evidence, what = _npm_evidence(path, package, sha256, caches)
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        evidence, what = NONE, f"no evidence: npm's files can't be read ({type(error).__name__})"
    return Vendor(version, evidence, what)


def _npm_evidence(path: Path, package: _Package, sha256: Sha256, caches: tuple[Path, ...]) -> tuple[str, str]:
    reason = "no evidence: npm noted no integrity of this package (a global installation keeps none)"
    for holder, inside in _holders(path, package):
        integrity = _integrity_of(holder)
        if integrity is None:
            continue
        tarball = _open_cached(integrity, caches)
        if tarball is None:
            reason = f"no evidence: the tarball of {holder.name} {holder.version} is not in npm's cache"
            continue
        with tarball:
            if _digest(tarball) != integrity:
                return DISAGREES, f"the tarball of {holder.name} in npm's cache is not the one that npm noted"
            packed = _packed_sha256(tarball, inside)
        if packed is None:
            reason = f"no evidence: the file is not in the tarball of {holder.name} {holder.version}"
        elif packed == sha256:
            return AGREES, f"the file is the one in the tarball of {holder.name} {holder.version} that npm noted"
        else:
            return DISAGREES, f"the file is not the one in the tarball of {holder.name} {holder.version} that npm noted"
    return NONE, reason


def _holders(path: Path, package: _Package) -> Iterator[tuple[_Package, str]]:
    """Yield the packages that may have brought the file, platform packages first: their file is hard-linked."""
    facts = path.stat()
    for scope in (package.root.parent, package.root / "node_modules" / package.root.parent.name):
        for folder in sorted(scope.glob(f"{package.root.name}-*")):
            other = _read_package(folder)
            for entry in sorted(folder.iterdir()) if other is not None else ():
                seen = entry.lstat()
                if other is not None and (seen.st_dev, seen.st_ino) == (facts.st_dev, facts.st_ino):
                    yield other, entry.name
    yield package, str(path.relative_to(package.root))


def _package_of(path: Path) -> _Package | None:
    """Return the npm package that a file lies in: the nearest folder below a ``node_modules`` with a package.json."""
    for folder in path.parents:
        if "node_modules" not in folder.parts:
            return None
        found = _read_package(folder)
        if found is not None:
            return found
    return None


def _read_package(folder: Path) -> _Package | None:
    document = _read_json(folder / "package.json")
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not _is_version(version):
        return None
    return _Package(folder, name, version)


def _integrity_of(package: _Package) -> bytes | None:
    """Return the SHA-512 that npm noted of a package's tarball when it installed it."""
    for modules in package.root.parents:
        if modules.name != "node_modules":
            continue
        place = f"node_modules/{package.root.relative_to(modules)}"
        for lock in (modules / ".package-lock.json", modules.parent / "package-lock.json"):
            packages = _read_json(lock).get("packages")
            entry = packages.get(place) if isinstance(packages, dict) else None
            noted = entry.get("integrity") if isinstance(entry, dict) else None
            if isinstance(noted, str) and (digest := _sha512_of(noted)) is not None:
                return digest
    return None


def _sha512_of(integrity: str) -> bytes | None:
    """Return the digest of ``sha512-BASE64`` among the hashes of an integrity string."""
    for each in integrity.split():
        kind, _, text = each.partition("-")
        if kind == "sha512":
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                return None
    return None


def _open_cached(integrity: bytes, caches: tuple[Path, ...]) -> BinaryIO | None:
    digest = integrity.hex()
    for cache in caches:
        place = cache / "content-v2/sha512" / digest[:2] / digest[2:4] / digest[4:]
        try:
            fd = open_without_links(str(place), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            continue
        file = os.fdopen(fd, "rb")
        if os.fstat(fd).st_size <= _MAX_TARBALL_BYTES:
            return file
        file.close()
    return None


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha512()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    return digest.digest()


def _packed_sha256(tarball: BinaryIO, inside: str) -> str | None:
    """Return the hash of a file in a package's tarball, whose members lie below one folder (``package``)."""
    with tarfile.open(fileobj=tarball, mode="r:gz") as archive:
        for number, member in enumerate(archive):
            if number >= _MAX_MEMBERS:
                return None
            if member.isreg() and member.name.partition("/")[2] == inside and member.size <= _MAX_TARBALL_BYTES:
                file = archive.extractfile(member)
                digest = hashlib.sha256()
                while file is not None and (chunk := file.read(_CHUNK_BYTES)):
                    digest.update(chunk)
                return digest.hexdigest()
    return None


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a regular file without links; empty if it is none. Its text is the user's."""
    try:
        fd = open_without_links(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(fd, "rb") as file:
            data = file.read(_MAX_DOCUMENT_BYTES + 1)
        document = json.loads(data) if len(data) <= _MAX_DOCUMENT_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_version_folder(path: Path) -> bool:
    return path.parent.name == "versions" and _is_version(path.name)


def _is_version(text: str) -> bool:
    return len(text) <= _MAX_VERSION_CHARS and _VERSION.fullmatch(text) is not None
