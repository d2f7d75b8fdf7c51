"""A package's whole tree beside the tarballs that it should have come from: which file is in them, and which is not.

Pure: it is given what lies there and what was packed. Every file and link that the enrolled digest covers gets one
answer. A file belongs to the innermost package around it, unless an outer one's tarball brings that package with it
(``bundleDependencies``). What npm makes itself is told as such: the links in ``node_modules/.bin`` that lead to a file
of the tree, and ``node_modules/.package-lock.json``.

Not compared: permissions, which npm sets by itself, except set-user-ID and its like, which it never sets; and folders.
"""

import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct, field

from agent_broker.enroll.npm_package import MODULES
from agent_broker.enroll.npm_tarball import Packed

_MANIFEST = b"package.json"
_MODULES = MODULES.encode()
_LOCK = b".package-lock.json"
_BIN = b".bin"
_SPECIAL = 0o7000  # setuid, setgid, sticky


class Found(Struct, frozen=True):
    """A file or link of the tree."""

    mode: int
    sha256: bytes = b""
    target: bytes = b""
    """Of a link."""


class Known(Struct, frozen=True):
    """A package's tarball, or why there is none to compare with."""

    name: str
    """As its own package.json says."""
    version: str
    packed: Packed | None
    why: str = ""
    contradicted: bool = False
    """There is none because npm's own files disagree."""
    depends: frozenset[str] = frozenset()
    """The packages that its manifest asks for, by the names of their folders."""
    aliases: frozenset[tuple[str, str]] = frozenset()
    """(folder, package): what it asks for under another name."""
    has_script: bool = False
    """It runs a program when it is installed, which may make or change files."""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}".strip()


Lookup = Callable[[bytes], Known]
"""Path of a package's folder below the root -> its tarball."""


class Comparison(Struct):
    """What became of each file. Paths are below the root."""

    files: int
    compared: list[str] = field(default_factory=list)
    """Packages whose tarball was there, ``NAME VERSION``; the root's first."""
    same: int = 0
    differing: list[bytes] = field(default_factory=list)
    missing: list[bytes] = field(default_factory=list)
    extra: list[bytes] = field(default_factory=list)
    """In no tarball."""
    scripted: list[bytes] = field(default_factory=list)
    """In no tarball either, of a package whose install script may have made them."""
    made_by_npm: list[bytes] = field(default_factory=list)
    not_compared: list[bytes] = field(default_factory=list)
    """Of packages without a tarball."""
    without: dict[str, str] = field(default_factory=dict)
    """Those packages, and why."""
    contradicted: list[str] = field(default_factory=list)
    """Of these packages npm's files name two tarballs, or the tarball is not the noted one."""
    strangers: list[bytes] = field(default_factory=list)
    """Folders of packages that no other one asks for, or not in this place."""

    @property
    def differs(self) -> bool:
        """Whether anything is not as its vendor made it."""
        return bool(self.differing or self.missing or self.extra or self.contradicted or self.strangers)


def compare(tree: Mapping[bytes, Found], lookup: Lookup, *, is_package: bool) -> Comparison:
    """Compare every file and link of a tree.

    Args:
        tree: files and links by path, without folders.
        lookup: asked once for each package that no other one brings with it.
        is_package: whether the root is a package's folder; else packages lie below its ``node_modules``.
    """
    known = _known(tree, lookup, is_package=is_package)
    found = Comparison(files=len(tree))
    for root, each in known.items():
        if each.packed is not None:
            found.compared.append(each.title)
            found.missing += [path for path in (_join(root, name) for name in each.packed.files) if path not in tree]
        elif each.contradicted:
            found.contradicted.append(f"{each.title}: {each.why}")
        else:
            found.without[each.title] = each.why
    for path, file in tree.items():
        _judge(path, file, known, tree, found)
    found.strangers = list(_strangers(known, is_package=is_package))
    return found


