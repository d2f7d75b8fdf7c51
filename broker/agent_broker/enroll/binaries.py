"""Find the agent's executable, make sure that it is one, and hash it.

The kernel will compare what runs with this hash, so what is enrolled is exactly the open file that was hashed: found
by a path, opened without links, a regular ELF file for this machine, unchanged from the first byte to the last.
"""

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_broker.enroll.beneath import open_regular
from agent_broker.enroll.file_facts import state_of
from agent_broker.enroll.file_state import FileState
from agent_broker.enroll.owner import Owner
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.registry import EnrolledBinary, RoleRule
from agent_broker.ids import Uid

_ELF_HEAD = struct.Struct("<4sBB10xHH")  # e_ident (magic, class, data), e_type, e_machine: elf(5)
_ELF_MAGIC = b"\x7fELF"
_CLASS_64, _LITTLE_ENDIAN = 2, 1
_EXECUTABLE_TYPES = (2, 3)  # ET_EXEC, ET_DYN (position independent)
_NAME_IT = "name the executable itself with --binary"
_MAX_WORDS = 16  # of a command line, before its script
_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64

Progress = Callable[[str, int, int], None]
"""Called with the path, the bytes hashed and the bytes in all."""


@dataclass(frozen=True)
class FoundBinary:
    """An executable to enroll."""

    enrolled: EnrolledBinary
    state: FileState
    writable_by_owner: bool
    """Whether the user could replace it: then an agent's update is not enrolled, and neither is an attacker's."""
    role: RoleRule | None = None
    """Of a script: how its interpreter must be started."""


def find_binaries(
    given: Iterable[Path], candidates: Iterable[Path], owner: Owner, progress: Progress | None = None
) -> tuple[tuple[FoundBinary, ...], tuple[str, ...]]:
    """Return the executables to enroll, hashed, and the paths of others that were found and are not enrolled.

    Args:
        given: what the operator named; if anything, all of it is enrolled and nothing else is looked for.
        candidates: where it may be, likeliest first; the first executable is enrolled.
        owner: whose agent it is.
        progress: told how far the hash is.

    Raises:
        MisuseError: something given is not an executable, or nothing was found.
        IntegrityError: it changed while it was hashed.
    """
    named = tuple(given)
    if named:
        return tuple(examine(path, owner, progress) for path in named), ()
    found: dict[str, Path] = {}
    for candidate in candidates:
        try:
            os.close(_open_executable(candidate)[1])
        except (MisuseError, OSError):
            continue
        found.setdefault(os.path.realpath(candidate), candidate)
    if not found:
        raise MisuseError("the agent's executable was not found", next_step="name it with --binary PATH")
    first, *others = found
    return (examine(found[first], owner, progress),), tuple(others)


def examine(path: Path, owner: Owner, progress: Progress | None = None) -> FoundBinary:
    """Check and hash one executable.

    Raises:
        MisuseError: it is not an executable of this machine.
        IntegrityError: it changed while it was hashed.
    """
    place, fd = _open_executable(path)
    try:
        state = state_of(fd)
        sha256 = hash_open_file(fd, None if progress is None else lambda done, total: progress(place, done, total))
        writable = _writable(place, state, owner)
    except IntegrityError as error:
        raise IntegrityError(f"{place}: {error.message}", next_step=error.next_step) from error
    except OSError as error:
        raise MisuseError(f"{place} can't be read: {error.strerror}", next_step="check the disk") from error
    finally:
        os.close(fd)
    name = str(path.absolute())
    enrolled = EnrolledBinary(place, sha256, state.size_bytes, launchers=(name,) if name != place else ())
    return FoundBinary(enrolled, state, writable)


def unchanged(binary: FoundBinary) -> bool:
    """Say whether the path still leads to the file that was hashed, unwritten since."""
    try:
        _, fd = _open_executable(Path(binary.enrolled.path))
    except (MisuseError, OSError):
        return False
    try:
        return state_of(fd).same_version(binary.state)
    finally:
        os.close(fd)


def running_pids(binaries: Iterable[FoundBinary], uid: Uid) -> tuple[int, ...]:
    """Return which processes of a user run one of the executables now, by /proc: to tell a person, not to decide."""
    enrolled = {(binary.state.dev, binary.state.ino): binary.enrolled for binary in binaries}
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                facts = (entry / "exe").stat()
                owner = entry.stat().st_uid
                found = enrolled.get((facts.st_dev, facts.st_ino))
                if owner == uid and found is not None and _runs(entry, found):
                    pids.append(int(entry.name))
            except OSError:  # a kernel thread, or gone
                continue
    return tuple(sorted(pids))


def _runs(process: Path, program: EnrolledBinary) -> bool:
    """Say whether an executable runs as the program: an interpreter runs other scripts as well."""
    if program.script is None:
        return True
    folder = (process / "cwd").readlink()
    words = (process / "cmdline").read_bytes().split(b"\0")[1:_MAX_WORDS]
    return any(os.path.realpath(folder / os.fsdecode(word)) == program.script.path for word in words if word)


def _open_executable(path: Path) -> tuple[str, int]:
    """Return the resolved path and an open descriptor of an executable."""
    place = os.path.realpath(path)
    try:
        fd = open_regular(place)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise MisuseError(f"{place} is not a regular file", next_step=_NAME_IT) from error
        raise MisuseError(f"{path} can't be opened: {error.strerror}", next_step="name it with --binary") from error
    try:
        _require_executable(place, fd)
    except BaseException:
        os.close(fd)
        raise
    return place, fd


def _require_executable(place: str, fd: int) -> None:
    facts = os.fstat(fd)
    head = os.pread(fd, _ELF_HEAD.size, 0)
    if head.startswith(b"#!"):
        raise MisuseError(
            f"{place} is a script, not a native executable", next_step="install the agent's native version"
        )
    if len(head) < _ELF_HEAD.size or not head.startswith(_ELF_MAGIC):
        raise MisuseError(f"{place} is not an ELF executable", next_step=_NAME_IT)
    _, bits, order, kind, machine = _ELF_HEAD.unpack(head)
    if (bits, order) != (_CLASS_64, _LITTLE_ENDIAN) or kind not in _EXECUTABLE_TYPES:
        raise MisuseError(f"{place} is not a 64-bit ELF executable", next_step="name the executable with --binary")
    if machine != _MACHINES.get(os.uname().machine):
        raise MisuseError(f"{place} is built for another kind of machine", next_step="install the one for this machine")
    if not facts.st_mode & 0o111 or os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
        raise MisuseError(f"{place} is not executable", next_step=f"chmod +x {place}, or mount without noexec")


def _writable(place: str, state: FileState, owner: Owner) -> bool:
    """Say whether the user could write the file, or put another one in its place, at any level of its path."""
    return _may_write(state.mode, state.uid, state.gid, owner) or may_replace(Path(place), owner)


def may_replace(place: Path, owner: Owner) -> bool:
    """Say whether the user could put another file in a place, at any level of its path."""
    for folder in place.parents:
        facts = folder.stat()
        sticky = facts.st_mode & stat.S_ISVTX and facts.st_uid != owner.uid
        if not sticky and _may_write(facts.st_mode, facts.st_uid, facts.st_gid, owner):
            return True
    return False


def _may_write(mode: int, uid: int, gid: int, owner: Owner) -> bool:
    if uid == owner.uid:
        return True
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and gid in owner.groups))
