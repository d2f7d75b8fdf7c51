"""What a program is made of, whether it is a native executable or a script: what must be enrolled for it.

A script is its interpreter (as its first line and the PATH name it), itself, and its package: the folder whose files
it loads. The package is the npm package, the Python environment, or, where neither is there, the script alone.
"""

import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from agent_broker.enroll.beneath import open_regular
from agent_broker.enroll.binaries import FoundBinary, Progress, examine, find_binaries, may_replace
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.roles import Interpreter, interpreter_of, rule_for
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.identity.bundle import digest_of, hash_files
from agent_broker.identity.registry import Bundle, EnrolledScript, Outside, RoleRule
from agent_broker.identity.surroundings import present_places
from agent_broker.identity.tree import Bounds, Tree, open_below, path_in, scan_tree
from agent_broker.identity.wanted import lookup_folders, places_of, wanted_modules
from agent_broker.ids import Sha256

_FIRST_LINE_BYTES = 256  # BINPRM_BUF_SIZE, linux/binfmts.h
_MAX_MANIFEST_BYTES = 1024 * 1024
_MAX_SETTINGS_BYTES = 64 * 1024
_VERSIONED_PYTHON = re.compile(r"python[0-9]+\.[0-9]+")
_SITE = "site-packages"
"""``site.USER_SITE`` is ``~/.local/lib/pythonX.Y/site-packages``; what lies there runs at each start without ``-I``."""


@dataclass(frozen=True)
class Program:
    """A program as it can be enrolled."""

    found: FoundBinary
    """Of a script: its interpreter, with the script and its bundle."""
    role: RoleRule | None = None
    """For a script that no recipe knows."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shebang:
    """The first line of a script."""

    interpreter: str
    arguments: tuple[str, ...]


def find_program(
    path: Path, owner: Owner, search_path: Iterable[Path] = (), progress: Progress | None = None
) -> Program:
    """Examine a native executable or a script; hash all of it.

    Args:
        path: as the user starts it; links are followed.
        owner: whose agent it is.
        search_path: the PATH that the agent is started with, for ``#!/usr/bin/env NAME``.
        progress: told how far the hash is.

    Raises:
        MisuseError: it can't be enrolled: no interpreter that is known, no package, special files, too large.
        IntegrityError: it changed while it was hashed, or somebody has it open for writing.
    """
    place = os.path.realpath(path)
    shebang = _shebang_of(place)
    if shebang is None:
        return Program(examine(path, owner, progress))
    interpreter = _resolve(shebang, tuple(search_path), place)
    found = examine(interpreter, owner, progress)
    kind = interpreter_of(Path(found.enrolled.path).name)
    if kind is None:
        raise MisuseError(f"{place} is run by {found.enrolled.path}, which is not a known interpreter")
    if found.writable_by_owner and kind.has_library:
        raise MisuseError(
            f"{found.enrolled.path} can be replaced by the user, and so can the library that it loads",
            next_step="use the system's interpreter",
        )
    outside = _user_modules(kind, shebang, found.enrolled.path, interpreter, owner)
    if outside is None:
        _require_options(kind, shebang, place, interpreter)
    root = _package_of(place, kind, interpreter)
    script, tree = _enrolled_script(place, root, progress)
    warnings: tuple[str, ...] = ()
    if outside is not None:
        script = msgspec.structs.replace(script, bundle=msgspec.structs.replace(script.bundle, outside=outside))
    if kind.runtime == "node":
        script, warnings = _with_outside(script, tree, owner, found.enrolled.path)
    name = str(path.absolute())
    launchers = (name,) if name != place else ()
    enrolled = msgspec.structs.replace(found.enrolled, script=script, launchers=launchers)
    replaceable = found.writable_by_owner or may_replace(Path(script.path), owner)
    isolated = outside is not None or is_isolated(interpreter)
    role = rule_for(kind, _argv0(kind, interpreter), isolated=isolated)
    return Program(replace(found, enrolled=enrolled, writable_by_owner=replaceable, role=role), role, warnings)


def is_script(path: Path) -> bool:
    """Return whether an interpreter runs a program; links are followed.

    Raises:
        MisuseError: it can't be read.
    """
    return _shebang_of(os.path.realpath(path)) is not None


def find_programs(
    given: Iterable[Path],
    candidates: Iterable[Path],
    owner: Owner,
    search_path: Iterable[Path] = (),
    progress: Progress | None = None,
) -> tuple[tuple[FoundBinary, ...], tuple[str, ...], tuple[str, ...]]:
    """Find an agent that a script may be: as ``binaries.find_binaries``, with scripts as ``find_program`` sees them.

    Returns:
        The programs to enroll, hashed; the paths of others that were found and are not enrolled; warnings.

    Raises:
        MisuseError: something given is no program, or nothing was found, or only what can't be enrolled.
        IntegrityError: it changed while it was hashed.
    """
    named, folders = tuple(given), tuple(search_path)
    if not named:
        there = {os.path.realpath(each): each for each in reversed(tuple(candidates)) if _is_program(each)}
        if not there:
            return (*find_binaries((), (), owner), ())
        first, *others = reversed(there)
        named = (there[first],)
    else:
        others = []
    # a version manager links an agent beside the interpreter that it was installed with
    programs = [find_program(each, owner, (each.parent, *folders), progress) for each in named]
    warnings = tuple(warning for each in programs for warning in each.warnings)
    return tuple(each.found for each in programs), tuple(others), warnings


def _is_program(path: Path) -> bool:
    """Tell whether a path leads to a file that could be started; what it is, is looked at when it is enrolled."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False


