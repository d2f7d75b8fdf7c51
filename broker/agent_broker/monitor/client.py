"""The broker's (and root's) end of monitor.sock.

Requests are pipelined: many may be under way, answers are matched by number. While the monitor is down every
attestation is Unknown at once, so that nothing hangs and nothing is released; everything else raises. The connection
is made again at the next request. Attestations wait for their turn (monitor.turns), so that one lineage's flood of them
does not hold up the others'.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from agent_broker.admission.standing import Lane, Standings, process_key
from agent_broker.errors import UnavailableError
from agent_broker.identity.evidence import Freshness, Unknown, Verdict
from agent_broker.ids import Epoch, ProcId
from agent_broker.monitor.answers import AskedAhead, down, expect, verdict_in
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.messages import (
    MAX_MESSAGE_BYTES,
    Acknowledge,
    Answer,
    Attest,
    AttestSocket,
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
    Recheck,
    Reload,
    ReloadAnswer,
    Request,
    Subscribe,
    VerdictAnswer,
    WentOn,
    WhoWrote,
)
from agent_broker.monitor.parents import Lineages, Parents
from agent_broker.monitor.provenance import Provenance
from agent_broker.monitor.turns import AskingTurns

_TIMEOUT_S: Final = 30.0
"""An attestation may have to hash a binary of some hundred MB; a monitor that takes longer counts as down."""
_SOCKETS_AT_ONCE: Final = 2
"""Who holds a socket is looked up in every table of open files of the machine, which can take milliseconds."""
_SOCKETS_WAITING: Final = 2048
"""More than may be connected: whose they are is not known before that look, so they wait as they came."""
_OPENED_WAITING: Final = 24
"""And as many that take long: fewer than a user has lesser places (inject.connections), so a newcomer finds one."""
_TOO_MANY: Final = Unknown("its lineage asks more than can be heard at once", next_step="try again in a moment")


class MonitorClient:
    """See the module. One event loop; ``close`` it in the end."""

    def __init__(self, path: Path, standings: Standings | None = None) -> None:
        """``standings``: what is known of the processes that ask; None: nothing is."""
        self._path = path
        self._standings = standings or Standings()
        self._turns = AskingTurns()
        self._socket_turns = AskingTurns(_SOCKETS_AT_ONCE, _SOCKETS_WAITING)
        self._opened_turns = AskingTurns(_SOCKETS_AT_ONCE, _OPENED_WAITING, _OPENED_WAITING)
        self._parents = Parents(self._parents_of)
        self._socket: socket.socket | None = None
        self._full = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiter] = {}
        self._pushes: asyncio.Queue[IncidentPush | None] = asyncio.Queue()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        """Return what the monitor says of the process behind a pidfd; Unknown while the monitor is down."""
        if known is not None:  # it waits for nobody's turn
            return await self._verdict(Attest(next(self._numbers), known), pidfd)
        request = Attest(next(self._numbers))
        lane = self._standings.lane(process_key(pidfd))
        if lane is Lane.SERVED:
            return await self._verdict(request, pidfd)
        stop = partial(self._stop, request.id)
        async with self._turns.turn(lane, partial(self._parents.of, pidfd), stop) as may_ask:
            return await self._verdict(request, pidfd) if may_ask else _TOO_MANY

    async def attest_socket(self, inode: int, known: Freshness | None = None, opener: int | None = None) -> Verdict:
        """Return what the monitor says of the one process that holds a socket; Unknown while the monitor is down.

        ``opener``: pidfd of who opened the connection, if that is known: by its lineage the question waits.
        """
        if known is not None:
            return await self._verdict(AttestSocket(next(self._numbers), inode, known))
        request = AttestSocket(next(self._numbers), inode, None)
        if opener is None:
            async with self._socket_turns.turn(Lane.NEW, _nobody_known):
                return await self._verdict(request)
        opener = os.dup(opener)  # its connection may end meanwhile
        try:
            stop = partial(self._stop, request.id)
            async with self._opened_turns.turn(Lane.NEW, partial(self._parents.of, opener), stop) as may_ask:
                return await self._verdict(request) if may_ask else _TOO_MANY
        finally:
            os.close(opener)

    def ask_ahead(self, inode: int, known: Freshness) -> AskedAhead | None:
        """Ask now what attest_socket would ask, to be waited for later; None: now it can't be sent without waiting."""
        request = AttestSocket(next(self._numbers), inode, known)
        try:
            is_sent = self._try_send(request)
        except UnavailableError:
            return None
        return AskedAhead(self._expect_answer(request)) if is_sent else None

    async def other_end_of(self, inode: int) -> int:
        """Return the inode number of the unix socket that is connected to this one, in whatever namespace; 0: none.

        Raises:
            UnavailableError: the monitor is down.
        """
        async with self._socket_turns.turn(Lane.NEW, _nobody_known):
            return expect(await self._ask(FindOtherEnd(next(self._numbers), inode)), OtherEnd).inode

    async def recheck(self, known: Freshness) -> Verdict:
        """Return Unchanged if the process of this evidence still lives and runs the same image, else Unknown."""
        return await self._verdict(Recheck(next(self._numbers), known))

    async def confirm(self, pidfd: int, known: Freshness) -> Verdict:
        """Return Unchanged if the process of a pidfd still is what this evidence said, else Unknown.

        Holds whatever became of the kernel's events, and looks at nothing but the kernel's numbers.
        """
        return await self._verdict(Confirm(next(self._numbers), known), pidfd)

    async def describe_pid(self, pid: int) -> LineageAnswer:
        """Return the recorded lineage of a live process, for display.

        Raises:
            UnavailableError: the monitor is down.
        """
        answer = await self._ask(DescribePid(next(self._numbers), pid))
        return expect(answer, LineageAnswer)

    async def who_wrote(self, fd: int) -> Provenance:
        """Return who wrote an open file, for display. Raises as describe_pid."""
        return expect(await self._ask(WhoWrote(next(self._numbers)), fd), ProvenanceAnswer).provenance

    async def mount_view(self, fd: int) -> str:
        """Have the file view mounted with a descriptor of /dev/fuse; return why it can't be. Raises as describe_pid."""
        return expect(await self._ask(MountView(next(self._numbers)), fd), Mounted).problem

    async def status(self) -> MonitorStatus:
        """Return how the monitor is. Raises as describe_pid."""
        return expect(await self._ask(GetStatus(next(self._numbers))), MonitorStatus)

    async def reload(self) -> ReloadAnswer:
        """Let the monitor read the registry again; it is in force on return. Raises as describe_pid."""
        return expect(await self._ask(Reload(next(self._numbers))), ReloadAnswer)

    async def let_go_on(self, epoch: Epoch, proc_ids: Iterable[ProcId]) -> int:
        """Let the monitor continue those of these processes that it stopped; return how many. Raises as above."""
        answer = await self._ask(LetGoOn(next(self._numbers), epoch, tuple(proc_ids)))
        return expect(answer, WentOn).count

    async def complete(self, incident: Incident) -> Incident:
        """Return an incident with what the monitor knows of its offender. Raises as describe_pid."""
        return expect(await self._ask(Complete(next(self._numbers), incident)), Completed).incident

    async def incidents(self) -> AsyncGenerator[IncidentPush]:
        """Yield every incident that is not acknowledged, then new ones; ends when the connection does.

        Raises:
            UnavailableError: the monitor is down.
        """
        self._pushes = asyncio.Queue()
        pushes = self._pushes
        await self._send(Subscribe(next(self._numbers)))
        while (push := await pushes.get()) is not None:
            yield push

    async def acknowledge(self, sequence: int) -> None:
        """Say that all incidents up to this one are stored. Raises as describe_pid."""
        await self._send(Acknowledge(next(self._numbers), sequence))

    def caller_by_pidfd(self, pidfd: int) -> "PidfdCaller":
        """Return the caller that a pidfd names; the descriptor stays its owner's."""
        return PidfdCaller(self, pidfd)

    def caller_by_socket(self, inode: int, opener: int | None = None) -> "SocketCaller":
        """Return the caller that alone holds a socket; ``opener``: a pidfd, which stays its owner's."""
        return SocketCaller(self, inode, opener)

    async def close(self) -> None:
        """Hang up; whoever waits for an answer gets none."""
        self._hang_up()

    async def _verdict(self, request: Question, *pidfds: int) -> Verdict:
        return await verdict_in(self._ask(request, *pidfds))

    async def _ask(self, request: Request, *pidfds: int) -> Answer:
        await self._send(request, *pidfds)
        try:
            return await self._expect_answer(request)
        finally:
            self._forget(request)

    async def _parents_of(self, pidfds: list[int]) -> Lineages:
        return expect(await self._ask(GetParents(next(self._numbers)), *pidfds), ParentsAnswer).lineages

    def _stop(self, number: int) -> None:
        """Answer a question that takes long, in the monitor's place: whoever waits for it is refused."""
        kept = self._waiting.pop(number, None)
        if kept is not None:
            kept.deadline.cancel()
            if not kept.answer.done():
                kept.answer.set_result(VerdictAnswer(number, _TOO_MANY))

    def _expect_answer(self, request: Request) -> asyncio.Future[Answer]:
        """Return what the answer to a question that was just sent is put into, or that none came in time."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        deadline = loop.call_later(_TIMEOUT_S, self._give_up, request.id)  # a third of what asyncio.timeout() costs
        self._waiting[request.id] = _Waiter(waiter, deadline)
        return waiter

    def _forget(self, request: Request) -> None:
        kept = self._waiting.pop(request.id, None)
        if kept is not None:
            kept.deadline.cancel()

    def _give_up(self, number: int) -> None:
        kept = self._waiting.pop(number, None)
        if kept is not None and not kept.answer.done():
            kept.answer.set_exception(down())

    async def _send(self, request: Request, *pidfds: int) -> None:
        loop = asyncio.get_running_loop()
        while not self._try_send(request, *pidfds):
            await self._until_room(loop, self._connected())

    def _try_send(self, request: Request, *pidfds: int) -> bool:
        """Send without waiting; return whether there was room."""
        data = self._encoder.encode(request)
        connection = self._connected()
        try:
            if pidfds:
                socket.send_fds(connection, [data], pidfds)
            else:
                connection.send(data)
        except BlockingIOError:
            return False
        except OSError as error:
            self._hang_up()
            raise down() from error
        return True

    async def _until_room(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        try:
            # one waits for room at a time: the loop knows one writer a socket
            async with asyncio.timeout(_TIMEOUT_S), self._full:
                await _writable(loop, connection)
        except TimeoutError as error:
            raise down() from error

    def _connected(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            connection.connect(os.fspath(self._path))
        except OSError as error:
            connection.close()
            raise down() from error
        self._socket = connection
        asyncio.get_running_loop().add_reader(connection, self._read)
        return connection

    def _read(self) -> None:
        connection = self._socket
        while connection is not None and connection is self._socket:
            try:
                data = connection.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._hang_up()
                return
            self._take(data)
            if not self._waiting:
                return  # nothing is to come, most likely; if so, the loop calls again

    def _take(self, data: bytes) -> None:
        try:
            answer = self._decoder.decode(data)
        except msgspec.DecodeError:  # another version: nothing it says can be believed
            self._hang_up()
            return
        if isinstance(answer, IncidentPush):
            self._pushes.put_nowait(answer)
            return
        kept = self._waiting.pop(answer.id, None)
        if kept is None:
            return
        kept.deadline.cancel()
        if not kept.answer.done():
            kept.answer.set_result(answer)

    def _hang_up(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for kept in self._waiting.values():
            kept.deadline.cancel()
            if not kept.answer.done():
                kept.answer.set_exception(down())
        self._waiting.clear()
        self._pushes.put_nowait(None)


class _Waiter(NamedTuple):
    """Somebody who waits for an answer, and until when."""

    answer: asyncio.Future[Answer]
    deadline: asyncio.TimerHandle


class PidfdCaller:
    """The process behind a pidfd."""

    def __init__(self, client: MonitorClient, pidfd: int) -> None:
        self._client = client
        self._pidfd = pidfd

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """See issue.Caller."""
        return await self._client.attest(self._pidfd, known)


class SocketCaller:
    """The one process that holds a socket."""

    def __init__(self, client: MonitorClient, inode: int, opener: int | None) -> None:
        self._client = client
        self._inode = inode
        self._opener = opener

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """See issue.Caller."""
        return await self._client.attest_socket(self._inode, known, self._opener)


async def _nobody_known() -> tuple[ProcId, ...]:
    return ()


async def _writable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(connection, ready.set_result, None)
    try:
        await ready
    finally:
        loop.remove_writer(connection)
