"""The control plane's server: gRPC on two unix sockets, who may call decided by the file system.

Law of the module:

1. ``admin.sock`` (root:root 0600) serves both services, ``read.sock`` (root:broker's group 0660) reading only. The
   mode is checked by the kernel at connect(2); grpcio shows a servicer neither the peer's uid nor its pid, so there
   is no second check here, and there needs to be none: the folder belongs to root, so nobody else can put a socket
   there or change its mode.
2. A socket never exists with a wider mode than its final one (the umask is tightened while it is bound).
3. A socket on which somebody answers is not taken over; a dead one is replaced.

Start it as root; dropping privileges afterwards drops those of gRPC's threads too (glibc applies setresuid(2) to every
thread of the process).
"""

import os
import socket
import stat
from pathlib import Path

import grpc.aio

from agent_broker.errors import UnavailableError
from agent_broker.transport import control_pb2_grpc as services
from agent_broker.transport.control_channel import CHANNEL_OPTIONS, socket_address
from agent_broker.transport.control_port import ControlPort
from agent_broker.transport.control_service import AdminServicer, ReadServicer

MAX_CALLS_AT_ONCE = 64  # a socket; followers included
ADMIN_MODE = 0o600
READ_MODE = 0o660


class ControlServer:
    """Serves a ControlPort on both sockets between ``start`` and ``stop``."""

    def __init__(self, port: ControlPort) -> None:
        self._port = port
        self._servers: list[grpc.aio.Server] = []

    async def start(self, *, admin: Path, read: Path, read_gid: int) -> None:
        """Bind both sockets and serve.

        Args:
            admin: path of the socket for root.
            read: path of the socket for the group.
            read_gid: the group that may read.

        Raises:
            UnavailableError: another broker answers on a socket, or it can't be bound.
        """
        reader = _server()
        services.add_ReadServicer_to_server(ReadServicer(self._port), reader)
        administrator = _server()
        services.add_ReadServicer_to_server(ReadServicer(self._port), administrator)
        services.add_AdminServicer_to_server(AdminServicer(self._port), administrator)
        _bind(administrator, admin, ADMIN_MODE, gid=0)
        _bind(reader, read, READ_MODE, gid=read_gid)
        self._servers = [administrator, reader]
        for server in self._servers:
            await server.start()

    async def stop(self, grace_s: float = 0.5) -> None:
        """End: no new calls at once, running ones are cancelled after ``grace_s`` seconds."""
        for server in self._servers:
            await server.stop(grace_s)
        self._servers = []


def _server() -> grpc.aio.Server:
    return grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS_AT_ONCE, options=CHANNEL_OPTIONS)


def _bind(server: grpc.aio.Server, path: Path, mode: int, gid: int) -> None:
    _require_free(path)
    umask = os.umask(0o177)
    try:
        server.add_insecure_port(socket_address(path))
        if os.geteuid() == 0:
            os.chown(path, 0, gid, follow_symlinks=False)
        path.chmod(mode)
    except (RuntimeError, OSError) as error:
        raise UnavailableError(f"{path} can't be bound: {type(error).__name__}") from error
    finally:
        os.umask(umask)


def _require_free(path: Path) -> None:
    """Refuse a path on which somebody answers, and one that is not a socket at all."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UnavailableError(f"{path} is in the way and is not a socket", next_step="move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # gRPC removes a dead socket before it binds
        else:
            raise UnavailableError(f"another broker answers on {path}", next_step="stop it first")
