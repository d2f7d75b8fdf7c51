"""The endpoint's connections: each has a peer that is looked up when it is accepted, and an end.

aiohttp's server, with four things of our own:

- a connection's caller is made before its first byte is read, and closed with it;
- one user, and one process, holds a bounded number of connections, whatever it does with them (admission). Until a
  request on it was granted, a connection has a lesser place: half of the user's are of that kind, each ends when it
  asks nothing for ``STRANGER_IDLE_S`` or has asked ``STRANGER_REQUESTS`` times, and it makes room for newer ones. So
  what floods the endpoint closes its own connections, and those that the agent uses stay;
- a process that connects too often, or was refused too often, is told so before anything is looked up;
- what goes wrong below the handler is answered in the provider's error shape and logged without a byte of the request.
"""

import asyncio
import contextlib
import functools
import logging
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from agent_broker.admission.places import Places, Room, Shares
from agent_broker.admission.standing import ProcessKey, Standings, process_key
from agent_broker.admission.waiting_room import WaitingRoom, turn_away
from agent_broker.errors import RefusedError
from agent_broker.inject.answer import FLOOD, NO_PLACE, answer_status
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.peer import PeerUnknownError, SocketLike, opener_pidfd

MAX_CONNECTIONS: Final = 1024
MAX_CONNECTIONS_PER_USER: Final = 128
STRANGER_IDLE_S: Final = 15.0
STRANGER_REQUESTS: Final = 8
MAX_HEADER_LINE_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 128

_GONE: Final = 503
_OF_AGENTS: Final = frozenset({"policy", "frozen", "changed", "path", "account"})
_LINGER_S: Final = 5.0  # how long the body of a refused request is read, so that its client sees the answer

_log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
MakeCaller = Callable[[SocketLike], ConnectionCaller]


