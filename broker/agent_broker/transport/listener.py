"""Takes a place in the file system for a unix socket, from nobody who is alive.

The law: a socket that somebody listens on is never replaced, a file that is no socket is never deleted, and the new
one has its final mode from the first moment.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from agent_broker.errors import MisuseError, UnavailableError

MAX_PATH_BYTES = 107  # sun_path of struct sockaddr_un, less its NUL
BACKLOG = 128  # connections waiting for accept: whoever comes waits for all of them


def bind_unix_listener(
    path: Path, *, kind: socket.SocketKind, mode: int, prepare: Callable[[socket.socket], None] | None = None
) -> socket.socket:
    """Return a listening socket at ``path``, replacing a stale one.

    Args:
        path: in an existing folder that nobody but root and this process's user can write to.
        kind: SOCK_STREAM or SOCK_SEQPACKET.
        mode: permission bits of the socket's file.
        prepare: sets options on the socket before it listens.

    Raises:
        MisuseError: the path is too long, its folder is open to others, or what is there is not a socket.
        UnavailableError: somebody listens there, or the kernel refuses.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise MisuseError(f"{path} is too long for a socket", next_step="use a shorter root folder")
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        with _locked(path.parent):
            _require_nobody_listens(path, kind)
            path.unlink(missing_ok=True)
            _bind(listener, path, mode)
            if prepare is not None:
                prepare(listener)
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"no socket can be made at {path}: {error.strerror}", next_step=f"check the folder {path.parent}"
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(listener: socket.socket, path: Path, mode: int) -> None:
    """The mask is the process's: daemons bind before they start anything that makes files."""
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against a second daemon that starts at the same moment."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise MisuseError(
                f"others can replace the sockets in {folder}", next_step=f"chown root {folder}; chmod go-w {folder}"
            )
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _require_nobody_listens(path: Path, kind: socket.SocketKind) -> None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise MisuseError(f"{path} is there and is not a socket", next_step="find out whose it is, and move it away")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EPROTOTYPE}:
                raise
    raise UnavailableError(
        f"somebody listens on {path} already", next_step="stop the other daemon first: agent-broker doctor names it"
    )
