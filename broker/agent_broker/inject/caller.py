"""The process behind one connection, attested anew for every request.

The law of this module:
1. The caller is the one process that holds the client's socket, as the monitor attests it by the socket's inode.
2. On a unix socket, the process that opened the connection must be that same process: a passed socket is refused.
3. The connection must be younger than the program that holds it: a request written before the agent was executed
   over the writer is not the agent's request.
4. Rules 2 and 3 are checked once for each program (proc_id, exec_id) that is seen on the connection, and before
   anything about it is answered; rule 1, and that the socket is still at the other end, every time.
5. The first look at a request may begin when the last byte of its head has come, before anything of it was decided
   (``look_ahead``): it is the same question, it covers all who wrote until then, and its answer serves once.
6. Whatever can't be checked makes the caller Unknown, which is no.
"""

import contextlib
import os
import socket
from typing import Protocol

from agent_broker.errors import UnavailableError
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown, Verdict
from agent_broker.inject.peer import Peer, PeerFinder, PeerUnknownError, SocketLike, opener_pidfd
from agent_broker.issue import Caller


class Asked(Protocol):
    """A question to the monitor that is under way."""

    async def verdict(self) -> Verdict:
        """Return its answer."""
        ...


class Callers(Protocol):
    """Makes callers: the monitor's client."""

    def caller_by_pidfd(self, pidfd: int) -> Caller:
        """Return the process of a pidfd; the descriptor stays the maker's to close."""
        ...

    async def recheck(self, known: Freshness) -> Verdict:
        """Return Unchanged if the process of this evidence still lives and runs the same image."""
        ...

    async def other_end_of(self, inode: int) -> int:
        """Return the inode of the unix socket that is connected to this one, in whatever namespace; 0: none."""
        ...

    def caller_by_socket(self, inode: int, opener: int | None = None) -> Caller:
        """Return the one process that holds the socket of this inode; ``opener``: a pidfd of who opened it, if known.

        The descriptor stays the maker's, and must be open when an attestation begins.
        """
        ...

    def ask_ahead(self, inode: int, known: Freshness) -> Asked | None:
        """Ask what that caller's attest(known) would, without waiting for the answer; None: it can't be asked now."""
        ...


