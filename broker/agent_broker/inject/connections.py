"""The endpoint's connections: each has a peer that is looked up when it is accepted, and an end.

aiohttp's server, with three things of our own: a connection's caller is made before its first byte is read and
closed with it; one user holds a bounded number of connections, whatever he does with them; and what goes wrong
below the handler is answered in the provider's error shape and logged without a byte of the request.
"""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from agent_broker.ids import Uid
from agent_broker.inject.answer import answer_status
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.peer import PeerUnknownError, SocketLike

MAX_CONNECTIONS_PER_USER: Final = 128
MAX_HEADER_LINE_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 128

_LINGER_S: Final = 5.0  # how long the body of a refused request is read, so that its client sees the answer

_log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
MakeCaller = Callable[[SocketLike], ConnectionCaller]


class Connections(web.Server):
    """A protocol factory for ``loop.create_server``; made inside the running loop."""

    def __init__(self, handler: Handler, make_caller: MakeCaller, *, max_per_user: int) -> None:
        super().__init__(
            handler,
            access_log=None,
            auto_decompress=False,
            lingering_time=_LINGER_S,
            logger=_log,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_HEADER_LINE_BYTES,
        )
        self._make_caller = make_caller
        self._max_per_user = max_per_user
        self._callers: dict[web.RequestHandler, tuple[ConnectionCaller, Uid | None]] = {}
        self._per_user: Counter[Uid | None] = Counter()
        self._exchanges: dict[web.RequestHandler, asyncio.Task[object]] = {}

    def caller_of(self, request: web.BaseRequest) -> ConnectionCaller:
        """Return the caller of the connection that a request came on.

        Raises:
            PeerUnknownError: the connection is gone already.
        """
        found = self._callers.get(request.protocol)
        if found is None:
            raise PeerUnknownError("the client has closed the connection")
        return found[0]

    @contextmanager
    def ended_by_departure(self, request: web.BaseRequest) -> Iterator[None]:
        """Cancel what runs in the ``with`` block when the client leaves; before it, nothing is cancelled.

        Raises:
            PeerUnknownError: the client has left already.
        """
        task = asyncio.current_task()
        if task is None or request.protocol not in self._callers:
            raise PeerUnknownError("the client has closed the connection")
        self._exchanges[request.protocol] = task
        try:
            yield
        finally:
            self._exchanges.pop(request.protocol, None)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Look the peer up; aiohttp calls this when a connection is accepted."""
        super().connection_made(handler, transport)
        caller = self._make_caller(transport.get_extra_info("socket"))
        uid = caller.peer.uid if caller.peer else None
        self._callers[handler] = caller, uid
        self._per_user[uid] += 1
        if self._per_user[uid] > self._max_per_user:
            transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Close the caller; aiohttp calls this once a connection is gone."""
        super().connection_lost(handler, exc)
        caller, uid = self._callers.pop(handler)
        caller.close()
        exchange = self._exchanges.pop(handler, None)
        if exchange is not None:
            exchange.cancel()
        self._per_user[uid] -= 1
        if not self._per_user[uid]:
            del self._per_user[uid]

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """One connection. Overridden: what is told and logged when aiohttp itself refuses a request."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the request: neither logged nor sent
    ) -> web.StreamResponse:
        if status == 500:  # noqa: PLR2004 - an HTTP status
            self.log_exception("a request failed in the broker", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, so the connection ends")
        text = "the request is not HTTP that this endpoint understands" if status != 500 else "the broker failed"  # noqa: PLR2004 - an HTTP status
        response = answer_status(status, text)
        response.force_close()
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        exc = kw.get("exc_info")
        where = "".join(traceback.format_tb(exc.__traceback__)) if isinstance(exc, BaseException) else ""
        _log.error("%s: %s\n%s", args[0] if args else "failed", type(exc).__name__, where)
