"""npm's evidence of an installed package: its tarball, if npm knows which one, and the comparison with all of a tree.

Which tarball it should be, npm noted at installation (``.package-lock.json``, ``package-lock.json``), or the registry
told it (``npm_cache``). Sources that differ are a contradiction, and so is content with another hash than the noted
one; without a source there is no evidence. The tree is looked at and hashed here again, and must have the digest that
was shown: what is compared is what is enrolled.
"""

import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from agent_broker.enroll.npm_cache import NpmCaches, digest_of_file, json_object
from agent_broker.enroll.npm_package import MODULES, Package, noted_integrity, read_package
from agent_broker.enroll.npm_tarball import Packed, Room, read_tarball
from agent_broker.enroll.npm_tree import Comparison, Found, Known, compare, folder_name
from agent_broker.errors import IntegrityError
from agent_broker.identity.bundle import digest_of, hash_files
from agent_broker.identity.registry import Bundle
from agent_broker.identity.tree import Bounds, scan_tree

_MAX_UNPACKED_BYTES = 4 << 30
"""Of all tarballs of one comparison."""
_MAX_PACKAGES = 5_000
_ASKING = ("dependencies", "optionalDependencies", "peerDependencies", "bundleDependencies", "bundledDependencies")
_SCRIPTS = ("preinstall", "install", "postinstall")
_GYP = b"binding.gyp"
"""npm compiles a package that has it, without a script of its own."""
_ALIAS = "npm:"


class Tarballs:
    """The tarballs of installed packages."""

    def __init__(self, caches: NpmCaches) -> None:
        self._caches = caches
        self._room = Room(_MAX_UNPACKED_BYTES)
        self._locks: dict[Path, dict[str, Any]] = {}
        self._left_packages = _MAX_PACKAGES

    def of(self, package: Package) -> Known:
        """Return a package's tarball, or why there is none. Raises nothing for what it finds."""
        self._left_packages -= 1
        if self._left_packages < 0:
            return Known(package.name, package.version, None, "there are too many packages")
        noted = noted_integrity(package, self._locks)
        told = self._caches.integrities(package.name, package.version)
        digests = set(told) if noted is None else {noted, *told}
        if len(digests) != 1:
            why = "npm's files name different tarballs of it" if digests else "npm noted no integrity of it"
            return Known(package.name, package.version, None, why, contradicted=bool(digests))
        try:
            return self._read(package, *digests)
        except (OSError, tarfile.TarError, EOFError, ValueError) as error:
            why = f"its tarball can't be read ({type(error).__name__})"
            return Known(package.name, package.version, None, why)

    def _read(self, package: Package, digest: bytes) -> Known:
        file = self._caches.open_tarball(digest)
        if file is None:
            return Known(package.name, package.version, None, "its tarball is not in npm's cache")
        with file:
            if digest_of_file(file) != digest:
                why = "the tarball in npm's cache is not the one that npm noted"
                return Known(package.name, package.version, None, why, contradicted=True)
            return _known(package, read_tarball(file, self._room))


def compare_bundle(bundle: Bundle, caches: NpmCaches) -> Comparison:
    """Compare a whole bundle, as it lies there now, with the tarballs of its packages.

    Raises:
        IntegrityError: it is not what was enrolled or shown.
        MisuseError, OSError: it can't be read.
    """
    tree = scan_tree(bundle.root, Bounds())
    hashes = hash_files(bundle.root, tree, {})
    if digest_of(tree, hashes) != bundle.digest:
        raise IntegrityError(f"{bundle.root} changed while it was looked at", next_step="try again")
    root = Path(bundle.root)
    is_package = root.name != MODULES
    above = b"" if is_package else MODULES.encode() + b"/"
    found = {
        above + path: Found(entry.mode, hashes.get(entry, b""), entry.target)
        for path, entry in tree.entries.items()
        if not stat.S_ISDIR(entry.mode)
    }
    base, tarballs = (root if is_package else root.parent), Tarballs(caches)

    def lookup(folder: bytes) -> Known:
        package = read_package(base / os.fsdecode(folder))
        if package is None:
            return Known("", folder_name(folder), None, "its package.json says no name and version")
        return tarballs.of(package)

    return compare(found, lookup, is_package=is_package)


def _known(package: Package, packed: Packed) -> Known:
    """Return a package's tarball with what its manifest in it says."""
    manifest = json_object(packed.manifest)
    asked = [(key, each) for key in _ASKING for each in _names(manifest.get(key))]
    scripts = manifest.get("scripts")
    return Known(
        package.name,
        package.version,
        packed,
        depends=frozenset(name for _, name in asked),
        aliases=frozenset(_aliases(manifest)),
        has_script=_GYP in packed.files or (isinstance(scripts, dict) and any(name in scripts for name in _SCRIPTS)),
    )


def _aliases(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is asked for as ``"NAME": "npm:PACKAGE@RANGE"``."""
    found = []
    for key in _ASKING:
        wanted = manifest.get(key)
        for name, text in wanted.items() if isinstance(wanted, dict) else ():
            if isinstance(text, str) and text.startswith(_ALIAS):
                package = text.removeprefix(_ALIAS)
                at = package.rfind("@")
                found.append((name, package[:at] if at > 0 else package))
    return found


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, dict | list) else []
