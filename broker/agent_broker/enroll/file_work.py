"""The work on a user's files, done with that user's rights and below the home's descriptor.

Every path is relative to the home and resolved without links. A file is touched only if it is a regular file of the
user's own with one name. How one is replaced, file_replacing says.

The folder of a file is the one in which the first request found it: a folder of the user's that another one takes
the place of meanwhile is refused like a link.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from agent_broker.enroll.beneath import open_beneath, open_without_links
from agent_broker.enroll.file_facts import (
    FileProblemError,
    look_at,
    problem_of,
    require_changeable,
    require_plain,
)
from agent_broker.enroll.file_protocol import Rehearse, Seen, Stage
from agent_broker.enroll.file_rehearsal import rehearse
from agent_broker.enroll.file_replacing import link_at, read_at, stage, stage_link, swap, swap_link, withdraw
from agent_broker.enroll.file_state import Expected, FileState, KnownFolder

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
            return Seen(*read_at(folder, name, path, seen))

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
            stage(folder, name, order)

    def swap(self, path: str, temporary: str, expected: Expected | None) -> None:
        """Put the staged file in place if ``path`` is what was expected; what was there gets the temporary name."""
        with self._folder(path) as (folder, name):
            swap(folder, name, temporary, path, expected)

    def stage_link(self, path: str, temporary: str, target: str) -> None:
        """Make a symbolic link beside ``path``, durably."""
        with self._folder(path) as (folder, _):
            stage_link(folder, temporary, target)

    def swap_link(self, path: str, temporary: str, target: str) -> None:
        """Put the staged file in the place of the link to ``target``."""
        with self._folder(path) as (folder, name):
            swap_link(folder, name, temporary, path, target)

    def read_link(self, path: str) -> tuple[str, ...]:
        """Return where the link leads; none if it is no link, or nothing is there."""
        try:
            with self._folder(path) as (folder, name):
                target = link_at(folder, name)
        except FileNotFoundError:
            return ()
        return () if target is None else (target,)

    def discard(self, path: str, temporary: str) -> None:
        """Delete the temporary file beside ``path``; a missing one (or a missing folder) is fine."""
        with contextlib.suppress(FileNotFoundError), self._folder(path) as (folder, _):
            os.unlink(temporary, dir_fd=folder)
            os.fsync(folder)

    def withdraw(self, path: str, temporary: str, expected: Expected) -> None:
        """Delete ``path`` if it is what was expected."""
        with self._folder(path) as (folder, name):
            withdraw(folder, name, temporary, path, expected)

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
