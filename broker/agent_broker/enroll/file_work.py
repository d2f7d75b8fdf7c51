"""The work on a user's files, done with that user's rights and below the home's descriptor.

Every path is relative to the home and resolved without links. A file is touched only if it is a regular file of the
user's own with one name. Replacing is: new file beside it, fsync, exchange the two names in one step, look
whether what came out is what was expected, fsync of the folder; if it is not, the names are exchanged back. So
a version that somebody writes at the last moment is never lost.

The folder of a file is the one in which the first request found it: a folder of the user's that another one takes
the place of meanwhile is refused like a link.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from agent_broker.enroll.beneath import exchange, open_beneath, open_without_links, rename_to_new
from agent_broker.enroll.file_attributes import attributes_of, dress
from agent_broker.enroll.file_facts import (
    FileProblemError,
    look_at,
    problem_of,
    require_changeable,
    require_plain,
    state_of,
)
from agent_broker.enroll.file_protocol import (
    Attributes,
    Expected,
    FileState,
    KnownFolder,
    Rehearse,
    Seen,
    Stage,
    sha256_of,
)
from agent_broker.enroll.file_rehearsal import rehearse

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME | os.O_NOCTTY | os.O_NOFOLLOW


class Home:
    """One user's home folder, held open."""

    def __init__(self, path: str, folders: tuple[KnownFolder, ...] = ()) -> None:
        """Open it; ``folders`` must still be what they were whenever something is done in them.

        Raises:
            FileProblemError: it is not a folder of the user's own, or is reached by a link.
        """
        try:
            self.fd = open_without_links(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise FileProblemError("no-home", path, os.strerror(error.errno or 0)) from error
        if os.fstat(self.fd).st_uid != os.geteuid():
            raise FileProblemError("foreign-home", path)
        self._folders = {each.path: (each.dev, each.ino) for each in folders}

    def look(self, path: str) -> FileState | None:
        """Return what is at a path, of whatever type, without opening it; None if nothing is."""
        try:
            with self._folder(path) as (folder, name):
                return look_at(folder, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise problem_of(error, path) from error

    def read(self, path: str, limit_bytes: int) -> Seen | None:
        """Return a plain file's state, bytes and attributes as of one moment; None if nothing is there."""
        seen = self.look(path)
        if seen is None:
            return None
        require_plain(seen, path)
        if seen.size_bytes > limit_bytes:
            raise FileProblemError("too-big", path, f"{seen.size_bytes} bytes, at most {limit_bytes}")
        with self._folder(path) as (folder, name):
            return Seen(*_read_at(folder, name, path, seen))

    def list_folder(self, path: str) -> tuple[str, ...]:
        """Return the sorted printable names in a folder; none if it is missing."""
        try:
            fd = open_beneath(self.fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise problem_of(error, path) from error
        try:
            names = os.listdir(fd)  # noqa: PTH208 - pathlib can't list a descriptor
        finally:
            os.close(fd)
        return tuple(sorted(name for name in names if name.isprintable()))

    def check_folder(self, path: str) -> None:
        """Make sure that files of a folder can be replaced."""
        seen = self.look(path)
        if seen is None:
            raise FileProblemError("no-folder", path)
        if stat.S_ISLNK(seen.mode):
            raise FileProblemError("linked-folder", path)
        if not stat.S_ISDIR(seen.mode):
            raise FileProblemError("not-a-folder", path)
        if seen.uid != os.geteuid():
            raise FileProblemError("foreign-folder", path)
        with self._folder(f"{path}/any") as (folder, _):
            require_changeable(folder, path)
            if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
                raise FileProblemError("read-only", path)
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
                raise FileProblemError("unwritable-folder", path)

    def make_folder(self, path: str) -> None:
        """Make a folder that only the user can enter, durably; one that is there is fine."""
        try:
            with self._folder(path) as (folder, name):
                os.mkdir(name, 0o700, dir_fd=folder)
                os.fsync(folder)
        except FileExistsError:
            self.check_folder(path)
        except OSError as error:
            raise problem_of(error, path) from error

    def remove_folder(self, path: str) -> None:
        """Delete a folder, durably, if it is empty; one that is not, or is missing, is fine."""
        try:
            with self._folder(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)
                os.fsync(folder)
            self._folders.pop(path, None)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise problem_of(error, path) from error

    def rehearse(self, order: Rehearse) -> None:
        """See file_rehearsal; a missing folder is fine: whoever makes it will see."""
        with contextlib.suppress(FileNotFoundError), self._folder(order.path) as (folder, name):
            rehearse(folder, name, order)

    def stage(self, order: Stage) -> None:
        """Write a file beside ``path``, durably, with the attributes of the one at ``path``, or those given."""
        with self._folder(order.path) as (folder, name):
            with contextlib.suppress(FileNotFoundError):  # left by a run that was killed
                os.unlink(order.temporary, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            fd = open_beneath(folder, order.temporary, flags, 0o600)
            try:
                with open(fd, "wb", closefd=False) as file:
                    file.write(order.data)
                dress(fd, _attributes(folder, name, order), order.mode, order.gid, order.path)
                if order.times_ns is not None:
                    os.utime(fd, ns=order.times_ns)
                os.fsync(fd)
            finally:
                os.close(fd)

    def swap(self, path: str, temporary: str, expected: Expected | None) -> None:
        """Put the staged file in place if ``path`` is what was expected; what was there gets the temporary name."""
        with self._folder(path) as (folder, name):
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

    def discard(self, path: str, temporary: str) -> None:
        """Delete the temporary file beside ``path``; a missing one (or a missing folder) is fine."""
        with contextlib.suppress(FileNotFoundError), self._folder(path) as (folder, _):
            os.unlink(temporary, dir_fd=folder)
            os.fsync(folder)

    def withdraw(self, path: str, temporary: str, expected: Expected) -> None:
        """Delete ``path`` if it is what was expected."""
        with self._folder(path) as (folder, name):
            if not _is(folder, name, path, expected):
                raise FileProblemError("changed", path)
            rename_to_new(folder, name, temporary)
            if not _is(folder, temporary, path, expected, renamed=True):
                rename_to_new(folder, temporary, name)
                raise FileProblemError("changed", path)
            os.unlink(temporary, dir_fd=folder)
            os.fsync(folder)

    @contextlib.contextmanager
    def _folder(self, path: str) -> Iterator[tuple[int, str]]:
        parent, name = os.path.split(path)
        fd = open_beneath(self.fd, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            facts = os.fstat(fd)
            identity = (facts.st_dev, facts.st_ino)
            if self._folders.setdefault(parent or ".", identity) != identity:
                raise FileProblemError("swapped-folder", parent)
            yield fd, name
        finally:
            os.close(fd)


def _attributes(folder: int, name: str, order: Stage) -> Attributes:
    try:
        old = open_beneath(folder, name, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return order.attributes
    try:
        return attributes_of(old, order.path)
    finally:
        os.close(old)


def _read_at(folder: int, name: str, path: str, seen: FileState) -> tuple[FileState, bytes, Attributes]:
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


def _is(folder: int, name: str, path: str, expected: Expected, *, renamed: bool = False) -> bool:
    """Say whether a name still holds the expected version; a rename alone has moved its ctime."""
    try:
        seen = look_at(folder, name)
        require_plain(seen, path)
        same = seen.same_bytes(expected.state) if renamed else seen.same_version(expected.state)
        return same and sha256_of(_read_at(folder, name, path, seen)[1]) == expected.sha256
    except (FileProblemError, OSError):
        return False


def _swap_back(folder: int, name: str, temporary: str) -> None:
    """Undo an exchange that took out a version nobody expected, and keep that version whatever happens."""
    ours = os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
    exchange(folder, temporary, name)
    if os.stat(temporary, dir_fd=folder, follow_symlinks=False).st_ino == ours:
        os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)
