"""An npm package as it lies there: its name and version, and the integrity that npm noted when it installed it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_broker.enroll.npm_cache import json_object, read_bounded, sha512_of

MODULES = "node_modules"
_MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+)+[0-9A-Za-z.+-]*")
_MAX_VERSION_CHARS = 64


@dataclass(frozen=True)
class Package:
    """What its own package.json says."""

    root: Path
    name: str
    version: str


def package_of(path: Path) -> Package | None:
    """Return the npm package that a file lies in: the nearest folder below a ``node_modules`` with a package.json."""
    for folder in path.parents:
        if MODULES not in folder.parts:
            return None
        found = read_package(folder)
        if found is not None:
            return found
    return None


def read_package(folder: Path) -> Package | None:
    """Return the package whose folder this is; None: it is none."""
    document = read_json(folder / "package.json")
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not is_version(version):
        return None
    return Package(folder, name, version)


def noted_integrity(package: Package, documents: dict[Path, dict[str, Any]]) -> bytes | None:
    """Return the SHA-512 that npm noted of a package's tarball when it installed it.

    Args:
        package: which.
        documents: lock files that were read before; more are added.
    """
    for modules, lock in _locks(package, documents):
        packages = lock.get("packages")
        entry = packages.get(f"{MODULES}/{package.root.relative_to(modules)}") if isinstance(packages, dict) else None
        noted = entry.get("integrity") if isinstance(entry, dict) else None
        if isinstance(noted, str) and (digest := sha512_of(noted)) is not None:
            return digest
    return None


def is_version(text: str) -> bool:
    """Tell whether this is a version's number."""
    return len(text) <= _MAX_VERSION_CHARS and _VERSION.fullmatch(text) is not None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a regular file without links; empty if it is none. Its text is the user's."""
    return json_object(read_bounded(path, _MAX_DOCUMENT_BYTES))


def _locks(package: Package, documents: dict[Path, dict[str, Any]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for modules in package.root.parents:
        if modules.name == MODULES:
            for lock in (modules / ".package-lock.json", modules.parent / "package-lock.json"):
                if lock not in documents:
                    documents[lock] = read_json(lock)
                yield modules, documents[lock]
