"""Forks processes that act as a user; see forked_process. Knows nothing of the tests."""

import fcntl
import importlib
import os
import signal
import socket
import sys

import msgspec

_MODULES = ("agent_broker.enroll.user_process", "agent_broker.enroll.inventory_process")
_MAX_FDS, _MAX_BYTES = 16, 1000


def serve(fd: int) -> None:
    """Fork for each message until the other side closes: a module's name, and the numbers of the descriptors with it.

    The first of them is the module's argument. Answered by the pid, and a pidfd with it.
    """
    works = {name: importlib.import_module(name).main for name in _MODULES}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits: whoever asked has a pidfd
    channel = socket.socket(fileno=fd)
    while True:
        data, fds, _, _ = socket.recv_fds(channel, _MAX_BYTES, _MAX_FDS)
        if not data:
            return
        module, numbers = msgspec.msgpack.decode(data, type=tuple[str, list[int]])
        pid = os.fork()
        if pid == 0:
            try:
                _become_as_started(fds, numbers)
                os._exit(works[module]())
            finally:
                os._exit(70)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(channel, [b"%d" % pid], [pidfd])
        for each in (pidfd, *fds):
            os.close(each)


def _become_as_started(fds: list[int], numbers: list[int]) -> None:
    os.setsid()
    os.environ.clear()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    above = max(*numbers, *fds) + 1
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD, above) for each in fds]
    os.closerange(3, above)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    for held, number in zip(aside, numbers, strict=True):
        os.dup2(held, number)
        os.close(held)
    sys.argv[1:] = [str(numbers[0])]
