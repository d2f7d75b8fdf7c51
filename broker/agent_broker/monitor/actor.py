"""Who did it: from the pidfd of an event to a verdict that describes the program *at the time of the event*.

An opener that waits for our answer can't change; once it was answered it can: it may open a decoy and then turn into
the genuine agent by exec. So its numbers (kernel.maps.TaskRecord) are taken while it waits, which costs microseconds,
and everything else is asked of the recorded lineage by these numbers, afterwards. A later look at the process itself
counts only if it still has them; otherwise what is recorded of these numbers stands.
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Protocol

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown, Verdict
from agent_broker.identity.looks import NOT_YET
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Step
from agent_broker.monitor.glimpse import Glimpse

SECOND_LOOK_S = 10.0  # an agent's first hash: 400 MB from a slow disk
_PAUSES_S = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""For a look at the files of a script agent's package: 0.1 s, if they are in the memory."""

_log = logging.getLogger(__name__)


class AttestorPort(Protocol):
    """What the decoy watch asks of identity.attest.Attestor."""

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """Return the kernel's numbers of the process behind a pidfd now, in microseconds; from any thread."""
        ...

    def recall(self, record: TaskRecord) -> Verdict:
        """Say what is recorded of a program image, without waiting, whether it still runs or not.

        Unknown if waiting could tell more, an enrolled file without a hash included: Evidence is final.
        """
        ...

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        """Say what the process behind a pidfd is now, after whatever waiting and hashing it takes."""
        ...

    def describe(self, pid: int) -> tuple[tuple[Step, ...], str]:
        """Return the recorded lineage of a pid, for display, and why it is incomplete."""
        ...


@dataclass(slots=True)
class Actor:
    """What was held of a process while, or soon after, it did something. Owns its descriptors."""

    pid: int
    """For display, and to look at /proc; never an identity."""
    pidfd: int
    """Negative: it was gone."""
    record: TaskRecord | None
    """Its kernel numbers at that time; None: it has none, or was gone."""
    exe_fd: int | None = None
    """O_PATH descriptor of its executable."""
    glimpse: Glimpse | None = None
    """What /proc said of it at that time; for display."""

    def close(self) -> None:
        """Close the descriptors; again is fine."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
        if self.exe_fd is not None:
            os.close(self.exe_fd)
        self.pidfd, self.exe_fd = -1, None


class Actors:
    """See the module. Nothing here raises for what a process does or is."""

    def __init__(self, attestor: AttestorPort) -> None:
        self._attestor = attestor

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """Return the numbers of the process behind a pidfd; None: it has none, or there is no pidfd (negative).

        May be called from any thread; everything else here belongs to the event loop.
        """
        if pidfd < 0:
            return None
        try:
            return self._attestor.snapshot(pidfd)
        except Exception:  # noqa: BLE001 - an opener waits: whatever went wrong, it is answered, and reported unknown
            _log.exception("a process could not be looked up")
            return None

    def recall(self, actor: Actor) -> Verdict:
        """Return what is recorded of the program with the actor's numbers; never Unchanged."""
        try:
            if actor.record is None:
                steps, _ = self._attestor.describe(actor.pid)
                uid = steps[0].image.uid if steps else None
                return Unknown("it was gone before it could be looked up", uid=uid, steps=steps)
            verdict = self._attestor.recall(actor.record)
        except AgentBrokerError as error:
            return Unknown(f"the look-up failed: {error}")
        except Exception:  # noqa: BLE001 - see snapshot
            _log.exception("a process could not be identified")
            return Unknown("the look-up failed (see the monitor's log)")
        return Unknown("the look-up gave no evidence") if isinstance(verdict, Unchanged) else verdict

    async def closer(self, actor: Actor, first: Verdict) -> Verdict:
        """Return a better verdict, if patience brings one about the same program image; else the first.

        Raises:
            Exception: whatever the attestor raises; the first verdict stands then.
        """
        record = actor.record
        if isinstance(first, Evidence) or record is None or actor.pidfd < 0:
            return first
        try:
            second = await asyncio.wait_for(self._attestor.attest(actor.pidfd), SECOND_LOOK_S)
        except TimeoutError:
            return await self._once_looked_at(record, first)
        if isinstance(second, Evidence) and _is_of(second.freshness, record):
            return second
        return await self._once_looked_at(record, first)

    async def _once_looked_at(self, record: TaskRecord, first: Verdict) -> Verdict:
        """Return what is recorded once the look that its exec began is done: of an image that ended, or made way.

        A script agent reads its files in its first milliseconds, and may then execute itself anew.
        """
        for pause_s in _PAUSES_S:
            if not isinstance(first, Unknown) or first.reason != NOT_YET:
                break
            await asyncio.sleep(pause_s)
            first = self._attestor.recall(record)
        return first


def _is_of(freshness: Freshness, record: TaskRecord) -> bool:
    return (freshness.proc_id, freshness.exec_id) == (record.proc_id, record.exec_id)


def exe_path(actor: Actor) -> str:
    """Return where an actor's executable lies, in the monitor's view; empty: not known."""
    return exe_path_of(actor.exe_fd)


def exe_path_of(exe_fd: int | None) -> str:
    """Return where the file behind a descriptor lies; empty: not known."""
    if exe_fd is None:
        return ""
    try:
        return os.readlink(f"/proc/self/fd/{exe_fd}")  # noqa: PTH115 - a Path costs more than the call
    except OSError:
        return ""
