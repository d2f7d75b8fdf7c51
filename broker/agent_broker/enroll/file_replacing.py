"""One file of an open folder replaced or deleted, so that no version of anybody's is ever lost.

Replacing is: new file beside it, fsync, exchange the two names in one step, look whether what came out is what was
expected, fsync of the folder; if it is not, the names are exchanged back. So a version that somebody writes at the
last moment stays.
"""

import contextlib
import os
import stat

from agent_broker.enroll.beneath import exchange, open_beneath, rename_to_new
from agent_broker.enroll.file_attributes import attributes_of, dress
from agent_broker.enroll.file_facts import FileProblemError, look_at, problem_of, require_plain, state_of
from agent_broker.enroll.file_protocol import Stage
from agent_broker.enroll.file_state import Attributes, Expected, FileState, sha256_of

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME | os.O_NOCTTY | os.O_NOFOLLOW


def stage(folder: int, name: str, order: Stage) -> None:
    """Write the new file, durably, with the attributes of the one at ``name``, or those given.

    Raises:
        FileProblemError: it can't be given them.
        OSError: as the disk says.
    """
    with contextlib.suppress(FileNotFoundError):  # left by a run that was killed
        os.unlink(order.temporary, dir_fd=folder)
    fd = open_beneath(folder, order.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(order.data)
        dress(fd, _attributes(folder, name, order), order.mode, order.gid, order.path)
        if order.times_ns is not None:
            os.utime(fd, ns=order.times_ns)
        os.fsync(fd)
    finally:
        os.close(fd)


def swap(folder: int, name: str, temporary: str, path: str, expected: Expected | None) -> None:
    """Put the staged file in place if what is there is what was expected (None: nothing).

    Raises:
        FileProblemError: ``changed``: it is not, and stays.
        OSError: as the disk says.
    """
    if expected is None:
        try:
            rename_to_new(folder, temporary, name)
        except FileExistsError as error:
            raise FileProblemError("changed", path) from error
    elif not _is(folder, name, path, expected):
        raise FileProblemError("changed", path)
    elif not exchange(folder, temporary, name):
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    elif not _is(folder, temporary, path, expected, renamed=True):
        _swap_back(folder, name, temporary)
        raise FileProblemError("changed", path)
    os.fsync(folder)


def stage_link(folder: int, temporary: str, target: str) -> None:
    """Make a symbolic link, durably.

    Raises:
        OSError: as the disk says.
    """
    with contextlib.suppress(FileNotFoundError):  # left by a run that was killed
        os.unlink(temporary, dir_fd=folder)
    os.symlink(target, temporary, dir_fd=folder)
    os.fsync(folder)


def link_at(folder: int, name: str) -> str | None:
    """Return where the link of a name leads; None: it is none.

    Raises:
        OSError: as readlink(2).
    """
    if not stat.S_ISLNK(look_at(folder, name).mode):
        return None
    return os.readlink(name, dir_fd=folder)


def swap_link(folder: int, name: str, temporary: str, path: str, target: str) -> None:
    """Put the staged file in the place of a link, if that leads to ``target``.

    Raises:
        FileProblemError: ``changed``: it is no such link, and stays.
        OSError: as the disk says.
    """
    if link_at(folder, name) != target:
        raise FileProblemError("changed", path)
    if not exchange(folder, temporary, name):
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    elif link_at(folder, temporary) != target:
        _swap_back(folder, name, temporary)
        raise FileProblemError("changed", path)
    else:
        os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)


def withdraw(folder: int, name: str, temporary: str, path: str, expected: Expected) -> None:
    """Delete a file if it is what was expected.

    Raises:
        FileProblemError: ``changed``: it is not, and stays.
        OSError: as the disk says.
    """
    if not _is(folder, name, path, expected):
        raise FileProblemError("changed", path)
    rename_to_new(folder, name, temporary)
    if not _is(folder, temporary, path, expected, renamed=True):
        rename_to_new(folder, temporary, name)
        raise FileProblemError("changed", path)
    os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)


def read_at(folder: int, name: str, path: str, seen: FileState) -> tuple[FileState, bytes, Attributes]:
    """Return a file's state, bytes and attributes, if it is still what was ``seen``, before and after.

    Raises:
        FileProblemError: ``changed``: it is not; or it can't be read.
        OSError: as read(2).
    """
    try:
        fd = open_beneath(folder, name, _READ)
    except OSError as error:
        raise problem_of(error, path) from error
    try:
        before = state_of(fd)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(seen.size_bytes + 1)
        if not before.same_version(seen) or not state_of(fd).same_version(before) or len(data) != seen.size_bytes:
            raise FileProblemError("changed", path)
        return before, data, attributes_of(fd, path)
    finally:
        os.close(fd)


def _attributes(folder: int, name: str, order: Stage) -> Attributes:
    try:
        old = open_beneath(folder, name, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return order.attributes
    try:
        if stat.S_ISLNK(os.fstat(old).st_mode):  # a link of ours has none, and its place had a file before
            return order.attributes
        return attributes_of(old, order.path)
    finally:
        os.close(old)


def _is(folder: int, name: str, path: str, expected: Expected, *, renamed: bool = False) -> bool:
    """Say whether a name still holds the expected version; a rename alone has moved its ctime."""
    try:
        seen = look_at(folder, name)
        require_plain(seen, path)
        same = seen.same_bytes(expected.state) if renamed else seen.same_version(expected.state)
        return same and sha256_of(read_at(folder, name, path, seen)[1]) == expected.sha256
    except (FileProblemError, OSError):
        return False


def _swap_back(folder: int, name: str, temporary: str) -> None:
    """Undo an exchange that took out a version nobody expected, and keep that version whatever happens."""
    ours = os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
    exchange(folder, temporary, name)
    if os.stat(temporary, dir_fd=folder, follow_symlinks=False).st_ino == ours:
        os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)
