"""What a command is, before it is given a secret: a file that only root could have written, told by package or by hash.

The law:
1. The path is without links, the file is root's, nobody else may write it or any folder on its way.
2. It is an intact file of a package of the distribution, or it has the hash that root named.
3. Of a script, its interpreter is looked at in the same way, and is executed itself, by its full path: neither ``env``
   nor the PATH has a say. It is told to leave the user's own modules alone where it would load them unasked.
4. The answer has the file's numbers. Whoever executes it must execute the file with these numbers, and no other.

What it can't tell: what a genuine program does with what it is given; a shell and its like run whatever they are told.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from agent_broker.errors import RefusedError
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.executable import hash_open_file
from agent_broker.kernel.events import FileFacts

_FIRST_LINE_BYTES: Final = 256  # BINPRM_BUF_SIZE, linux/binfmts.h
_FOLDERS: Final = ("/usr/local/bin", "/usr/bin", "/bin")
"""Where an interpreter is looked for that a script names by ``env``."""
_INTERPRETERS: Final = (
    (re.compile(r"python3?(\.\d+)?"), ("-sE",)),  # neither the user's site-packages nor PYTHON* (python(1))
    (re.compile(r"node|nodejs"), ()),
    (re.compile(r"sh|dash|bash"), ()),
    (re.compile(r"perl[\d.]*"), ()),
)
"""Which run scripts here, and what they are told first."""


class Command(Struct, frozen=True):
    """What is to be executed."""

    path: str
    """Of the program, or of the interpreter of a script."""
    numbers: str
    """``MAJOR MINOR INODE SIZE SECONDS NANOSECONDS`` of that file; the last two of its entry's last change."""
    words: tuple[str, ...]
    """Its first arguments, its own name the first of all."""


class _Seen(Struct, frozen=True):
    numbers: str
    head: bytes


def command_of(path: str, named: Mapping[str, str], packages: Distribution) -> Command:
    """Look at a program. May take as long as it takes to hash it: not for an event loop.

    Args:
        path: of the program, absolute.
        named: SHA-256 by path of files that root named.
        packages: of the distribution.

    Raises:
        RefusedError: it is none that can be given a secret.
    """
    seen = _look(path, named, packages)
    if not seen.head.startswith(b"#!"):
        return Command(path, seen.numbers, (path,))
    interpreter, options = _interpreter_of(path, seen.head)
    run_by = _look(interpreter, named, packages)
    if run_by.head.startswith(b"#!"):
        raise _refused(path, "its interpreter is a script itself")
    return Command(interpreter, run_by.numbers, (interpreter, *options, path))


def interpreter_path(path: str) -> str:
    """Return the path of what runs a script, without links; empty: it is none.

    Raises:
        RefusedError: it can't be told.
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - may be any bytes
        head = file.read(_FIRST_LINE_BYTES)
    return _interpreter_of(path, head)[0] if head.startswith(b"#!") else ""


def _look(path: str, named: Mapping[str, str], packages: Distribution) -> _Seen:
    if os.path.realpath(path) != path:
        raise _refused(path, "its path has links, or is no path")
    try:
        _require_roots_way(path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, f"the broker can't look at it: {error.strerror}") from error
    try:
        return _look_at(fd, path, named, packages)
    except OSError as error:
        raise _refused(path, f"the broker can't read it: {error.strerror}") from error
    finally:
        os.close(fd)


def _look_at(fd: int, path: str, named: Mapping[str, str], packages: Distribution) -> _Seen:
    facts = os.fstat(fd)
    if facts.st_uid != 0 or facts.st_mode & 0o022 or not stat.S_ISREG(facts.st_mode):
        raise _refused(path, "others than root could have written it", "install it as root")
    if facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise _refused(path, "it changes its user")
    numbers = numbers_of(facts)
    owner = packages.owner_of(path, FileFacts.by_stat(facts))
    if (owner is None or not owner.intact) and (path not in named or hash_open_file(fd) != named[path]):
        changed = "was changed since it was named" if path in named else "is no package's, and root did not name it"
        raise _refused(path, f"it {changed}", "sudo agent-broker secret add NAME --for PROGRAM")
    if numbers_of(os.fstat(fd)) != numbers:
        raise _refused(path, "it changed while it was looked at", "try again")
    return _Seen(numbers, os.pread(fd, _FIRST_LINE_BYTES, 0))


def _require_roots_way(path: str) -> None:
    for folder in PurePosixPath(path).parents:
        facts = os.lstat(folder)
        if facts.st_uid != 0 or (facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX):
            raise _refused(path, f"others than root could replace what is in {folder}", "install it as root")


def _interpreter_of(path: str, head: bytes) -> tuple[str, tuple[str, ...]]:
    line = os.fsdecode(head[2:].split(b"\n", 1)[0]).strip(" \t\r")
    named, _, rest = line.partition(" ")
    words = rest.split()
    if PurePosixPath(named).name == "env":
        words = words[1:] if words[:1] in (["-S"], ["--split-string"]) else words
        if not words or words[0].startswith("-") or "=" in words[0] or "/" in words[0]:
            raise _refused(path, "its first line names no interpreter that is understood")
        named = next((f"{each}/{words[0]}" for each in _FOLDERS if os.access(f"{each}/{words[0]}", os.X_OK)), "")
        words = words[1:]
    found = os.path.realpath(named) if named.startswith("/") else ""
    own = next((options for names, options in _INTERPRETERS if names.fullmatch(PurePosixPath(found).name)), None)
    if own is None:
        raise _refused(path, "its interpreter is not one that is known")
    return found, (*own, *words)


def numbers_of(facts: os.stat_result) -> str:
    """Return what tells a file from any other, and from itself after a change: see Command."""
    seconds, nanoseconds = divmod(facts.st_ctime_ns, 10**9)
    device = facts.st_dev
    return f"{os.major(device)} {os.minor(device)} {facts.st_ino} {facts.st_size} {seconds} {nanoseconds}"


def _refused(path: str, why: str, next_step: str = "") -> RefusedError:
    shown = path if path.isprintable() else repr(path)
    return RefusedError("command", f"{shown} is given no secret: {why}", next_step=next_step)
