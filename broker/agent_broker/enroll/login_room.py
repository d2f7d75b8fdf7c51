"""Root's side of a login in a private room (``login_process`` has the law): starts it, waits, takes the result in."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agent_broker.enroll.beneath import open_regular
from agent_broker.enroll.framing import receive, send
from agent_broker.enroll.login_agents import MAX_RESULT_BYTES, AgentLogin
from agent_broker.enroll.login_namespace import free_uid
from agent_broker.enroll.login_protocol import ANSWERS, Left, Room
from agent_broker.enroll.other_process import end_at_once, start
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.vault.secret import Secret

HandOver = Callable[[socket.socket], None]
"""Carries the terminal's bytes to the agent and back; returns when the socket can be read."""

_PATH = "/usr/local/bin:/usr/bin:/bin"


@contextmanager
def one_login(folder: Path) -> Iterator[None]:
    """Hold the only place for a login.

    Raises:
        UnavailableError: another one is under way, or the broker has made no folder yet.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UnavailableError(f"{folder} can't be opened: {error.strerror}", next_step="start the broker") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UnavailableError("another login is under way", next_step="end it first") from error
    finally:
        os.close(fd)


def log_in(  # noqa: PLR0913 - one room, named arguments only
    enrollment: Enrollment,
    login: AgentLogin,
    *,
    folder: Path,
    terminal_fd: int,
    environment: Mapping[str, str],
    hand_over: HandOver,
    extra: tuple[str, ...] = (),
) -> Secret:
    """Let the agent log in, and return what the vault keeps of its login.

    Args:
        enrollment: whose executable runs: exactly that one.
        login: of the credential's kind.
        folder: of root's, covered by the room.
        terminal_fd: what the agent gets as its terminal; closed here.
        environment: of the person's terminal, as far as the agent needs it.
        hand_over: see HandOver; what it raises ends the room.
        extra: arguments after the login's own.

    Raises:
        MisuseError: no enrolled executable is where it was, or the agent left no login.
        IntegrityError: it left something else.
        UnavailableError: the room can't be made.
    """
    binary, program_fd = _open_program(enrollment)
    room = Room(
        folder=str(folder),
        uid=free_uid(),
        terminal_fd=terminal_fd,
        program_fd=program_fd,
        program_sha256=binary.sha256,
        name=Path(binary.path).name if binary.script is not None else enrollment.role.argv0_names[0],
        arguments=(*login.arguments, *extra),
        environment={"PATH": _PATH, **environment, **login.environment},
        files=dict(login.files),
        result=login.result,
        needed=(login.member, login.needs[-1]),
        stays=login.stays,
        max_result_bytes=MAX_RESULT_BYTES,
    )
    left = _run(_with_package(room, binary), hand_over)
    if left.result is None:
        raise MisuseError(
            f"{enrollment.agent} ended without a login (exit code {left.exit_status}): nothing was changed",
            next_step=f"try again: sudo agent-broker login {enrollment.agent}",
        )
    return login.take(left.result)


def _with_package(room: Room, binary: EnrolledBinary) -> Room:
    script = binary.script
    if script is None:
        return room
    bundle = script.bundle
    return msgspec.structs.replace(
        room,
        package=bundle.root,
        package_digest=bundle.digest,
        package_files=bundle.files,
        package_bytes=bundle.size_bytes,
        script=os.path.relpath(script.path, bundle.root),
    )


def _run(room: Room, hand_over: HandOver) -> Left:
    ours, theirs = socket.socketpair()
    try:
        process = start(
            "agent_broker.enroll.login_process", theirs, (room.terminal_fd, room.program_fd), keeps_stderr=True
        )
    finally:
        os.close(room.terminal_fd)
        os.close(room.program_fd)
    with ours:
        try:
            send(ours, room)
            hand_over(ours)
            return _answer(ours)
        finally:
            end_at_once(process)  # with it, whatever is in the room dies


def _answer(channel: socket.socket) -> Left:
    frame = receive(channel)
    if frame is None:
        raise UnavailableError("the login broke off: nothing was changed", next_step="try again")
    answer = ANSWERS.decode(frame)
    if not isinstance(answer, Left):
        raise UnavailableError(
            f"{answer.why}: nothing was changed",
            next_step="log in without the broker (unenroll the agent first), then enroll it again",
        )
    return answer


def _open_program(enrollment: Enrollment) -> tuple[EnrolledBinary, int]:
    """Return the newest enrolled executable that still is what was enrolled, open."""
    for binary in reversed(enrollment.binaries):
        with contextlib.suppress(OSError):
            fd = open_regular(binary.path)
            if hash_open_file(fd) == binary.sha256:
                return binary, fd
            os.close(fd)
    raise MisuseError(
        f"no executable of {enrollment.agent} is what was enrolled any more",
        next_step=f"sudo agent-broker approve {enrollment.agent}",
    )