def _enrolled_script(place: str, root: str, progress: Progress | None) -> tuple[EnrolledScript, Tree]:
    try:
        tree = scan_tree(root, Bounds())
        if tree.written:
            written = os.fsdecode(tree.written[0]) or root
            raise IntegrityError(f"a program has {written} open for writing", next_step="end it, then try again")
        hashes = hash_files(
            root, tree, {}, None if progress is None else lambda done, total: progress(root, done, total)
        )
    except OSError as error:
        raise MisuseError(f"{root} can't be read: {error.strerror}", next_step="check the disk") from error
    sha256 = Sha256(hashes[tree.entries[path_in(root, place)]].hex())
    bundle = Bundle(root, digest_of(tree, hashes), tree.files, tree.size_bytes)
    return EnrolledScript(place, sha256, bundle), tree


def _with_outside(
    script: EnrolledScript, tree: Tree, owner: Owner, interpreter: str
) -> tuple[EnrolledScript, tuple[str, ...]]:
    """Say which modules the package lacks, and warn of those that lie above it already and the user can change."""
    root = script.bundle.root
    try:
        wanted = wanted_modules(tree, lambda path: _content(root, path))
    except OSError as error:
        raise MisuseError(f"{root} can't be read: {error.strerror}", next_step="check the disk") from error
    folders = lookup_folders(root, owner.home, interpreter)
    there = {name: present_places(places_of(folders, (name,))) for name in wanted}
    outside = Outside(tuple(name for name in wanted if not there[name]), folders, owner.home)
    bundle = msgspec.structs.replace(script.bundle, outside=outside)
    warnings = [
        f"{place} can be changed by the user, and the agent loads it if it asks for {name}; install the agent as root"
        " (sudo npm install --global) to close this"
        for name, places in there.items()
        for place in sorted(places)
        if may_replace(Path(place), owner)
    ]
    return msgspec.structs.replace(script, bundle=bundle), tuple(warnings)


def _content(root: str, path: bytes) -> bytes:
    with os.fdopen(open_below(root, path), "rb") as file:
        return file.read()


def _shebang_of(place: str) -> _Shebang | None:
    """Return what the kernel reads in a script's first line; None: it is no script."""
    try:
        head = _start_of(Path(place), _FIRST_LINE_BYTES)
    except OSError as error:
        raise MisuseError(f"{place} can't be opened: {error.strerror}", next_step="name it with --binary") from error
    if not head.startswith(b"#!"):
        return None
    line = os.fsdecode(head[2:].split(b"\n", 1)[0]).strip(" \t")
    interpreter, _, rest = line.partition(" ")
    if not interpreter.startswith("/"):
        raise MisuseError(f"the first line of {place} names no interpreter by its full path")
    return _Shebang(interpreter, (rest.strip(),) if rest.strip() else ())


def _resolve(shebang: _Shebang, search_path: tuple[Path, ...], place: str) -> Path:
    """Return the interpreter; ``env`` is followed through the PATH."""
    if Path(shebang.interpreter).name != "env":
        return Path(shebang.interpreter)
    words = shebang.arguments[0].split() if shebang.arguments else []
    if words[:1] in (["-S"], ["--split-string"]):
        del words[0]
    elif len(words) > 1 or any(word.startswith("-") for word in words):
        raise MisuseError(f"the first line of {place} gives env options that are not understood")
    if not words or words[0].startswith("-") or "=" in words[0]:
        raise MisuseError(f"the first line of {place} gives env no program, options or variables")
    for folder in search_path:
        if os.access(folder / words[0], os.X_OK):
            return folder / words[0]
    raise MisuseError(f"{words[0]}, which runs {place}, is not in the PATH", next_step="set PATH as the agent has it")


