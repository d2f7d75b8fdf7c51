"""Root's side of the work on a user's files: what may be asked of the process that acts as the user.

No method here opens anything below the home in this process.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from agent_broker.enroll.file_problems import PROBLEMS, UnsafeFileError
from agent_broker.enroll.file_protocol import (
    CheckFolder,
    Discard,
    ListFolder,
    Look,
    MakeFolder,
    Names,
    Read,
    ReadLink,
    Rehearse,
    RemoveFolder,
    Scan,
    Scanned,
    Seen,
    Stage,
    StageLink,
    Swap,
    SwapLink,
    Withdraw,
)
from agent_broker.enroll.file_state import Attributes, Expected, FileState
from agent_broker.enroll.user_channel import UserChannel

__all__ = ["MAX_FILE_BYTES", "PROBLEMS", "Content", "UnsafeFileError", "UserFiles"]

MAX_FILE_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class Content:
    """A file's bytes and state as of one moment."""

    state: FileState
    data: bytes = field(repr=False)
    attributes: Attributes = field(default=(), repr=False)


class UserFiles(UserChannel):
    """The files below one user's home, with that user's rights. A context manager."""

    def look(self, path: str) -> FileState | None:
        """Return what is at a path without opening it, so that no watch wakes; None: nothing."""
        return self.expect(Look(path), Seen).state

    def check_plain(self, path: str) -> None:
        """Make sure that a file, if it is there, may be touched; does not open it.

        Raises:
            UnsafeFileError: it may not.
        """
        self.ask(Look(path, plain=True))

    def read(self, path: str) -> Content | None:
        """Return a plain file's content; None: there is none.

        Raises:
            UnsafeFileError: it is there and may not be touched.
        """
        seen = self.expect(Read(path, MAX_FILE_BYTES), Seen)
        return None if seen.state is None or seen.data is None else Content(seen.state, seen.data, seen.attributes)

    def list_folder(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted; none if it is missing."""
        return self.expect(ListFolder(path), Names).names

    def check_folder(self, path: str) -> None:
        """Make sure that files of a folder can be replaced.

        Raises:
            UnsafeFileError: they can't.
        """
        self.ask(CheckFolder(path))

    def make_folder(self, path: str) -> None:
        """Make a folder that only the user can enter; one that is there is fine.

        Raises:
            UnsafeFileError: something else is there.
        """
        self.ask(MakeFolder(path))

    def remove_folder(self, path: str) -> None:
        """Delete a folder if it is empty; a missing one is fine."""
        self.ask(RemoveFolder(path))

    def rehearse(self, path: str, size_bytes: int, gid: int) -> None:
        """Make sure that ``path`` could be replaced by a file of this size with all that the present one carries.

        Opens nothing, so that no watch wakes, and leaves nothing.

        Raises:
            UnsafeFileError: it could not, or may not be touched.
            UnavailableError: the disk has no room.
        """
        self.ask(Rehearse(path, max(size_bytes, 1), gid))

    def stage(  # noqa: PLR0913 - one file's attributes, named arguments only
        self,
        path: str,
        *,
        temporary: str,
        data: bytes,
        mode: int,
        gid: int,
        times_ns: tuple[int, int] | None = None,
        attributes: Attributes = (),
    ) -> None:
        """Write a new file beside ``path``, durably; ``attributes`` are for one that takes the place of none."""
        self.ask(Stage(path, temporary, data, mode, gid, times_ns, attributes))

    def swap(self, path: str, temporary: str, expected: Expected | None) -> None:
        """Put the staged file in place, durably.

        Raises:
            UnsafeFileError: ``changed``: what is there is not what was expected; it stays.
        """
        self.ask(Swap(path, temporary, expected))

    def stage_link(self, path: str, *, temporary: str, target: str) -> None:
        """Make a symbolic link beside ``path``, durably."""
        self.ask(StageLink(path, temporary, target))

    def swap_link(self, path: str, temporary: str, target: str) -> None:
        """Put the staged file in the place of a link to ``target``, durably.

        Raises:
            UnsafeFileError: ``changed``: it is no such link; it stays.
        """
        self.ask(SwapLink(path, temporary, target))

    def link_target(self, path: str) -> str | None:
        """Return where a link leads; None: it is none, or nothing is there."""
        return next(iter(self.expect(ReadLink(path), Names).names), None)

    def discard(self, path: str, temporary: str) -> None:
        """Delete the temporary file beside ``path``, durably."""
        self.ask(Discard(path, temporary))

    def withdraw(self, path: str, temporary: str, expected: Expected) -> None:
        """Delete ``path``, durably.

        Raises:
            UnsafeFileError: ``changed``: what is there is not what was expected; it stays.
        """
        self.ask(Withdraw(path, temporary, expected))

    def scan(self, order: Scan, on_files: Callable[[int], None] | None = None) -> Scanned:
        """Look for byte strings in the home."""
        return self.expect(order, Scanned, on_files)
