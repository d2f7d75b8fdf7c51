"""monitor.sock, bound: for root and the broker's group, and never in the place of one that answers."""

import os
import socket
from pathlib import Path
from typing import Final

from agent_broker.errors import UnavailableError

_BACKLOG: Final = 16


def bind_monitor_socket(path: Path, gid: int) -> socket.socket:
    """Return monitor.sock, listening, for root and the broker's group.

    Raises:
        UnavailableError: another monitor answers there, or the file system refuses.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    umask = os.umask(0o177)
    try:
        _require_unanswered(path)
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
        os.chown(path, 0, gid, follow_symlinks=False)
        path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(f"{path} can't be bound: {error.strerror}") from error
    except UnavailableError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener


def _require_unanswered(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return
    raise UnavailableError(f"another monitor answers on {path}", next_step="stop it first")