def _options_of(shebang: _Shebang) -> tuple[str, ...]:
    """Return the options that the interpreter is given by the script's first line."""
    if Path(shebang.interpreter).name != "env":
        return shebang.arguments
    words = shebang.arguments[0].split() if shebang.arguments else []
    return tuple(word for word in words[1:] if word.startswith("-"))


def _require_options(kind: Interpreter, shebang: _Shebang, place: str, interpreter: Path) -> None:
    if kind.runtime == "python" and str(interpreter) != shebang.interpreter:
        raise MisuseError(
            f"{place} lets the PATH decide which Python environment it runs in",
            next_step=f"let its first line name it in full: #!{interpreter}",
        )
    if kind.required and not is_isolated(interpreter) and not _options_of(shebang):
        raise MisuseError(
            f"{place} can't be told from the user's own code: {kind.why_required}",
            next_step=f"let its first line be: #!{interpreter} {kind.example}",
        )


def _user_modules(
    kind: Interpreter, shebang: _Shebang, program: str, interpreter: Path, owner: Owner
) -> Outside | None:
    """Return where a Python that is not told otherwise takes the user's own modules from, if there are none.

    None: it needs no such look, or the user has modules there. While it is enrolled there may be none (site(1)).
    """
    version = _VERSIONED_PYTHON.fullmatch(Path(program).name)
    plain = kind.runtime == "python" and str(interpreter) == shebang.interpreter and not _options_of(shebang)
    if not plain or version is None or is_isolated(interpreter):
        return None
    folder = f"{owner.home.rstrip('/')}/.local/lib/{version[0]}"
    if os.path.lexists(f"{folder}/{_SITE}"):
        return None
    return Outside((_SITE,), (folder,), owner.home)


def is_isolated(interpreter: Path) -> bool:
    """Tell whether a Python is a virtual environment's that has neither the user's nor the system's site-packages."""
    try:
        settings = _start_of(interpreter.parent.parent / "pyvenv.cfg", _MAX_SETTINGS_BYTES)
    except OSError:
        return False
    return b"include-system-site-packages = false" in settings.lower()


def _argv0(kind: Interpreter, interpreter: Path) -> tuple[str, ...]:
    """Return the names under which it may be started: Python finds its environment by the whole name."""
    if kind.runtime == "python":
        return (str(interpreter),)
    return tuple(dict.fromkeys((interpreter.name, Path(os.path.realpath(interpreter)).name)))


def _package_of(place: str, kind: Interpreter, interpreter: Path) -> str:
    """Return the folder of the script's package; the script itself if it has none."""
    if kind.runtime == "node":
        return npm_package(Path(place))
    if kind.runtime == "python" and is_isolated(interpreter):
        return os.path.realpath(interpreter.parent.parent)
    return place


def npm_package(script: Path) -> str:
    """Return the package's folder, or, if npm put what it needs beside it, the folder that holds them all.

    Raises:
        MisuseError: there is none.
    """
    for folder in script.parents:
        modules = next((each for each in folder.parents if each.name == "node_modules"), None)
        manifest = _manifest(folder)
        if "name" not in manifest or (modules is not None and str(folder.relative_to(modules)) != manifest["name"]):
            continue
        needed = [name for key in ("dependencies", "optionalDependencies") for name in _names(manifest.get(key))]
        if modules is not None and any(_is_beside(folder, modules, name) for name in needed):
            return str(modules)
        return str(folder)
    raise MisuseError(f"no npm package is around {script}", next_step="install it with npm")


def _is_beside(folder: Path, modules: Path, name: str) -> bool:
    return (modules / name).is_dir() and not (folder / "node_modules" / name).is_dir()


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, dict) else []


def _manifest(folder: Path) -> dict[str, object]:
    """Return a folder's package.json; empty if it has none."""
    try:
        value = json.loads(_start_of(folder / "package.json", _MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _start_of(path: Path, most_bytes: int) -> bytes:
    """Return how a file begins that the user may have put there: links to its folder are followed, none of its own.

    Raises:
        OSError: it can't be read, or is no regular file.
    """
    with os.fdopen(open_regular(f"{os.path.realpath(path.parent)}/{path.name}"), "rb") as file:
        return file.read(most_bytes)
