"""From an event that was answered to an incident that is published, without holding anything up.

In this order:
1. What the recorded lineage could not tell at once is asked again, with waiting (an agent whose hash is not taken
   yet); monitor.actor says when the second answer counts. What the same program does meanwhile is counted with it.
2. The event is folded into the incident of its line (monitor.fold).
3. If that makes a new incident or a worse one: the executable's hash is taken, bounded (monitor.fingerprint), its
   ancestors' too (monitor.ancestors), and its package is looked up. Then the incident is published, complete. Repeats
   are published as its revisions.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from agent_broker.clock import Clock
from agent_broker.identity.distribution import Package
from agent_broker.identity.evidence import Evidence, Verdict, steps_of
from agent_broker.ids import Epoch
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Step
from agent_broker.monitor.actor import Actor, Actors, exe_path
from agent_broker.monitor.ancestors import Ancestors
from agent_broker.monitor.details import details_of
from agent_broker.monitor.detection import ONLY_SEEN, EventFacts, decide_change, decide_missed, decide_open, gist_of
from agent_broker.monitor.fingerprint import Fingerprint, Fingerprints, is_alive
from agent_broker.monitor.fold import PER_FAMILY, Folder, Seen
from agent_broker.monitor.glimpse import offender_of
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.lines import UNIDENTIFIED, Line, line_of
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.teller import Teller

MAX_PENDING = 128  # looks at once; each holds two descriptors
MAX_WAITING = 64  # different things that one program does while it is looked at
PACKAGE_DEADLINE_S = 1.0  # an incident waits no longer for the package of an executable, as for its hash

_HURRIED = "too much happened at once to hash it"
_FAILED = "the monitor failed to look closer"


class Publish(Protocol):
    """Where incidents go; durable, or counted as lost, when it returns."""

    def __call__(self, incident: Incident) -> None:
        """Publish one incident."""
        ...


class Packages(Protocol):
    """Who knows packages (identity.distribution)."""

    def known(self, path: str, facts: FileFacts) -> tuple[Package | None] | None:
        """See Distribution."""
        ...

    def owner_of(self, path: str, facts: FileFacts) -> Package | None:
        """See Distribution; called in a thread."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """One event that was answered (if it asked for an answer). The actor's descriptors belong to the reporter."""

    decoy: Mark
    actor: Actor
    verdict: Verdict
    """What is recorded of the actor."""
    action: str
    other_name: str = ""
    change: str = ""
    """A verb phrase if the decoy was changed; empty if it was opened."""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Watcher:
    """What every incident says of the monitor that made it, and who knows what belongs into it."""

    epoch: Epoch
    tier: str
    packages: Packages | None = None
    session_of: Callable[[tuple[Step, ...]], str] = lambda _: ""
    """Returns the agent's session that a lineage belongs to, as far as it is recorded."""
    per_family: int = PER_FAMILY


_Found = tuple[Fingerprint, Package | None]
_Program = tuple[int, int]
_Deed = tuple[str, str, str, str]
"""Path, action, other name, change."""


