"""What an incident says of its offender beside its lineage: command, folder, container, package, hashes, session, tier.

Opens of marked files have it from their own way (monitor.report); this is for all others, the broker's own included.

The law:
1. For display; nothing is decided by it. What is not known stays empty, and the incident goes out all the same.
2. /proc is read only of the process that the lineage names: its pid is held as a pidfd whose kernel numbers are those
   of the lineage's first step, and it must still have them afterwards. One that has become another program keeps its
   folder and container, and is shown with the arguments that were recorded. One that has ended has only these.
3. Bounded in time (monitor.fingerprint, monitor.ancestors, PACKAGE_DEADLINE_S) and in number: AT_ONCE looks; who comes
   when they are all taken gets what is recorded.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from msgspec import structs

from agent_broker.identity.distribution import Package
from agent_broker.ids import Epoch
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Step
from agent_broker.monitor.actor import exe_path_of
from agent_broker.monitor.ancestors import Ancestors
from agent_broker.monitor.details import details_of
from agent_broker.monitor.fingerprint import Fingerprint, Fingerprints, hold
from agent_broker.monitor.glimpse import Glimpse, glimpse, offender_of
from agent_broker.monitor.incident import NO_EPOCH, NO_TIER, Incident
from agent_broker.monitor.report import PACKAGE_DEADLINE_S, Packages

AT_ONCE = 32  # looks; each holds two descriptors


class Snapshots(Protocol):
    """Who knows the kernel's numbers of a process (identity.attest.Attestor)."""

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """See Attestor."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    """What was got hold of while the process was there."""

    seen: Glimpse | None = None
    exe_fd: int | None = None
    is_itself: bool = False
    """It has the numbers of the lineage's first step."""


class Completer:
    """See the module. Lives in the monitor's event loop."""

    def __init__(  # noqa: PLR0913 - the ports of one process, named arguments only
        self,
        *,
        attestor: Snapshots,
        fingerprints: Fingerprints,
        packages: Packages | None,
        session_of: Callable[[tuple[Step, ...]], str],
        epoch: Epoch,
        tier: str,
    ) -> None:
        """Take who knows; ``epoch`` is that of the attestor's numbers."""
        self._attestor = attestor
        self._fingerprints = fingerprints
        self._ancestors = Ancestors(fingerprints)
        self._packages = packages
        self._session_of = session_of
        self._epoch = epoch
        self._tier = tier
        self._looks = 0

    async def complete(self, incident: Incident) -> Incident:
        """Return an incident with what is known; whatever fails in the look at it, it is returned."""
        if incident.tier == NO_TIER:
            incident = structs.replace(incident, tier=self._tier)
        if not incident.lineage or incident.epoch not in {NO_EPOCH, self._epoch}:
            return incident
        held = _Held()
        if self._looks < AT_ONCE:
            with details_of(f"an incident ({incident.kind})"):
                held = self._hold(incident.lineage[0])
        if held.is_itself:
            incident = structs.replace(incident, epoch=self._epoch)
        return await self._look(incident, held)

    async def close(self) -> None:
        """Wait until no descriptor is in use any more."""
        await self._fingerprints.close()

    def _hold(self, step: Step) -> _Held:
        """Get hold of a lineage's first process, as long as it is there."""
        pid = step.pid
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return _Held()
        try:
            before = self._attestor.snapshot(pidfd)
            if before is None or before.proc_id != step.proc_id:
                return _Held()
            seen, exe_fd = glimpse(pid, pidfd), hold(pid)
            is_itself = before.exec_id == step.image.exec_id and self._attestor.snapshot(pidfd) == before
            if seen is not None and not is_itself:
                seen = replace(seen, arguments=b"")
            return _Held(seen, exe_fd, is_itself)
        finally:
            os.close(pidfd)

    async def _look(self, incident: Incident, held: _Held) -> Incident:
        steps = incident.lineage
        file = steps[0].image.file
        path = exe_path_of(held.exe_fd)  # before the descriptor is given away
        sha256, package = incident.process_sha256, None
        self._looks += 1
        try:
            with details_of(f"an incident ({incident.kind})"):
                looks = self._package(path, steps[0]), self._ancestors.look(steps)
                found, package, _ = await asyncio.gather(self._fingerprint(held.exe_fd, file), *looks)
                sha256 = sha256 or found.sha256
        finally:
            self._looks -= 1
        return structs.replace(
            incident,
            process_sha256=sha256,
            lineage=self._ancestors.named(steps),
            offender=offender_of(held.seen, steps, str(package or "")),
            session=incident.session or self._session_of(steps),
        )

    async def _fingerprint(self, exe_fd: int | None, file: FileFacts) -> Fingerprint:
        """Closes the descriptor."""
        known = self._fingerprints.known(file)
        if known is None:
            return await self._fingerprints.of(exe_fd, file)
        if exe_fd is not None:
            os.close(exe_fd)
        return known

    async def _package(self, path: str, step: Step) -> Package | None:
        """Search in a thread that nobody waits for longer than the deadline; the result is kept for the next."""
        if self._packages is None:
            return None
        path = path or step.image.filename
        known = self._packages.known(path, step.image.file)
        if known is not None:
            return known[0]
        search = asyncio.to_thread(self._packages.owner_of, path, step.image.file)
        try:
            return await asyncio.wait_for(search, PACKAGE_DEADLINE_S)
        except TimeoutError:
            return None


async def as_it_is(incident: Incident) -> Incident:
    """Return an incident unchanged: where nobody knows more."""
    return incident
