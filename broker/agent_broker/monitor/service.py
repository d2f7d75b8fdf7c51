"""monitor.sock: answers root and the broker, nobody else, and believes neither: no request changes what is watched.

One request is one datagram; an answer carries its number. An attestation that needs no waiting is answered at once;
others run as tasks, so that a long hash holds nobody up. Every descriptor that comes with a message is closed here.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import msgspec

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.evidence import Unknown
from agent_broker.ids import Epoch, ProcId
from agent_broker.monitor.completing import as_it_is
from agent_broker.monitor.datagram import close_all, receive
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.messages import (
    MAX_MESSAGE_BYTES,
    MAX_PROCESSES,
    Acknowledge,
    Answer,
    Attest,
    Complete,
    Completed,
    Confirm,
    DescribePid,
    FindOtherEnd,
    GetParents,
    GetStatus,
    IncidentPush,
    LetGoOn,
    LineageAnswer,
    MonitorStatus,
    Mounted,
    MountView,
    OtherEnd,
    ParentsAnswer,
    ProvenanceAnswer,
    Question,
    Rejected,
    Reload,
    ReloadAnswer,
    Request,
    Subscribe,
    VerdictAnswer,
    WentOn,
    WhoWrote,
)
from agent_broker.monitor.provenance import Provenance, not_recorded
from agent_broker.monitor.spool import Spool
from agent_broker.monitor.verdicts import AttestorPort, Verdicts

_LOG = logging.getLogger(__name__)

_PEERCRED: Final = struct.Struct("3i")
_WINDOW: Final = 16
"""Incidents sent ahead of their acknowledgement: with the longest lineage each, they fit a socket's buffer."""
_BATCH: Final = 64
"""Requests taken from one connection before others get their turn."""

_NOT_WATCHED: Final = not_recorded("this monitor does not watch who writes new versions")


