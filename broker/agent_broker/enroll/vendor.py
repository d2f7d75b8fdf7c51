"""What the vendor's own files beside a program say of it: its version, and whether they agree with its bytes.

Of an executable: whether the file is the one in its npm package's tarball. Of a script: whether every file and link of
its whole package, which its enrolled digest covers, is as in the tarballs (``npm_tree``). Claude's native installer: a
file in ``versions`` is named after its version. A Python environment is not compared: what its wheels list (RECORD) is
written anew by every installation, and is no word of the vendor's.

Most of it lies in folders that the user can write: it shows that things fit together, and proves nothing. A mismatch
is a reason to say no; an agreement is none to say yes.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from agent_broker.enroll.npm_cache import NpmCaches
from agent_broker.enroll.npm_evidence import Tarballs, compare_bundle
from agent_broker.enroll.npm_package import MODULES, Package, is_version, package_of, read_package
from agent_broker.enroll.npm_tree import Comparison
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.registry import EnrolledScript
from agent_broker.ids import Sha256

AGREES, DISAGREES, NONE = "agrees", "disagrees", "none"
_NAMED = 3
"""Packages that a sentence names; of the rest it says how many."""


class Vendor(Struct, frozen=True):
    """What was found."""

    version: str
    """Empty: nothing says."""
    evidence: str
    """AGREES, DISAGREES or NONE."""
    what: str
    """A sentence: what was compared with what."""
    comparison: Comparison | None = None
    """File by file, of a script's package."""


def version_of(path: Path) -> str:
    """Return the version that the vendor's files say of an executable or script; empty if they say none."""
    package = package_of(path)
    if package is not None:
        return package.version
    return path.name if _is_version_folder(path) else ""


def vendor_of(path: Path, sha256: Sha256, caches: tuple[Path, ...]) -> Vendor:
    """Compare an executable's hash with what its vendor's files say. Raises nothing for what it finds.

    Args:
        path: of the executable, resolved.
        sha256: of its bytes, taken by the caller.
        caches: npm's cache folders, ``~/.npm/_cacache``.
    """
    version = version_of(path)
    package = package_of(path)
    if package is None and version:
        return Vendor(version, NONE, "the native installer names the file after its version, and leaves nothing else")
    if package is None:
        return Vendor(version, NONE, "no evidence: no vendor's file lies beside it")
    try:
        evidence, what = _of_executable(path, package, sha256, Tarballs(NpmCaches(caches)))
    except (OSError, ValueError) as error:
        evidence, what = NONE, f"no evidence: npm's files can't be read ({type(error).__name__})"
    return Vendor(version, evidence, what)


def vendor_of_script(script: EnrolledScript, caches: tuple[Path, ...]) -> Vendor:
    """Compare a script's whole package with what its vendor's files say. Raises nothing for what it finds.

    Args:
        script: as it is shown, with its package's digest.
        caches: npm's cache folders, ``~/.npm/_cacache``.
    """
    version = version_of(Path(script.path))
    if package_of(Path(script.path)) is None and read_package(Path(script.bundle.root)) is None:
        return Vendor(version, NONE, "no evidence: it is no npm package, and no other vendor's files are compared")
    try:
        found = compare_bundle(script.bundle, NpmCaches(caches))
    except (AgentBrokerError, OSError, ValueError) as error:
        said = error.message if isinstance(error, AgentBrokerError) else type(error).__name__
        return Vendor(version, NONE, f"no evidence: the package can't be compared ({said})")
    return Vendor(version, *_verdict(found), found)


def deviations(found: Comparison) -> tuple[tuple[str, list[bytes]], ...]:
    """Return what is not as the vendor made it, or not known to be: in words, and the paths, worst first."""
    kinds = (
        ("differing", found.differing),
        ("missing", found.missing),
        ("in no tarball", found.extra),
        ("packages that no other asks for, or other ones than their folders say", found.strangers),
        ("in no tarball, and perhaps made by a script that ran at installation", found.scripted),
        ("not compared", found.not_compared),
    )
    return tuple((kind, paths) for kind, paths in kinds if paths)


def _verdict(found: Comparison) -> tuple[str, str]:
    if not found.compared and not found.contradicted:
        why = next(iter(found.without.values()), "there is no package in it")
        return NONE, f"no evidence: none of {found.files} files was compared: {why}"
    told = [f"{found.same} of {found.files} files are those in the tarballs that npm noted"]
    if found.compared:
        told.append(f"packages: {_several(found.compared)}")
    told += [f"{kind}: {len(paths)}" for kind, paths in deviations(found)]
    told += [f"{package}: {why}" for package, why in list(found.without.items())[:_NAMED]]
    if found.made_by_npm:
        told.append(f"made by npm itself: {len(found.made_by_npm)}")
    whole = not found.not_compared and not found.scripted
    evidence = DISAGREES if found.differs else AGREES if whole else NONE
    return evidence, "; ".join([*told, *found.contradicted[:_NAMED]])


def _several(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _of_executable(path: Path, package: Package, sha256: Sha256, tarballs: Tarballs) -> tuple[str, str]:
    reason = "no evidence"
    for holder, inside in _holders(path, package):
        known = tarballs.of(holder)
        if known.contradicted:
            return DISAGREES, f"{known.title}: {known.why}"
        packed = None if known.packed is None else known.packed.files.get(os.fsencode(inside))
        if known.packed is None:
            reason = f"no evidence: {known.title}: {known.why}"
        elif packed is None:
            reason = f"no evidence: the file is not in the tarball of {known.title}"
        elif packed.hex() == sha256:
            return AGREES, f"the file is the one in the tarball of {known.title} that npm noted"
        else:
            return DISAGREES, f"the file is not the one in the tarball of {known.title} that npm noted"
    return NONE, reason


def _holders(path: Path, package: Package) -> Iterator[tuple[Package, str]]:
    """Yield the packages that may have brought the file, platform packages first: their file is hard-linked."""
    facts = path.stat()
    for scope in (package.root.parent, package.root / MODULES / package.root.parent.name):
        for folder in sorted(scope.glob(f"{package.root.name}-*")):
            other = read_package(folder)
            for entry in sorted(folder.iterdir()) if other is not None else ():
                seen = entry.lstat()
                if other is not None and (seen.st_dev, seen.st_ino) == (facts.st_dev, facts.st_ino):
                    yield other, entry.name
    yield package, str(path.relative_to(package.root))


def _is_version_folder(path: Path) -> bool:
    return path.parent.name == "versions" and is_version(path.name)
