"""The ssh-agent socket's connections: each has a caller that is looked up when it is accepted, and an end.

The laws:

- One message at a time: the next is read when the answer to the last was taken over by the kernel's buffer.
- A message that has begun is whole within MESSAGE_S; until something was granted on it, a connection that asks nothing
  for STRANGER_IDLE_S ends, and so does one that has asked STRANGER_REQUESTS times.
- What a connection can make the broker hold is one message of ssh.messages.MAX_MESSAGE_BYTES, and the room for it is
  made when its length is known.
- Nobody keeps others out (admission): one user, and one process, holds a bounded number of connections, and those on
  which nothing was granted make room for newer ones. A process that connects too often, or was refused too often, is
  turned away before anything is looked up.
"""

import asyncio
import functools
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from agent_broker.admission.door import REST_TIMES, Door
from agent_broker.admission.places import Places, Room, Shares
from agent_broker.admission.standing import ProcessKey, Standings
from agent_broker.admission.waiting_room import WaitingRoom, turn_away
from agent_broker.ids import Uid
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.connections import process_of
from agent_broker.inject.peer import SocketLike
from agent_broker.sign.agent import Answer, Conversation, SshAgent
from agent_broker.ssh.messages import MAX_MESSAGE_BYTES, failure

MAX_CONNECTIONS: Final = 1024
MAX_CONNECTIONS_PER_USER: Final = 128
STRANGER_IDLE_S: Final = 15.0
STRANGER_REQUESTS: Final = 8
MESSAGE_S: Final = 5.0

_FIRST_ROOM_BYTES: Final = 2048  # a login's request has some 600
_LENGTH: Final = struct.Struct(">I")
_FAILURE: Final = failure()

_LOG = logging.getLogger(__name__)

MakeCaller = Callable[[SocketLike], ConnectionCaller]