class _Subscriber:
    """Who wants incidents, and how far it has got them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = 0


class Service:
    """See the module. Runs from ``start`` until ``close`` in one event loop."""

    def __init__(  # noqa: PLR0913 - the parts of one process, named
        self,
        *,
        listener: socket.socket,
        broker_uid: int,
        attestor: AttestorPort,
        spool: Spool,
        reload: Callable[[], Awaitable[tuple[int, int, tuple[str, ...]]]],
        status: Callable[[int], MonitorStatus],
        subscribed: Callable[[int], None] = lambda _: None,
        who_wrote: Callable[[int], Provenance] = lambda _: _NOT_WATCHED,
        let_go_on: Callable[[Epoch, tuple[ProcId, ...]], int] = lambda _epoch, _ids: 0,
        mount_view: Callable[[int, int], str] = lambda _fd, _pid: "this monitor mounts nothing",
        complete: Callable[[Incident], Awaitable[Incident]] = as_it_is,
    ) -> None:
        """Take the parts; the listener is closed with the service.

        Args:
            listener: of ``listener.bind_monitor_socket``.
            broker_uid: who may ask besides root.
            attestor: who knows.
            spool: incidents for subscribers.
            reload: reads the registry again; returns agents, decoys, problems.
            status: makes the answer to GetStatus with this number.
            subscribed: called with the pid of who subscribes: a broker has started.
            who_wrote: says who wrote the file behind a descriptor.
            let_go_on: continues what this monitor stopped; returns how many.
            complete: says what is known of an incident's offender, and stops it if the operator wants that.
            mount_view: mounts the file view with a descriptor, for the process of a pid; returns why it can't.
        """
        self._listener = listener
        self._broker_uid = broker_uid
        self._attestor = attestor
        self._verdicts = Verdicts(attestor)
        self._spool = spool
        self._reload = reload
        self._status = status
        self._subscribed = subscribed
        self._who_wrote = who_wrote
        self._let_go_on = let_go_on
        self._mount_view = mount_view
        self._complete = complete
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
        self._connections: dict[socket.socket, deque[bytes]] = {}
        """Everybody who is connected, and the answers that wait for room in its buffer."""
        self._subscribers: dict[socket.socket, _Subscriber] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to answer."""
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Hang up on everybody."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in tuple(self._connections):
            self._hang_up(connection)

    def publish(self) -> None:
        """Push what the spool holds to every subscriber; call after something was added."""
        for connection in tuple(self._subscribers):
            self._push(connection)

    def _push(self, connection: socket.socket) -> None:
        """Send what the subscriber has not got yet, at most a window ahead of what it acknowledged."""
        subscriber = self._subscribers[connection]
        for entry in self._spool.unacknowledged()[:_WINDOW]:
            if self._connections.get(connection):
                return  # its buffer is full: more when there is room
            if entry.sequence > subscriber.sent:
                subscriber.sent = entry.sequence
                self._send(connection, IncidentPush(subscriber.number, entry.sequence, entry.incident))

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        if self._peer_of(connection)[1] not in {0, self._broker_uid}:
            connection.close()
            return
        self._connections[connection] = deque()
        asyncio.get_running_loop().add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data, descriptors = receive(connection)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                close_all(descriptors)
                self._hang_up(connection)
                return
            self._take(connection, data, descriptors)
            if self._connections.get(connection) != deque():
                return  # it hung up, or must read its answers first

    def _take(self, connection: socket.socket, data: bytes, descriptors: list[int]) -> None:
        try:
            request = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            close_all(descriptors)
            self._send(connection, Rejected(0, f"malformed request: {error}"))
            return
        if isinstance(request, GetParents):
            self._answer_parents(connection, request.id, descriptors)
            return
        wanted = 1 if isinstance(request, Attest | Confirm | WhoWrote | MountView) else 0
        if len(descriptors) != wanted:
            close_all(descriptors)
            self._send(connection, Rejected(request.id, f"{wanted} descriptors belong to this request"))
            return
        if isinstance(request, WhoWrote | MountView):
            self._answer_descriptor(connection, request, descriptors)
        elif isinstance(request, Question):
            self._attest(connection, request, descriptors)
        else:
            self._answer(connection, request)

    def _answer(self, connection: socket.socket, request: Request) -> None:
        """Answer what came without a descriptor."""
        match request:
            case FindOtherEnd():
                self._send(connection, OtherEnd(request.id, self._attestor.other_end_of(request.inode)))
            case Reload():
                self._run(self._answer_reload(connection, request.id))
            case DescribePid():
                steps, reason = self._attestor.describe(request.pid)
                self._send(connection, LineageAnswer(request.id, steps, reason))
            case GetStatus():
                self._send(connection, self._status(request.id))
            case Subscribe():
                self._subscribe(connection, request.id)
            case Acknowledge():
                self._acknowledge(request.sequence)
            case Complete():
                self._run(self._answer_completed(connection, request))
            case LetGoOn():
                self._send(connection, WentOn(request.id, self._let_go_on(request.epoch, request.proc_ids)))

    def _attest(self, connection: socket.socket, request: Question, descriptors: list[int]) -> None:
        """Answer at once if nothing has to be waited for; else as a task, which then owns the descriptor."""
        verdict = self._verdicts.now(request, descriptors)
        if verdict is None:
            self._run(self._attest_waiting(connection, request, descriptors))
            return
        close_all(descriptors)
        self._send(connection, VerdictAnswer(request.id, verdict))

    async def _attest_waiting(self, connection: socket.socket, request: Question, fds: list[int]) -> None:
        try:
            verdict = await self._verdicts.waiting(request, fds)
        finally:
            close_all(fds)
        self._send(connection, VerdictAnswer(request.id, verdict))

    async def _answer_reload(self, connection: socket.socket, number: int) -> None:
        try:
            agents, decoys, problems = await self._reload()
        except AgentBrokerError as error:
            self._send(connection, Rejected(number, error.explain()))
            return
        self._send(connection, ReloadAnswer(number, agents, decoys, problems))

    async def _answer_completed(self, connection: socket.socket, request: Complete) -> None:
        self._send(connection, Completed(request.id, await self._complete(request.incident)))

    def _answer_descriptor(self, connection: socket.socket, request: WhoWrote | MountView, fds: list[int]) -> None:
        try:
            if isinstance(request, WhoWrote):
                answer: Answer = ProvenanceAnswer(request.id, self._who_wrote(fds[0]))
            else:
                answer = Mounted(request.id, self._mount_view(fds[0], self._peer_of(connection)[0]))
        finally:
            close_all(fds)
        self._send(connection, answer)

    def _answer_parents(self, connection: socket.socket, number: int, fds: list[int]) -> None:
        try:
            if len(fds) > MAX_PROCESSES:
                answer: Answer = Rejected(number, f"no more than {MAX_PROCESSES} descriptors belong to this request")
            else:
                answer = ParentsAnswer(number, tuple(self._attestor.parents_of(fd) for fd in fds))
        finally:
            close_all(fds)
        self._send(connection, answer)

    def _subscribe(self, connection: socket.socket, number: int) -> None:
        self._subscribers[connection] = _Subscriber(number)
        self._subscribed(self._peer_of(connection)[0])
        self._push(connection)

    def _acknowledge(self, sequence: int) -> None:
        try:
            self._spool.acknowledge(sequence)
        except UnavailableError as error:
            _LOG.warning("%s", error.message)
        self.publish()

    def _run(self, answering: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, connection: socket.socket, answer: Answer) -> None:
        if connection not in self._connections:
            return  # hung up while we worked
        data = self._encoder.encode(answer)
        if len(data) > MAX_MESSAGE_BYTES and isinstance(answer, VerdictAnswer):
            data = self._encoder.encode(VerdictAnswer(answer.id, Unknown("the lineage is too long to be told")))
        elif len(data) > MAX_MESSAGE_BYTES:
            data = self._encoder.encode(Rejected(answer.id, "the answer is too long"))
        self._connections[connection].append(data)
        self._flush(connection)

    def _flush(self, connection: socket.socket) -> None:
        """Send what waits; while the peer's buffer is full, read no more of its requests."""
        waiting = self._connections[connection]
        loop = asyncio.get_running_loop()
        try:
            while waiting:
                connection.send(waiting[0])
                waiting.popleft()
        except BlockingIOError:
            loop.remove_reader(connection)
            loop.add_writer(connection, self._go_on, connection)
        except OSError:
            self._hang_up(connection)

    def _go_on(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_writer(connection)
        loop.add_reader(connection, self._read, connection)
        self._flush(connection)
        if connection in self._subscribers:
            self._push(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(connection)
        loop.remove_writer(connection)
        self._connections.pop(connection, None)
        self._subscribers.pop(connection, None)
        connection.close()

    def _peer_of(self, connection: socket.socket) -> tuple[int, int]:
        """Return pid and uid of who connected."""
        pid, uid, _ = _PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        return int(pid), int(uid)