class _Connection:
    """What is known of one connection."""

    def __init__(self, caller: ConnectionCaller, process: ProcessKey | None) -> None:
        self.caller = caller
        self.process = process
        self.requests = 0
        self.is_asking = False
        """Its place is taken until the request is done with, even if the client leaves before."""
        self.is_granted = False
        self.deadline: asyncio.TimerHandle | None = None
        self.opening: asyncio.Task[object] | None = None
        self.exchange: asyncio.Task[object] | None = None

    def stop_clock(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Connections(web.Server):
    """Takes accepted sockets (``admit``); made inside the running loop."""

    def __init__(
        self, handler: Handler, make_caller: MakeCaller, *, max_per_user: int, standings: Standings | None = None
    ) -> None:
        """``standings``: shared with whoever else wants to know how a process behaved; None: its own."""
        super().__init__(
            self._serve,
            request_factory=self._begun,
            access_log=None,
            auto_decompress=False,
            lingering_time=_LINGER_S,
            logger=_log,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_HEADER_LINE_BYTES,
        )
        self._handler = handler
        self._make_caller = make_caller
        self._standings = standings or Standings()
        shares = Shares(MAX_CONNECTIONS, max_per_user, (max_per_user + 1) // 2, (max_per_user + 3) // 4)
        self._places: Places[web.RequestHandler] = Places(shares, self._end)
        self._waiting_room = WaitingRoom()
        self._open: dict[web.RequestHandler, _Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def caller_of(self, request: web.BaseRequest) -> ConnectionCaller:
        """Return the caller of the connection that a request came on.

        Raises:
            PeerUnknownError: the connection is gone already.
        """
        return self._of(request).caller

    def granted(self, request: web.BaseRequest) -> None:
        """This connection's request was granted: its place is its own now."""
        connection = self._of(request)
        connection.is_granted = True
        self._places.promote(request.protocol)
        self._standings.served(connection.process)

    def refused(self, request: web.BaseRequest, refusal: RefusedError) -> None:
        """A request was refused; what the agent itself may be refused for is not held against its process."""
        connection = self._open.get(request.protocol)
        if connection is not None and refusal.rule not in _OF_AGENTS:
            self._standings.refused(connection.process)

    @contextlib.contextmanager
    def ended_by_departure(self, request: web.BaseRequest) -> Iterator[None]:
        """Cancel what runs in the ``with`` block when the client leaves; before it, nothing is cancelled.

        Raises:
            PeerUnknownError: the client has left already.
        """
        connection = self._of(request)
        connection.exchange = asyncio.current_task()
        try:
            yield
        finally:
            connection.exchange = None

    def admit(self, end: socket.socket) -> bool:
        """Give an accepted connection a place and look its peer up, or turn it away; return whether one was free."""
        process = process_of(end)
        if not self._standings.may_connect(process):
            self._waiting_room.put(end, FLOOD)
            return False
        caller = self._make_caller(end)
        uid = caller.peer.uid if caller.peer else None
        room = self._places.make_room_for(uid, process, is_lesser=True)
        if not room:
            caller.close()
            turn_away(end, NO_PLACE)
            return False
        handler = self()
        self._places.take(handler, uid, process, is_lesser=True)
        connection = self._open[handler] = _Connection(caller, process)
        connection.opening = self._loop.create_task(self._loop.connect_accepted_socket(lambda: handler, end))
        connection.opening.add_done_callback(functools.partial(self._opened, handler, end))
        return room is Room.FREE

    def turn_all_away(self) -> None:
        """Answer those at once that wait to be turned away."""
        self._waiting_room.close()

    def end_one_idle(self) -> None:
        """Give one connection up, if there is one that asks nothing."""
        self._places.end_one_idle()

    def _opened(self, handler: web.RequestHandler, end: socket.socket, opening: asyncio.Task[object]) -> None:
        connection = self._open.get(handler)
        if connection is not None:
            connection.opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._start_clock(handler)
            return
        end.close()
        if handler.transport is None:
            self._close(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Close the caller; aiohttp calls this once a connection is gone."""
        super().connection_lost(handler, exc)
        self._close(handler)

    def _close(self, handler: web.RequestHandler) -> None:
        connection = self._open.pop(handler, None)
        if connection is None:
            return
        if not connection.is_asking:
            self._places.leave(handler)
        connection.stop_clock()
        connection.caller.close()
        if connection.exchange is not None:
            connection.exchange.cancel()

    def _end(self, handler: web.RequestHandler) -> None:
        """At once: a peer that reads nothing can't make it wait."""
        connection = self._open.get(handler)
        if isinstance(handler.transport, asyncio.Transport):
            handler.transport.abort()
        elif connection is not None and connection.opening is not None:
            connection.opening.cancel()

    def _of(self, request: web.BaseRequest) -> _Connection:
        connection = self._open.get(request.protocol)
        if connection is None:
            raise PeerUnknownError("the client has closed the connection")
        return connection

    def _begun(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        handler: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Return the request whose head has come; who sends it is asked at once, where requests were granted before."""
        connection = self._open.get(handler)
        if connection is not None and connection.is_granted:
            connection.caller.look_ahead()
        return web.BaseRequest(message, payload, handler, writer, task, self._loop)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = request.protocol
        connection = self._open.get(handler)
        if connection is None:  # it left, or had to
            return answer_status(_GONE, "the connection is closed")
        connection.stop_clock()
        connection.requests += 1
        connection.is_asking = True
        self._places.has_asked(handler)
        try:
            response = await self._handler(request)
        finally:
            connection.is_asking = False
            if handler in self._open:
                self._places.is_idle(handler)
                self._start_clock(handler)
            else:
                self._places.leave(handler)
        if not connection.is_granted and connection.requests >= STRANGER_REQUESTS:
            response.force_close()
        return response

    def _start_clock(self, handler: web.RequestHandler) -> None:
        connection = self._open.get(handler)
        if connection is not None and not connection.is_granted:
            connection.stop_clock()
            connection.deadline = self._loop.call_later(STRANGER_IDLE_S, self._end, handler)

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one new connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(web.RequestHandler):
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


def process_of(end: SocketLike) -> ProcessKey | None:
    """Return the process that opened a unix connection; TCP keeps none."""
    try:
        pidfd = opener_pidfd(end)
    except PeerUnknownError:
        return None
    if pidfd is None:
        return None
    try:
        return process_key(pidfd)
    finally:
        os.close(pidfd)