class Reporter:
    """See the module. Runs in the event loop; every method but ``close`` returns at once."""

    def __init__(
        self, *, actors: Actors, fingerprints: Fingerprints, publish: Publish, clock: Clock, watcher: Watcher
    ) -> None:
        self.teller = Teller(publish, clock, Folder(per_family=watcher.per_family))
        self._watcher = watcher
        self._actors = actors
        self._fingerprints = fingerprints
        self._ancestors = Ancestors(fingerprints)
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[_Program, dict[_Deed, Event]] = {}

    def report(self, event: Event) -> None:
        """Take one event, and publish its incident now or soon; closes the actor."""
        record = event.actor.record
        if isinstance(event.verdict, Evidence) or record is None:
            self._fold(event)
            return
        program = (record.proc_id, record.exec_id)
        waiting = self._waiting.get(program)
        if waiting is not None and _joined(waiting, event):
            return
        if waiting is not None or len(self._tasks) >= MAX_PENDING:
            self._fold(event)
            return
        self._waiting[program] = {_deed(event): event}
        self._start(self._look_again(program, event))

    def missed(self, reason: str, times: int = 1) -> None:
        """Report that something happened to a decoy that the kernel could not tell us about."""
        incident = decide_missed(reason, self._facts_of_nobody())
        incident = msgspec.structs.replace(incident, boot_ns=self._clock.boot_ns())
        line = Line(("missed", reason), UNIDENTIFIED.family)
        seen = Seen(incident.kind, incident.action, incident.severity, incident.path, incident.time_ns)
        incident_id = self.teller.add(line, seen, lambda: incident, times=times)
        if incident_id is not None:
            self.teller.tell(incident_id, incident)

    @property
    def in_work(self) -> int:
        """Looks that an incident waits for."""
        return len(self._tasks)

    async def close(self) -> None:
        """Finish what was begun: every event is in a published incident when this returns."""
        while self._tasks:
            await asyncio.gather(*self._tasks)
        await self._fingerprints.close()
        self.teller.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_again(self, program: _Program, first: Event) -> None:
        problem, verdict = _FAILED, first.verdict
        with details_of(f"an event on {first.decoy.path}"):
            problem, verdict = "", await self._actors.closer(first.actor, first.verdict)
        for each in self._waiting.pop(program).values():
            self._fold(replace(each, verdict=verdict), problem)

    def _fold(self, event: Event, problem: str = "") -> None:
        """Count an event in its incident, and have that told if it must be now. Takes over the actor."""
        gist = gist_of(event.decoy, event.verdict, changed=bool(event.change))
        if gist is None:
            event.actor.close()
            return
        known = Fingerprint(None, problem) if problem else self._fingerprints.known(_recorded_file(event.verdict))
        made: list[Incident] = []

        def make() -> Incident:
            made.append(self._incident(event, known or Fingerprint(None)))
            return made[0]

        seen = Seen(gist.kind, event.action, gist.severity, gist.path, self._clock.wall_ns(), event.change)
        incident_id = self.teller.add(line_of(event.verdict), seen, make, times=event.times)
        if incident_id is None:
            event.actor.close()
        else:
            self._complete(incident_id, made[0], event, known)

    def _complete(self, incident_id: str, incident: Incident, event: Event, known: Fingerprint | None) -> None:
        """Find out what is not known yet, if there is time, and tell."""
        package = self._known_package(event)
        if known is not None and package is not None and self._ancestors.is_done(steps_of(event.verdict)):
            self._tell(incident_id, incident, event, (known, package[0]))
        elif len(self._tasks) >= MAX_PENDING:
            self._tell(incident_id, incident, event, (known or Fingerprint(None, _HURRIED), None))
        else:
            self._start(self._look_closer(incident_id, incident, event, known))

    async def _look_closer(self, incident_id: str, incident: Incident, event: Event, known: Fingerprint | None) -> None:
        found: _Found = known or Fingerprint(None, _FAILED), None
        with details_of(f"an event on {event.decoy.path}"):
            path = exe_path(event.actor)  # before its descriptor is given away
            own = asyncio.gather(self._fingerprint(event, known), self._package(path, event))
            found, _ = await asyncio.gather(own, self._ancestors.look(steps_of(event.verdict)))
        self._tell(incident_id, incident, event, found)

    def _tell(self, incident_id: str, incident: Incident, event: Event, found: _Found) -> None:
        """Tell an incident with what was found out; closes the actor."""
        fingerprint, package = found
        is_in_it = (incident.process_sha256, fingerprint.problem) == (fingerprint.sha256, "")
        complete = incident if is_in_it else self._incident(event, fingerprint)
        steps = steps_of(event.verdict)
        complete = msgspec.structs.replace(
            complete,
            id=incident.id,
            time_ns=incident.time_ns,
            boot_ns=incident.boot_ns,
            lineage=self._ancestors.named(complete.lineage),
            offender=offender_of(event.actor.glimpse, steps, str(package or "")),
            session=self._watcher.session_of(steps),
        )
        event.actor.close()
        self.teller.tell(incident_id, complete)

    async def _fingerprint(self, event: Event, known: Fingerprint | None) -> Fingerprint:
        if known is not None:
            return known
        actor, recorded = event.actor, _recorded_file(event.verdict)
        exe_fd, actor.exe_fd = actor.exe_fd, None  # Fingerprints closes it
        if exe_fd is not None and recorded is None and not is_alive(actor.pidfd):
            os.close(exe_fd)  # nothing says that the pid was still its own
            exe_fd = None
        return await self._fingerprints.of(exe_fd, recorded, steps_of(event.verdict))

    def _known_package(self, event: Event) -> tuple[Package | None] | None:
        recorded = _recorded_file(event.verdict)
        if self._watcher.packages is None or recorded is None:
            return (None,)
        return self._watcher.packages.known(exe_path(event.actor), recorded)

    async def _package(self, path: str, event: Event) -> Package | None:
        """Search in a thread that nobody waits for longer than the deadline; the result is kept for the next."""
        recorded = _recorded_file(event.verdict)
        if self._watcher.packages is None or recorded is None:
            return None
        search = asyncio.to_thread(self._watcher.packages.owner_of, path, recorded)
        try:
            return await asyncio.wait_for(search, PACKAGE_DEADLINE_S)
        except TimeoutError:
            return None

    def _incident(self, event: Event, fingerprint: Fingerprint) -> Incident:
        """Return what an event that has a gist means."""
        facts = EventFacts(
            time_ns=self._clock.wall_ns(),
            pid=event.actor.pid,
            epoch=self._watcher.epoch,
            tier=self._watcher.tier,
            action=event.action,
            other_name=event.other_name,
            sha256=fingerprint.sha256,
            hash_problem=fingerprint.problem,
        )
        if event.change:
            incident = decide_change(event.decoy, event.verdict, facts, event.change)
        else:
            incident = decide_open(event.decoy, event.verdict, facts)
        if incident is None:
            raise ValueError("an event of somebody who is exempt is no incident")
        role, holds = incident.role or event.decoy.role, incident.holds or event.decoy.kind
        return msgspec.structs.replace(incident, boot_ns=self._clock.boot_ns(), role=role, holds=holds)

    def _facts_of_nobody(self) -> EventFacts:
        return EventFacts(self._clock.wall_ns(), 0, self._watcher.epoch, self._watcher.tier, ONLY_SEEN)


def _joined(waiting: dict[_Deed, Event], event: Event) -> bool:
    """Let an event wait for the look at its program that is under way; False: there is no room. Closes the actor."""
    deed = _deed(event)
    earlier = waiting.get(deed)
    if earlier is None and len(waiting) >= MAX_WAITING:
        return False
    if earlier is not None:
        waiting[deed] = replace(earlier, times=earlier.times + event.times)
        event.actor.close()
        return True
    if any(each.change == event.change for each in waiting.values()):  # it is of that one's incident, which has them
        event.actor.close()
    waiting[deed] = event
    return True


def _deed(event: Event) -> _Deed:
    return event.decoy.path, event.action, event.other_name, event.change


def _recorded_file(verdict: Verdict) -> FileFacts | None:
    steps = steps_of(verdict)
    return steps[0].image.file if steps else None