class SignSocket:
    """Serves one listening unix stream socket from ``start`` until ``close``."""

    def __init__(
        self,
        listener: socket.socket,
        agent: SshAgent,
        make_caller: MakeCaller,
        *,
        standings: Standings | None = None,
        max_per_user: int = MAX_CONNECTIONS_PER_USER,
    ) -> None:
        """``standings``: shared with whoever else wants to know how a process behaved; None: its own."""
        self.agent = agent
        self.standings = standings or Standings()
        shares = Shares(MAX_CONNECTIONS, max_per_user, (max_per_user + 1) // 2, (max_per_user + 3) // 4)
        self.places: Places[Connection] = Places(shares, Connection.end)
        self._make_caller = make_caller
        self._waiting_room = WaitingRoom()
        self._door = Door(listener, self._admit, self.places.end_one_idle, rest_times=REST_TIMES)
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._door.open()

    async def close(self) -> None:
        """Stop: no new connection, open ones end without an answer. What is being decided is decided and recorded."""
        self._door.close()
        self._waiting_room.close()
        for connection in self.places.holders():
            connection.end()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, task: asyncio.Task[object]) -> None:
        """Keep a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _admit(self, end: socket.socket) -> bool:
        process = process_of(end)
        if not self.standings.may_connect(process):
            self._waiting_room.put(end, _FAILURE)
            return False
        caller = self._make_caller(end)
        uid = caller.peer.uid if caller.peer else None
        room = self.places.make_room_for(uid, process, is_lesser=True)
        if not room:
            caller.close()
            turn_away(end, _FAILURE)
            return False
        connection = Connection(self, caller, process, uid)
        self.places.take(connection, uid, process, is_lesser=True)
        loop = asyncio.get_running_loop()
        opening = loop.create_task(loop.connect_accepted_socket(lambda: connection, end))
        self.run(opening)
        opening.add_done_callback(functools.partial(_opened, connection, end))
        return room is Room.FREE


def _opened(connection: "Connection", end: socket.socket, opening: asyncio.Task[object]) -> None:
    if opening.cancelled() or opening.exception() is not None:
        end.close()
        connection.connection_lost(None)


class Connection(asyncio.BufferedProtocol):
    """One connection; made by SignSocket."""

    def __init__(
        self, owner: SignSocket, caller: ConnectionCaller, process: ProcessKey | None, uid: Uid | None
    ) -> None:
        self._owner = owner
        self._caller = caller
        self._process = process
        self._conversation = Conversation(caller, uid)
        self._transport: asyncio.Transport | None = None
        self._room = bytearray(_FIRST_ROOM_BYTES)
        self._filled = 0
        self._requests = 0
        self._is_granted = False
        self._is_asking = False
        self._is_closed = False
        self._is_unread = False
        self._deadline: asyncio.TimerHandle | None = None
        self._is_message_clock = False

    def end(self) -> None:
        """End it at once: a peer that reads nothing can't make it wait."""
        if self._transport is not None:
            self._transport.abort()
        else:
            self._is_closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        if not isinstance(transport, asyncio.Transport) or self._is_closed:
            transport.close()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol; the place is free once its request is done with, too."""
        del exc
        self._is_closed = True
        self._stop_clock()
        self._caller.close()
        if not self._is_asking:
            self._owner.places.leave(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        del sizehint
        return memoryview(self._room)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._filled += nbytes
        self._take_message()

    def eof_received(self) -> None:
        """See asyncio.Protocol: nobody waits for an answer any more."""

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol: the peer does not read its answer, so nothing more is read from it."""
        self._is_unread = True

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._is_unread = False
        if not self._is_asking:
            self._go_on()

    def _take_message(self) -> None:
        """Begin to answer if a whole message is here; make room for one that is longer than what there is."""
        transport = self._transport
        if transport is None or self._is_closed:
            return
        length = _LENGTH.unpack_from(self._room)[0] if self._filled >= _LENGTH.size else 0
        if length > MAX_MESSAGE_BYTES or (not length and self._filled >= _LENGTH.size):
            transport.abort()
            return
        whole = _LENGTH.size + length
        if not length or self._filled < whole:
            if len(self._room) < whole:
                self._room = self._room + bytes(whole - len(self._room))  # not in place: the reader has a view of it
            self._start_clock()
            return
        body = bytes(memoryview(self._room)[_LENGTH.size : whole])
        self._room = self._room[whole : self._filled] + bytearray(_FIRST_ROOM_BYTES)
        self._filled -= whole
        transport.pause_reading()
        self._stop_clock()
        self._is_asking = True
        self._owner.places.has_asked(self)
        self._owner.run(asyncio.get_running_loop().create_task(self._answer(body, transport)))

    async def _answer(self, body: bytes, transport: asyncio.Transport) -> None:
        answer = Answer(_FAILURE)
        try:
            answer = await self._owner.agent.answer(self._conversation, body)
        except Exception as error:  # noqa: BLE001 - the one exit: whatever goes wrong, the answer is no
            _LOG.error("a request to the ssh-agent failed: %s", type(error).__name__)
        finally:
            self._is_asking = False
            self._note(answer)
        if self._is_closed:
            self._owner.places.leave(self)
            return
        transport.write(answer.data)
        if not self._is_granted and self._requests >= STRANGER_REQUESTS:
            transport.close()
            return
        self._owner.places.is_idle(self)
        if self._is_unread:
            self._set_clock(MESSAGE_S)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._transport is None or self._is_closed:
            return
        self._stop_clock()
        self._transport.resume_reading()
        if self._filled:
            self._take_message()
        else:
            self._start_clock()

    def _note(self, answer: Answer) -> None:
        self._requests += 1
        if answer.is_refused:
            self._owner.standings.refused(self._process)
        if answer.is_granted and not self._is_granted:
            self._is_granted = True
            self._owner.places.promote(self)
            self._owner.standings.served(self._process)

    def _start_clock(self) -> None:
        """For a message that has begun, from its first byte; else for the next one, unless something was granted."""
        if self._filled:
            if not self._is_message_clock:
                self._set_clock(MESSAGE_S)
                self._is_message_clock = True
        elif not self._is_granted:
            self._set_clock(STRANGER_IDLE_S)

    def _set_clock(self, wait_s: float) -> None:
        self._stop_clock()
        if self._transport is not None:
            self._deadline = asyncio.get_running_loop().call_later(wait_s, self._transport.abort)

    def _stop_clock(self) -> None:
        self._is_message_clock = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
