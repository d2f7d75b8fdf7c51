"""What is asked of the attestor over monitor.sock: at once if nothing has to be waited for, else by waiting.

Who asked gets an answer in any case: an attestation that broke is Unknown, and its cause goes to the log.
"""

import logging
from typing import Protocol

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.evidence import Freshness, Unknown, Verdict
from agent_broker.ids import ProcId
from agent_broker.lineage.record import Step
from agent_broker.monitor.messages import Attest, AttestSocket, Confirm, Question, Recheck

_LOG = logging.getLogger(__name__)


class AttestorPort(Protocol):
    """Who knows (identity.attest.Attestor)."""

    def attest_now(self, pidfd: int, known: Freshness | None = None) -> Verdict | None:
        """See Attestor."""
        ...

    def attest_socket_now(self, inode: int, known: Freshness | None = None) -> Verdict | None:
        """See Attestor."""
        ...

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        """See Attestor."""
        ...

    async def attest_socket(self, inode: int, known: Freshness | None = None) -> Verdict:
        """See Attestor."""
        ...

    def other_end_of(self, inode: int) -> int:
        """See Attestor."""
        ...

    def parents_of(self, pidfd: int) -> tuple[ProcId, ...]:
        """See Attestor."""
        ...

    def recheck_now(self, known: Freshness) -> Verdict | None:
        """See Attestor."""
        ...

    async def recheck(self, known: Freshness) -> Verdict:
        """See Attestor."""
        ...

    def confirm_now(self, pidfd: int, known: Freshness) -> Verdict | None:
        """See Attestor.confirm; None: it must be waited for."""
        ...

    async def confirm(self, pidfd: int, known: Freshness) -> Verdict:
        """See Attestor."""
        ...

    def describe(self, pid: int) -> tuple[tuple[Step, ...], str]:
        """See Attestor."""
        ...


class Verdicts:
    """See the module. ``fds``: the descriptors that came with a question; they stay the caller's."""

    def __init__(self, attestor: AttestorPort) -> None:
        self._attestor = attestor

    def now(self, request: Question, fds: list[int]) -> Verdict | None:
        """Return the answer if it needs no waiting; None: ask ``waiting``."""
        try:
            return self._now(request, fds)
        except Exception as error:  # noqa: BLE001 - who asked gets an answer, and the answer is no
            return _failed(error)

    async def waiting(self, request: Question, fds: list[int]) -> Verdict:
        """Return the answer, after whatever waiting it takes."""
        try:
            return await self._waiting(request, fds)
        except Exception as error:  # noqa: BLE001 - as in ``now``
            return _failed(error)

    def _now(self, request: Question, fds: list[int]) -> Verdict | None:
        match request:
            case Attest():
                return self._attestor.attest_now(fds[0], request.known)
            case AttestSocket():
                return self._attestor.attest_socket_now(request.inode, request.known)
            case Recheck():
                return self._attestor.recheck_now(request.known)
            case Confirm():
                return self._attestor.confirm_now(fds[0], request.known)

    async def _waiting(self, request: Question, fds: list[int]) -> Verdict:
        match request:
            case Attest():
                return await self._attestor.attest(fds[0], request.known)
            case AttestSocket():
                return await self._attestor.attest_socket(request.inode, request.known)
            case Recheck():
                return await self._attestor.recheck(request.known)
            case Confirm():
                return await self._attestor.confirm(fds[0], request.known)


def _failed(error: Exception) -> Unknown:
    """Return the verdict for an attestation that broke; the cause goes to the log."""
    _LOG.error("an attestation failed", exc_info=error)
    return Unknown(
        f"the attestation failed: {error}" if isinstance(error, AgentBrokerError) else "the attestation failed"
    )
