"""The broker's end of ``/dev/fuse``: requests come out of it, answers go into it.

The law of this module:
1. Every request that the kernel waits for is answered, once, whatever went wrong; what can't be done is an error.
2. What can be answered at once is; the rest are tasks, so that one opener who must be looked at holds up no other.
3. When the kernel ends the mount (unmounted, aborted, given up), ``ended`` is set; nothing is answered from then on.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable
from typing import Final, Protocol

from agent_broker.errors import AgentBrokerError, RefusedError
from agent_broker.view.wire import BUFFER_BYTES, NO_ANSWER, Request, answer, decode

_LOG = logging.getLogger(__name__)
_BATCH: Final = 32
"""Requests taken before the event loop's others get their turn."""
_AGAIN: Final = frozenset({errno.EINTR, errno.ENOENT})  # ENOENT: the request was taken back, fuse(4)


class Server(Protocol):
    """Who answers (view.server)."""

    def answer(self, request: Request) -> bytes | Awaitable[bytes]:
        """Return the answer's body, now or later.

        Raises:
            OSError: the error that the kernel is told.
        """
        ...


class Channel:
    """See the module. Owns the descriptor, from ``__init__`` to ``close``."""

    def __init__(self, fd: int, server: Server) -> None:
        """``fd``: of ``/dev/fuse``, non-blocking, mounted or about to be."""
        self.ended = asyncio.Event()
        self._fd = fd
        self._server = server
        self._buffer = bytearray(BUFFER_BYTES)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    async def close(self) -> None:
        """Stop: the mount answers ENOTCONN from now on."""
        self._end()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self.ended.set()

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                length = os.readv(self._fd, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                _LOG.warning("the file view was ended: %s", error.strerror)
                self._end()
                return
            self._take(decode(bytes(self._buffer[:length])))
            if self._fd < 0:
                return

    def _take(self, request: Request) -> None:
        try:
            made = self._server.answer(request)
        except Exception as error:  # noqa: BLE001 - whoever waits in the kernel gets an answer
            self._send(request, error=_errno_of(error))
            return
        if isinstance(made, bytes):
            self._send(request, made)
            return
        task = asyncio.ensure_future(self._answer_later(request, made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_later(self, request: Request, made: Awaitable[bytes]) -> None:
        try:
            body = await made
        except Exception as error:  # noqa: BLE001 - as above
            self._send(request, error=_errno_of(error))
            return
        self._send(request, body)

    def _send(self, request: Request, body: bytes = b"", error: int = 0) -> None:
        if self._fd < 0 or request.op in NO_ANSWER:
            return
        try:
            os.write(self._fd, answer(request.unique, body, error))
        except OSError as refused:
            if refused.errno not in _AGAIN:  # ENOENT: who asked was killed meanwhile
                _LOG.warning("request %d of the file view can't be answered: %s", request.op, refused.strerror)


def _errno_of(error: Exception) -> int:
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, RefusedError):
        return errno.EACCES
    if isinstance(error, AgentBrokerError):
        _LOG.warning("%s", error.message)
    else:
        _LOG.error("the file view failed", exc_info=error)
    return errno.EIO
