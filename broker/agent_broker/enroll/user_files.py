"""Root's side of the work on a user's files: asks the process that acts as the user, and says what went wrong.

No method here opens anything below the home in this process. A user who stops or kills the other process gets an
error at once or after ``_SILENCE_S``, never a hang.
"""

import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from agent_broker.enroll.file_problems import PROBLEMS, UnsafeFileError, unsafe_file
from agent_broker.enroll.file_protocol import (
    Answer,
    Attributes,
    CheckFolder,
    Discard,
    Expected,
    Failed,
    FileState,
    KnownFolder,
    ListFolder,
    Look,
    MakeFolder,
    Names,
    Read,
    Rehearse,
    RemoveFolder,
    Request,
    Scan,
    Scanned,
    Seen,
    Stage,
    Start,
    Swap,
    Withdraw,
    Working,
    receive,
    send,
)
from agent_broker.enroll.other_process import END_S, start
from agent_broker.enroll.owner import Owner
from agent_broker.errors import AgentBrokerError, UnavailableError

__all__ = ["MAX_FILE_BYTES", "PROBLEMS", "Content", "UnsafeFileError", "UserFiles"]

MAX_FILE_BYTES = 10 * 1024 * 1024
_SILENCE_S = 30.0  # far above any fsync of 10 MiB; a scan gives a sign of life every second

_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

T = TypeVar("T")


@dataclass(frozen=True)
class Content:
    """A file's bytes and state as of one moment."""

    state: FileState
    data: bytes = field(repr=False)
    attributes: Attributes = field(default=(), repr=False)


class UserFiles:
    """The files below one user's home, with that user's rights. A context manager."""

    def __init__(self, owner: Owner, keep_open: tuple[int, ...] = (), folders: tuple[KnownFolder, ...] = ()) -> None:
        """Say whose files.

        Args:
            owner: the user, and the home.
            keep_open: descriptors that the other process shall hold as long as it lives: the lock of a transaction.
            folders: what must still be the same folder whenever something is done in it.
        """
        self._owner = owner
        self._keep_open = keep_open
        self._folders = folders
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Self:
        """Start the process.

        Raises:
            MisuseError: the home is not one.
            UnavailableError: no process could be started.
        """
        ours, theirs = socket.socketpair()
        ours.settimeout(_SILENCE_S)
        self._process = start("agent_broker.enroll.user_process", theirs, self._keep_open)
        self._channel = ours
        owner = self._owner
        try:
            self._ask(Start(owner.uid, owner.gid, owner.groups, owner.home, self._folders))
        except AgentBrokerError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process, and return when it can do nothing any more; twice is fine.

        It completes what it was asked already; one that is stopped is killed.
        """
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def absolute(self, path: str) -> str:
        """Return a path for people and for the registry."""
        return f"{self._owner.home.rstrip('/')}/{path}"

    def look(self, path: str) -> FileState | None:
        """Return what is at a path without opening it, so that no watch wakes; None: nothing."""
        return self._expect(Look(path), Seen).state

    def check_plain(self, path: str) -> None:
        """Make sure that a file, if it is there, may be touched; does not open it.

        Raises:
            UnsafeFileError: it may not.
        """
        self._ask(Look(path, plain=True))

    def read(self, path: str) -> Content | None:
        """Return a plain file's content; None: there is none.

        Raises:
            UnsafeFileError: it is there and may not be touched.
        """
        seen = self._expect(Read(path, MAX_FILE_BYTES), Seen)
        return None if seen.state is None or seen.data is None else Content(seen.state, seen.data, seen.attributes)

    def list_folder(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted; none if it is missing."""
        return self._expect(ListFolder(path), Names).names

    def check_folder(self, path: str) -> None:
        """Make sure that files of a folder can be replaced.

        Raises:
            UnsafeFileError: they can't.
        """
        self._ask(CheckFolder(path))

    def make_folder(self, path: str) -> None:
        """Make a folder that only the user can enter; one that is there is fine.

        Raises:
            UnsafeFileError: something else is there.
        """
        self._ask(MakeFolder(path))

    def remove_folder(self, path: str) -> None:
        """Delete a folder if it is empty; a missing one is fine."""
        self._ask(RemoveFolder(path))

    def rehearse(self, path: str, size_bytes: int, gid: int) -> None:
        """Make sure that ``path`` could be replaced by a file of this size with all that the present one carries.

        Opens nothing, so that no watch wakes, and leaves nothing.

        Raises:
            UnsafeFileError: it could not, or may not be touched.
            UnavailableError: the disk has no room.
        """
        self._ask(Rehearse(path, max(size_bytes, 1), gid))

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
        self._ask(Stage(path, temporary, data, mode, gid, times_ns, attributes))

    def swap(self, path: str, temporary: str, expected: Expected | None) -> None:
        """Put the staged file in place, durably.

        Raises:
            UnsafeFileError: ``changed``: what is there is not what was expected; it stays.
        """
        self._ask(Swap(path, temporary, expected))

    def discard(self, path: str, temporary: str) -> None:
        """Delete the temporary file beside ``path``, durably."""
        self._ask(Discard(path, temporary))

    def withdraw(self, path: str, temporary: str, expected: Expected) -> None:
        """Delete ``path``, durably.

        Raises:
            UnsafeFileError: ``changed``: what is there is not what was expected; it stays.
        """
        self._ask(Withdraw(path, temporary, expected))

    def scan(self, order: Scan, on_files: Callable[[int], None] | None = None) -> Scanned:
        """Look for byte strings in the home."""
        return self._expect(order, Scanned, on_files)

    def _expect(self, request: Request, kind: type[T], on_files: Callable[[int], None] | None = None) -> T:
        answer = self._ask(request, on_files)
        if not isinstance(answer, kind):
            raise UnavailableError("the process that acts as the user answered something else")
        return answer

    def _ask(self, request: Request, on_files: Callable[[int], None] | None = None) -> Answer:
        if self._channel is None:
            raise UnavailableError("the process that acts as the user was not started")
        try:
            send(self._channel, request)
            while (frame := receive(self._channel)) is not None:
                answer = _ANSWERS.decode(frame)
                if isinstance(answer, Failed):
                    raise self._error_of(answer)
                if not isinstance(answer, Working):
                    return answer
                if on_files is not None:
                    on_files(answer.files)
        except (OSError, msgspec.DecodeError) as error:
            raise self._gone() from error
        raise self._gone()

    def _error_of(self, failed: Failed) -> AgentBrokerError:
        path = failed.path if failed.path.startswith("/") else self.absolute(failed.path)
        if failed.problem in PROBLEMS:
            return unsafe_file(failed.problem, path, failed.detail)
        return UnavailableError(f"{path}: {failed.detail}", next_step="make it possible, then try again")

    def _gone(self) -> UnavailableError:
        return UnavailableError(
            f"the process that acts as {self._owner.name} does not answer; somebody may have stopped or killed it",
            next_step="end the user's other processes, then try again",
        )
