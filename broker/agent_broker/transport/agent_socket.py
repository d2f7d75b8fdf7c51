"""agent.sock: everybody may connect, everybody is known, nobody can make it wait.

The laws:

- One request and one answer a connection, then it is closed. Each is one message.
- A handler runs only for a well-formed request whose writer is proven to be the process that connected
  (transport.peer); it gets a pidfd of that process, which stays open until the answer is sent.
- Every connection ends: ``Limits`` bounds the wait for a request and the time to answer it.
- Every failure is answered with an exit code and a sentence, if the caller still listens; none is answered
  with anything that the caller sent, and none leaves a descriptor behind.
- Nobody keeps others out (admission): connections that have not asked yet are closed, oldest first, when a place is
  needed; one process holds few; and one that asks too often, or is refused again and again, is told so at once,
  before its request is read or anything is asked about it.

One thread, one loop. asyncio has no SEQPACKET, hence the sockets are read directly.
"""

import asyncio
import functools
import logging
import os
import socket
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Self

from agent_broker.admission.door import Door
from agent_broker.admission.places import Places, Room
from agent_broker.admission.standing import Lane, ProcessKey, Standings, process_key
from agent_broker.admission.waiting_room import SEND_FLAGS, WaitingRoom, turn_away
from agent_broker.errors import AgentBrokerError, MisuseError, RefusedError, UnavailableError
from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    NONCE_BYTES,
    FrameError,
    FrameType,
    ShimAnswer,
    ShimRequest,
    VersionError,
    decode_nonce,
    decode_request,
    encode_answer,
    encode_nonce,
    encode_versions,
)
from agent_broker.transport.limits import Limits
from agent_broker.transport.listener import bind_unix_listener
from agent_broker.transport.peer import (
    Message,
    Peer,
    PeerMethod,
    check_writer,
    detect_method,
    open_connector,
    prepare_listener,
    receive,
)
from agent_broker.vault.secret import Secret

_log = logging.getLogger(__name__)

_PEEK: Final = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)

SOCKET_MODE = 0o666  # who may ask is not the file's to say

Handler = Callable[[ShimRequest, Peer], Awaitable[ShimAnswer]]


