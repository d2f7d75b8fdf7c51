"""Root's end of the process that acts as a user: started, asked one thing at a time, ended.

A user who stops or kills the other process gets an error at once or after ``_SILENCE_S``, never a hang.
"""

import socket
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from agent_broker.enroll.file_problems import PROBLEMS, unsafe_file
from agent_broker.enroll.file_protocol import Answer, Failed, Request, Start, Working
from agent_broker.enroll.file_state import KnownFolder
from agent_broker.enroll.framing import receive, send
from agent_broker.enroll.other_process import END_S, start
from agent_broker.enroll.owner import Owner
from agent_broker.errors import AgentBrokerError, UnavailableError

_SILENCE_S = 30.0  # far above any fsync of 10 MiB; a scan gives a sign of life every second

_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

T = TypeVar("T")


class UserChannel:
    """The process that acts as one user in one home. A context manager."""

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
            self.ask(Start(owner.uid, owner.gid, owner.groups, owner.home, self._folders))
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

    def expect(self, request: Request, kind: type[T], on_files: Callable[[int], None] | None = None) -> T:
        """Ask, and return an answer of this kind.

        Raises:
            UnsafeFileError: a file may not be touched, or is not what was expected.
            UnavailableError: no answer, or the system refused.
        """
        answer = self.ask(request, on_files)
        if not isinstance(answer, kind):
            raise UnavailableError("the process that acts as the user answered something else")
        return answer

    def ask(self, request: Request, on_files: Callable[[int], None] | None = None) -> Answer:
        """Ask; the answer is not Failed, which is raised, nor Working, whose count ``on_files`` gets.

        Raises:
            UnsafeFileError, UnavailableError: see expect.
        """
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
