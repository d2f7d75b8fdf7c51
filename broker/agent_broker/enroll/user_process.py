"""The process that acts as the user: started by root, drops every right that the user does not have, then serves.

It can do nothing that the user could not do, so a link, a mount or a race that the user prepares gains nothing. It is
not dumpable: the user's other processes can't trace it or read its memory, although they have its uid. It serves one
transaction and ends when root's side of the socket closes; what it has begun it completes first.

Everything is imported before the rights go: the user may not be allowed to read this package.
"""

import ctypes
import os
import resource
import socket
import sys

import msgspec

from agent_broker.enroll.file_facts import FileProblemError, require_plain
from agent_broker.enroll.file_protocol import (
    Answer,
    CheckFolder,
    Discard,
    Done,
    Failed,
    ListFolder,
    Look,
    MakeFolder,
    Names,
    Read,
    ReadLink,
    Rehearse,
    RemoveFolder,
    Request,
    Scan,
    Seen,
    Stage,
    StageLink,
    Start,
    Swap,
    SwapLink,
    Withdraw,
    Working,
)
from agent_broker.enroll.file_work import Home
from agent_broker.enroll.framing import receive, send
from agent_broker.enroll.scan import scan

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38


def main() -> int:
    """Serve the socket whose descriptor is the only argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    decoder = msgspec.msgpack.Decoder(Request)
    home: Home | None = None
    while (frame := receive(channel)) is not None:
        request = decoder.decode(frame)
        try:
            if isinstance(request, Start):
                become(request)
                home = Home(request.home, request.folders)
                answer: Answer = Done()
            elif home is None:
                answer = Failed("os", "", "not started")
            else:
                answer = _serve(home, request, channel)
        except FileProblemError as problem:
            answer = Failed(problem.problem, problem.path, problem.detail)
        except OSError as error:
            answer = Failed("os", getattr(request, "path", ""), os.strerror(error.errno or 0))
        send(channel, answer)
    return 0


def become(start: Start) -> None:
    """Give up root for good.

    Raises:
        OSError: the kernel refused; nothing is served then.
    """
    os.chdir("/")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups(start.groups)
    os.setresgid(start.gid, start.gid, start.gid)
    os.setresuid(start.uid, start.uid, start.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getresuid() != (start.uid,) * 3 or os.getresgid() != (start.gid,) * 3:
        raise PermissionError("the rights of root could not be given up")


def _serve(home: Home, request: Request, channel: socket.socket) -> Answer:
    match request:
        case Look(path, plain):
            state = home.look(path)
            if plain and state is not None:
                require_plain(state, path)
            return Seen(state)
        case Read(path, limit_bytes):
            return home.read(path, limit_bytes) or Seen()
        case ListFolder(path):
            return Names(home.list_folder(path))
        case ReadLink(path):
            return Names(home.read_link(path))
        case Scan():
            return scan(home.fd, request, lambda files: send(channel, Working(files)))
        case _:
            _change(home, request)
            return Done()


def _change(home: Home, request: Request) -> None:  # noqa: C901 - a table
    match request:
        case CheckFolder(path):
            home.check_folder(path)
        case MakeFolder(path):
            home.make_folder(path)
        case RemoveFolder(path):
            home.remove_folder(path)
        case Rehearse():
            home.rehearse(request)
        case Stage():
            home.stage(request)
        case Swap(path, temporary, expected):
            home.swap(path, temporary, expected)
        case StageLink(path, temporary, target):
            home.stage_link(path, temporary, target)
        case SwapLink(path, temporary, target):
            home.swap_link(path, temporary, target)
        case Discard(path, temporary):
            home.discard(path, temporary)
        case Withdraw(path, temporary, expected):
            home.withdraw(path, temporary, expected)
        case _:
            raise FileProblemError("os", "", "a request that is not one")


if __name__ == "__main__":
    sys.exit(main())