def packages_in(paths: Iterable[bytes], *, is_package: bool) -> list[bytes]:
    """Return the folders of the packages in a tree, outer ones first."""
    roots = {b""} if is_package else set()
    for path in paths:
        folder, _, name = path.rpartition(b"/")
        if name == _MANIFEST and _is_package_folder(folder):
            roots.add(folder)
    return sorted(roots, key=lambda root: (len(root), root))


def folder_name(root: bytes) -> str:
    """Return ``@scope/name`` or ``name``: what the folder of a package says that it is."""
    parts = root.split(b"/")
    kept = parts[-2:] if len(parts) > 1 and parts[-2].startswith(b"@") else parts[-1:]
    return b"/".join(kept).decode("utf-8", "backslashreplace")


def _strangers(known: Mapping[bytes, Known], *, is_package: bool) -> Iterator[bytes]:
    """Yield what nobody asks for; of a ``node_modules`` it is not known who asks from outside."""
    asked: frozenset[str] = frozenset().union(*(each.depends for each in known.values()))
    aliases: frozenset[tuple[str, str]] = frozenset().union(*(each.aliases for each in known.values()))
    for root, each in known.items():
        name = folder_name(root)
        is_other = bool(each.name) and name != each.name and (name, each.name) not in aliases
        if root and (is_other or (is_package and name not in asked)):
            yield root


def _known(tree: Mapping[bytes, Found], lookup: Lookup, *, is_package: bool) -> dict[bytes, Known]:
    known: dict[bytes, Known] = {}
    for root in packages_in(tree, is_package=is_package):
        outer = _owner_of(root, known)
        packed = None if outer is None else known[outer].packed
        if packed is None or outer is None or not _brings(packed, _below(outer, root)):
            known[root] = lookup(root)
    return known


def _brings(packed: Packed, folder: bytes) -> bool:
    return any(path.startswith(folder + b"/") for path in packed.files)


def _judge(
    path: bytes, file: Found, known: Mapping[bytes, Known], tree: Mapping[bytes, Found], found: Comparison
) -> None:
    owner = _owner_of(path, known)
    package = None if owner is None else known[owner]
    packed = None if package is None or owner is None or package.packed is None else package.packed
    digest = None if packed is None or owner is None else packed.files.get(_below(owner, path))
    if digest is not None:
        same = stat.S_ISREG(file.mode) and file.sha256 == digest and not file.mode & _SPECIAL
        found.same += same
        found.differing += [] if same else [path]
    elif _is_npms(path, file, tree):
        found.made_by_npm.append(path)
    elif package is not None and packed is None:
        found.not_compared.append(path)
    elif package is not None and package.has_script and not file.mode & _SPECIAL:
        found.scripted.append(path)
    else:
        found.extra.append(path)


def _is_npms(path: bytes, file: Found, tree: Mapping[bytes, Found]) -> bool:
    folder, _, name = path.rpartition(b"/")
    if stat.S_ISREG(file.mode):
        return name == _LOCK and folder.rpartition(b"/")[2] == _MODULES and not file.mode & _SPECIAL
    parent, _, last = folder.rpartition(b"/")
    is_bin = last == _BIN and parent.rpartition(b"/")[2] == _MODULES
    return is_bin and posixpath.normpath(folder + b"/" + file.target) in tree


def _owner_of(path: bytes, known: Mapping[bytes, object]) -> bytes | None:
    """Return the innermost known package's folder around a path; None: there is none."""
    folder = path
    while folder:
        folder = folder.rpartition(b"/")[0]
        if folder in known:
            return folder
    return None


def _is_package_folder(folder: bytes) -> bool:
    parts = folder.split(b"/")
    if len(parts) > 1 and parts[-2].startswith(b"@"):
        del parts[-2]
    return len(parts) > 1 and parts[-2] == _MODULES and not parts[-1].startswith(b".")


def _join(root: bytes, path: bytes) -> bytes:
    return root + b"/" + path if root else path


def _below(root: bytes, path: bytes) -> bytes:
    return path[len(root) + 1 :] if root else path
