"""The private room in which an agent logs in: started by root, for one login.

The law of this module:
1. The agent runs as a user that nobody else is, in a mount and a process namespace of its own, so no process of the
   person who logs in, nor any other but root's, can read its memory, its environment or its files.
2. Its home is memory (tmpfs, not swapped where the kernel can do that) which is mounted in this namespace only. It has
   no name outside, and ends with the last process of the room, however that ends.
3. What it runs is a copy in the room whose hash is that of the enrolment, made before it starts: nobody can write it.
4. Everything in the room dies with ``agent-broker login``: the kernel sees to it, also after kill -9. Nothing outside
   is ever killed: a process that is not number 1 of a new namespace makes no room.
5. The result is read when no process of the agent is left, or while it waits, as a regular file of the agent's own.

It keeps the network, since the agent listens on loopback for the browser and asks the provider for its tokens.
"""

import fcntl
import os
import resource
import select
import signal
import socket
import stat
import sys
import termios

import msgspec

from agent_broker.enroll.beneath import open_beneath
from agent_broker.enroll.framing import receive, send
from agent_broker.enroll.login_copy import Original, copy_package, copy_program, original_package
from agent_broker.enroll.login_namespace import die_with_parent, lose_privileges, mount_room, new_namespaces
from agent_broker.enroll.login_protocol import Left, NoRoom, Room, RoomAnswer
from agent_broker.errors import AgentBrokerError

_POLL_MS = 250  # between two looks for the result of an agent that stays
_SHELL_FAILED = 126
_ODD_RESULT = "the agent's login left a {} that is not a file of its own"


def main() -> int:
    """Make the room that the socket, whose descriptor is the only argument, asks for."""
    die_with_parent()
    channel = socket.socket(fileno=int(sys.argv[1]))
    frame = receive(channel)
    if frame is None:
        return 0
    room = msgspec.msgpack.decode(frame, type=Room)
    try:
        original = original_package(room)
        new_namespaces()
    except (AgentBrokerError, OSError) as error:
        send(channel, NoRoom(_why(error)))
        return 1
    pid = os.fork()
    if pid == 0:
        os._exit(_first_process(channel, room, original))
    os.close(room.terminal_fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _first_process(channel: socket.socket, room: Room, original: Original | None) -> int:
    """Process 1 of the room: when it ends, the kernel kills the others."""
    try:
        _require_first()
        die_with_parent()
        mount_room(room)
        command = _command(room, original)
        answer: RoomAnswer = _run(channel, room, command)
    except (AgentBrokerError, OSError) as error:
        answer = NoRoom(_why(error))
    send(channel, answer)
    return 0


def _command(room: Room, original: Original | None) -> list[str]:
    """Copy what is run; return the whole command line, beginning with the path of the copy."""
    program = copy_program(room)
    script = [copy_package(room, original)] if original is not None else []
    return [program, *script, *room.arguments]


def _run(channel: socket.socket, room: Room, command: list[str]) -> Left:
    agent = os.fork()
    if agent == 0:
        try:
            _become_agent(room, command)
        finally:
            os._exit(_SHELL_FAILED)
    os.close(room.terminal_fd)
    status = _wait(channel, room, agent)
    _end_all()
    return Left(status, _result(room))


def _become_agent(room: Room, command: list[str]) -> None:
    os.setsid()
    fcntl.ioctl(room.terminal_fd, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(room.terminal_fd, number)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    lose_privileges(room.uid)
    home = f"{room.folder}/home"
    os.chdir(home)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    temporary = f"{room.folder}/tmp"  # noqa: S108 - in the room, the agent's alone
    os.execve(command[0], [room.name, *command[1:]], {**room.environment, "HOME": home, "TMPDIR": temporary})


def _wait(channel: socket.socket, room: Room, agent: int) -> int:
    """Return the agent's exit status; -SIGTERM if it was ended because its login is there, or nobody waits for it."""
    pidfd = os.pidfd_open(agent)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(channel, select.POLLIN | select.POLLHUP)
    while True:
        ready = {fd for fd, _ in poll.poll(_POLL_MS)}
        if pidfd in ready:
            return os.waitstatus_to_exitcode(os.waitpid(agent, 0)[1])
        if channel.fileno() in ready or (room.stays and _is_there(room)):
            os.kill(agent, signal.SIGTERM)
            return -signal.SIGTERM


def _is_there(room: Room) -> bool:
    """Whether the result is whole: an agent writes it in place."""
    try:
        members = msgspec.json.decode(_result(room) or b"", type=dict[str, object])
    except (msgspec.DecodeError, AgentBrokerError, OSError):
        return False
    member, name = room.needed
    inner = members.get(member) if member else members
    return isinstance(inner, dict) and bool(inner.get(name))


def _result(room: Room) -> bytes | None:
    home = os.open(f"{room.folder}/home", os.O_PATH | os.O_DIRECTORY)
    try:
        fd = open_beneath(home, room.result, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentBrokerError(_ODD_RESULT.format(room.result)) from error
    finally:
        os.close(home)
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != room.uid or facts.st_size > room.max_result_bytes:
            raise AgentBrokerError(_ODD_RESULT.format(room.result))
        return os.read(fd, room.max_result_bytes)
    finally:
        os.close(fd)


def _require_first() -> None:
    """Let nobody but process 1 of a room go on: kill(2) with -1 reaches every process of the namespace."""
    if os.getpid() != 1 or os.getppid() != 0:
        raise AgentBrokerError("the kernel made no process namespace for the login")


def _end_all() -> None:
    """Kill what is left in the room, and reap it; process 1 itself is spared."""
    _require_first()
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _why(error: AgentBrokerError | OSError) -> str:
    if isinstance(error, AgentBrokerError):
        return error.message
    return f"the agent can't be run in a private room: {error.strerror} ({error.filename or 'room'})"


if __name__ == "__main__":
    sys.exit(main())