class AgentSocket:
    """See the module. Bound at construction, answering from ``start`` until ``close``."""

    def __init__(  # noqa: PLR0913 - all but the first two have a default
        self,
        path: Path,
        handle: Handler,
        *,
        limits: Limits | None = None,
        method: PeerMethod | None = None,
        listener: socket.socket | None = None,
        standings: Standings | None = None,
    ) -> None:
        """Bind ``path``, or take over ``listener``, which is bound there.

        ``standings``: shared with whoever else wants to know how a process behaved; None: its own.

        Raises:
            MisuseError, UnavailableError: as ``bind_agent_socket`` and ``prepare_listener``.
        """
        self._path = path
        self._handle = handle
        self._limits = limits or Limits()
        self._method = method or detect_method()
        self._listener = listener if listener is not None else bind_agent_socket(path, method=self._method)
        self._buffer = bytearray(MAX_FRAME_BYTES + 1)
        self._standings = standings or Standings()
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._places: Places[asyncio.Task[None]] = Places(self._limits.shares, asyncio.Task.cancel, self._is_heard)
        self._waiting_room = WaitingRoom()
        self._door = Door(self._listener, self._admit, self._places.end_one_idle)

    @classmethod
    def from_listening(
        cls,
        listener: socket.socket,
        handle: Handler,
        *,
        limits: Limits | None = None,
        method: PeerMethod | None = None,
        standings: Standings | None = None,
    ) -> Self:
        """Serve a socket that listens already: bound by root, used by a process that no longer is.

        Raises:
            MisuseError: it is not a listening unix SEQPACKET socket.
            UnavailableError: the kernel does not have ``method``.
        """
        kind = listener.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        name = listener.getsockname()
        if (listener.family, kind, listens) != (socket.AF_UNIX, socket.SOCK_SEQPACKET, 1) or not isinstance(name, str):
            raise MisuseError("the socket handed over is not a listening unix SEQPACKET socket with a path")
        method = method or detect_method()
        prepare_listener(listener, method)
        return cls(Path(name), handle, limits=limits, method=method, listener=listener, standings=standings)

    @property
    def path(self) -> Path:
        """Where callers find it."""
        return self._path

    def peer_method(self) -> str:
        """Return how writers are identified on this kernel (values of ``PeerMethod``), for doctor."""
        return self._method.value

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._door.open()

    async def close(self) -> None:
        """Stop: no new connection, running ones are dropped without an answer, all descriptors closed.

        The socket's file stays: its folder is root's. The next daemon replaces it.
        """
        self._door.close()
        self._waiting_room.close()
        tasks = self._places.holders()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _admit(self, connection: socket.socket) -> bool:
        if _has_left(connection):
            connection.close()
            return False
        try:
            peer = open_connector(connection, self._method)
        except AgentBrokerError as error:
            if isinstance(error, UnavailableError):
                _log.error("no connection can be accepted: %s", error.message)
                self._places.end_one_idle()
            turn_away(connection, bytes(encode_answer(answer_for(error))))
            return False
        process = process_key(peer.pidfd)
        if not self._standings.may_connect(process):
            peer.close()
            self._waiting_room.put(connection, _TOO_OFTEN)
            return False
        is_lesser = self._is_suspect(process)
        room = self._places.make_room_for(peer.uid, process, is_lesser=is_lesser)
        if not room:
            peer.close()
            turn_away(connection, _NO_PLACE)
            return False
        task = asyncio.get_running_loop().create_task(self._converse(connection, peer, process))
        self._connections[task] = connection
        self._places.take(task, peer.uid, process, is_lesser=is_lesser)
        # Not in a ``finally`` of the task: a task that is cancelled before its first step never gets there.
        task.add_done_callback(functools.partial(self._leave, connection, peer))
        return room is Room.FREE

    def _is_heard(self, task: asyncio.Task[None]) -> bool:
        """Whether a whole request waits to be read; where it must be confirmed too, that is not enough."""
        if self._method.needs_confirmation:
            return False
        try:
            return bool(self._connections[task].recv(1, _PEEK))
        except OSError:
            return False

    def _is_suspect(self, process: ProcessKey | None) -> bool:
        return self._standings.lane(process) is Lane.REFUSED

    def _leave(self, connection: socket.socket, peer: Peer, task: asyncio.Task[None]) -> None:
        connection.close()
        peer.close()
        del self._connections[task]
        self._places.leave(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection of agent.sock failed: %s", where_it_failed(error))

    async def _converse(self, connection: socket.socket, peer: Peer, process: ProcessKey | None) -> None:
        try:
            request = await self._take_request(connection, peer)
            _send(connection, await self._answer(request, peer, process))
        except VersionError:
            _send(connection, bytearray(encode_versions()))
        except AgentBrokerError as error:
            _log.info("a message on agent.sock was refused: %s", error.message)
            _send(connection, encode_answer(answer_for(error)))
        except OSError as error:
            _log.debug("a connection of agent.sock ended early: %s", error.strerror)

    async def _take_request(self, connection: socket.socket, peer: Peer) -> ShimRequest:
        try:
            async with asyncio.timeout(self._limits.idle_s):
                request = decode_request(await self._take_message(connection, peer))
                if self._method.needs_confirmation:
                    await self._confirm(connection, peer)
        except TimeoutError as error:
            raise UnavailableError("no request came in time", next_step="connect only to ask") from error
        task = asyncio.current_task()
        if task is not None:
            self._places.has_asked(task)
        return request

    async def _take_message(self, connection: socket.socket, peer: Peer) -> bytes:
        with await self._receive(connection) as message:
            if not message.is_whole:
                raise FrameError(f"more than {MAX_FRAME_BYTES} bytes, or descriptors attached,", MAX_FRAME_BYTES)
            check_writer(peer, message, self._method)
            return message.data

    async def _receive(self, connection: socket.socket) -> Message:
        while True:
            try:
                return receive(connection, self._buffer, self._method)
            except BlockingIOError:
                await _readable(connection)

    async def _confirm(self, connection: socket.socket, peer: Peer) -> None:
        """See PeerMethod.SO_PEERCRED: the writer must say something that it could not know before."""
        nonce = os.urandom(NONCE_BYTES)
        connection.send(encode_nonce(FrameType.CHALLENGE, nonce), SEND_FLAGS)
        data = await self._take_message(connection, peer)
        if decode_nonce(data, FrameType.CONFIRM) != nonce:
            raise RefusedError("writer", "the writer did not send the broker's nonce back")

    async def _answer(self, request: ShimRequest, peer: Peer, process: ProcessKey | None) -> bytearray:
        """Return the frame of the handler's answer, or of the error that it ended with."""
        try:
            async with asyncio.timeout(self._limits.answer_s) as limit:
                answer = await self._handle(request, peer)
            if isinstance(answer.stdout, Secret):  # nobody gets one who was not attested
                self._standings.served(process)
            try:
                return encode_answer(answer)
            finally:
                answer.wipe()
        except AgentBrokerError as error:
            if isinstance(error, RefusedError):
                self._standings.refused(process)
            return encode_answer(answer_for(error))
        except Exception as error:  # noqa: BLE001 - the one exit: whatever a handler does, its caller gets an answer
            if limit.expired():
                failure: AgentBrokerError = UnavailableError("the broker did not finish in time", next_step="try again")
            else:
                _log.error("protocol %s failed: %s", request.protocol, where_it_failed(error))
                failure = AgentBrokerError("internal error", next_step="see the daemon's log")
            return encode_answer(answer_for(failure))


def bind_agent_socket(path: Path, *, method: PeerMethod | None = None) -> socket.socket:
    """Return agent.sock, listening; see ``listener.bind_unix_listener`` for what is replaced and raised."""
    prepare = functools.partial(prepare_listener, method=method or detect_method())
    return bind_unix_listener(path, kind=socket.SOCK_SEQPACKET, mode=SOCKET_MODE, prepare=prepare)


def answer_for(error: AgentBrokerError) -> ShimAnswer:
    """Return what a shim prints for an error of ours: the family's exit code, the sentence, the next step."""
    return ShimAnswer(error.exit_code, stderr=f"agent-broker: {error.explain()}\n".encode(errors="replace"))


_NO_PLACE: Final = bytes(
    encode_answer(answer_for(UnavailableError("too many connections at once", next_step="try again in a moment")))
)
_TOO_OFTEN: Final = bytes(
    encode_answer(
        answer_for(
            RefusedError(
                "flood",
                "this process asks too often, or was refused too often",
                next_step="wait ten seconds, then ask once",
            )
        )
    )
)
"""Made once: they are what a flood is answered with."""


def where_it_failed(error: BaseException) -> str:
    """Return type and place of an exception, never its message: that may quote what a caller sent."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _has_left(connection: socket.socket) -> bool:
    """Whether the peer hung up without a word: then nobody is looked up, and nobody waits for an answer."""
    try:
        return not connection.recv(1, _PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    event: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _wake, event)
    try:
        await event
    finally:
        loop.remove_reader(connection)


def _wake(event: asyncio.Future[None]) -> None:
    if not event.done():
        event.set_result(None)


def _send(connection: socket.socket, frame: bytearray) -> None:
    """Send and overwrite; a caller that is gone, or whose buffer is full, gets nothing."""
    try:
        connection.send(frame, SEND_FLAGS)
    except OSError as error:
        _log.debug("an answer on agent.sock was not taken: %s", error.strerror)
    finally:
        frame[:] = bytes(len(frame))