class ConnectionCaller:
    """See the module. Made when the connection is accepted; ``close`` when it is gone.

    Attributes:
        channel: ``inject unix`` or ``inject tcp``, for the journal.
        peer: the socket at the other end; None: there is none that counts.
    """

    def __init__(self, connection: SocketLike, finder: PeerFinder, callers: Callers) -> None:
        self.channel = "inject unix" if connection.family == socket.AF_UNIX else "inject tcp"
        self._connection = connection
        self._finder = finder
        self._callers = callers
        self._last: Evidence | None = None
        self._opened_by: Evidence | None = None
        self._ahead: Asked | None = None
        self._pidfd: int | None = None
        self.peer: Peer | None = None
        self._problem = Unknown(reason="the connection was not looked at yet")
        self._look()

    def close(self) -> None:
        """Give the descriptor back; the caller is Unknown from now on."""
        self.peer = None
        self._last = self._opened_by = self._ahead = None
        self._problem = Unknown(reason="the connection is closed")
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def look_ahead(self) -> None:
        """Ask at once who sends the request whose head has just come; the next ``attest`` takes the answer.

        Only if the holder was attested on this connection before; call it for each request.
        """
        self._ahead = None
        if self.peer is None or self._last is None or not self.peer.inode:
            return
        with contextlib.suppress(PeerUnknownError, UnavailableError):  # attest() finds the same, and says it
            self._finder.confirm(self.peer)
            self._ahead = self._callers.ask_ahead(self.peer.inode, self._last.freshness)

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """Return who sends this request; evidence that still holds is not asked for twice.

        With ``known`` of the evidence that this connection just gave: only whether that process is still the same.
        The socket was looked at for this request already, and a process can't give it away without being seen then.
        """
        peer = self.peer
        if peer is None:
            return self._problem
        if known is not None and self._last is not None and known == self._last.freshness:
            verdict = await self._callers.recheck(known)
            if isinstance(verdict, Unchanged):
                return verdict
        ahead, self._ahead = self._ahead, None
        try:
            if ahead is None:
                self._finder.confirm(peer)
        except (PeerUnknownError, UnavailableError) as error:
            return Unknown(reason=error.message, next_step=error.next_step)
        evidence = await self._current(peer, ahead)
        if isinstance(evidence, Unknown) or evidence.freshness != known:
            return evidence
        return Unchanged(freshness=evidence.freshness)

    async def attest_opener(self) -> Verdict:
        """Return who opened the connection, whoever writes on it: enough for what is no secret, and much quicker.

        Which process holds a socket is looked up in every table of open files of the machine; who opened it is not.
        """
        if self.peer is None or self._pidfd is None:
            return await self.attest()
        return await self._opener()

    async def _opener(self) -> Verdict:
        pidfd = os.dup(self._pidfd if self._pidfd is not None else -1)  # close() may come while the monitor is asked
        try:
            verdict = await self._callers.caller_by_pidfd(pidfd).attest(None)
        finally:
            os.close(pidfd)
        if self.peer is not None and isinstance(verdict, Evidence):
            self._opened_by = verdict
        return verdict

    def _look(self) -> None:
        try:
            self._pidfd = opener_pidfd(self._connection)
            self.peer = self._finder.find(self._connection)
        except (PeerUnknownError, UnavailableError) as error:
            self._problem = Unknown(reason=error.message, next_step=error.next_step)

    async def _current(self, peer: Peer, ahead: Asked | None) -> Evidence | Unknown:
        inode = peer.inode or await self._found_by_monitor(peer.own_inode)
        if not inode:
            return self._unless_closed(Unknown(reason="nobody holds the other end of the connection any more"))
        holder = self._callers.caller_by_socket(inode, self._pidfd)
        held = self._last or self._opened_by  # most often the holder is who opened it, and looks as he did then
        asked = ahead.verdict() if ahead else holder.attest(held.freshness if held else None)
        verdict: Verdict = await asked
        if isinstance(verdict, Unchanged):
            if held is None or verdict.freshness != held.freshness:
                return self._unless_closed(Unknown(reason="the monitor's answer does not belong to its question"))
            verdict = held
        if isinstance(verdict, Evidence) and not self._checked(verdict):
            verdict = await self._check(verdict, peer)
        verdict = self._unless_closed(verdict)
        self._last = verdict if isinstance(verdict, Evidence) else None
        return verdict

    async def _found_by_monitor(self, own_inode: int) -> int:
        """Ask anew each time: a number that was remembered could be another socket's by now. 0: there is none."""
        try:
            return await self._callers.other_end_of(own_inode)
        except UnavailableError:
            return 0

    def _unless_closed(self, verdict: Evidence | Unknown) -> Evidence | Unknown:
        return verdict if self.peer is not None else self._problem

    def _checked(self, evidence: Evidence) -> bool:
        return self._last is not None and _program(self._last) == _program(evidence)

    async def _check(self, evidence: Evidence, peer: Peer) -> Evidence | Unknown:
        if evidence.caller.exec_ns >= peer.opened_ns:
            return _no(evidence, "the connection is older than the program that holds it", "open a new connection")
        if self._pidfd is None:
            return evidence
        # a pidfd names one process for ever: who opened the connection need not be asked twice
        opener = self._opened_by or await self._opener()
        if not isinstance(opener, Evidence):
            return _no(evidence, "the process that opened the connection is unknown", "")
        if _process(opener) != _process(evidence):
            return _no(evidence, "the connection was opened by another process than the one that holds it", "")
        return evidence


def _process(evidence: Evidence) -> tuple[str, int]:
    return evidence.freshness.epoch, evidence.freshness.proc_id


def _program(evidence: Evidence) -> tuple[str, int, int]:
    freshness = evidence.freshness
    return freshness.epoch, freshness.proc_id, freshness.exec_id


def _no(evidence: Evidence, reason: str, next_step: str) -> Unknown:
    return Unknown(reason=reason, next_step=next_step, uid=evidence.uid, steps=evidence.steps)
