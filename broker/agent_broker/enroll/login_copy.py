"""What an agent runs in a private room: a copy of what was enrolled, and of nothing else.

The law of this module: bytes are copied first, and the copy, which root alone can write, is hashed. So what the user
does to the original, before, meanwhile or after, changes either nothing or the hash, and then nothing is run. Nothing
of the user's is opened through a link.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent_broker.enroll.login_protocol import Room
from agent_broker.errors import IntegrityError
from agent_broker.identity.bundle import digest_of, hash_files
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.tree import Bounds, Entry, Tree, open_in, open_root, scan_tree

_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Original:
    """An interpreted agent's package, found before the room's mounts hide it."""

    root_fd: int
    tree: Tree


def original_package(room: Room) -> Original | None:
    """Return the package of an interpreted agent; None: it is not one.

    Raises:
        MisuseError: it holds what no package holds, or is bigger than the enrolled one.
        OSError: it can't be read.
    """
    if not room.package:
        return None
    bounds = Bounds(room.package_files, room.package_bytes)
    return Original(open_root(room.package), scan_tree(room.package, bounds))


def copy_program(room: Room) -> str:
    """Return the path of the copied executable.

    Raises:
        IntegrityError: it is not what was enrolled.
        OSError: there is no room for it.
    """
    path = f"{room.folder}/bin/{room.name}"
    with open(path, "x+b", buffering=0) as copy:  # noqa: PTH123 - unbuffered: the kernel copies
        _copy(room.program_fd, copy.fileno())
        if hash_open_file(copy.fileno()) != room.program_sha256:
            raise _another(room.name)
    Path(path).chmod(0o555)
    return path


def copy_package(room: Room, original: Original) -> str:
    """Return the path of the copied script.

    Raises:
        IntegrityError: the package is not what was enrolled.
        OSError: there is no room for it.
    """
    root = f"{room.folder}/package"
    for path, entry in original.tree.entries.items():
        _copy_entry(original.root_fd, path, entry, Path(root, os.fsdecode(path)) if path else Path(root))
    for path, entry in original.tree.entries.items():  # a folder may be one that nobody writes to
        if not stat.S_ISLNK(entry.mode):
            Path(root, os.fsdecode(path)).chmod(stat.S_IMODE(entry.mode))
    copied = scan_tree(root, Bounds(room.package_files, room.package_bytes))
    if digest_of(copied, hash_files(root, copied, {})) != room.package_digest:
        raise _another(room.package)
    for path, entry in copied.entries.items():  # its user is another one here
        if not stat.S_ISLNK(entry.mode):
            Path(root, os.fsdecode(path)).chmod(0o755 if entry.mode & 0o111 else 0o644)
    return f"{root}/{room.script}"


def _copy_entry(root_fd: int, path: bytes, entry: Entry, place: Path) -> None:
    if stat.S_ISDIR(entry.mode):
        place.mkdir(mode=0o700)
    elif stat.S_ISLNK(entry.mode):
        place.symlink_to(os.fsdecode(entry.target))
    else:
        source = open_in(root_fd, path)
        try:
            with place.open("xb", buffering=0) as copy:
                _copy(source, copy.fileno())
        finally:
            os.close(source)


def _copy(source: int, target: int) -> None:
    offset = 0
    while count := os.sendfile(target, source, offset, _CHUNK_BYTES):
        offset += count


def _another(name: str) -> IntegrityError:
    return IntegrityError(f"{name} is not what was enrolled")
