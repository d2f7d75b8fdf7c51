"""From an event that was answered to an incident that is published, without holding anything up.

In this order:
1. The throttle says whether this event is reported one by one.
2. What the recorded lineage could not tell at once is asked again, with waiting (an agent whose hash is not taken
   yet); monitor.actor says when the second answer counts.
3. The executable's hash is taken, bounded (monitor.fingerprint).
4. The incident is published once, complete. Nothing is amended later.
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Protocol

from agent_broker.clock import Clock
from agent_broker.identity.evidence import Evidence, Unknown, Verdict
from agent_broker.ids import Epoch
from agent_broker.kernel.events import FileFacts
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import (
    ONLY_SEEN,
    EventFacts,
    decide_change,
    decide_crowd,
    decide_missed,
    decide_open,
)
from agent_broker.monitor.fingerprint import Fingerprint, Fingerprints, is_alive
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.throttle import WINDOW_NS, Throttle

MAX_PENDING = 128  # each holds two descriptors

_log = logging.getLogger(__name__)


class Publish(Protocol):
    """Where incidents go; durable, or counted as lost, when it returns."""

    def __call__(self, incident: Incident) -> None:
        """Publish one incident."""
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


@dataclass(frozen=True, slots=True)
class Watcher:
    """What every incident says of the monitor that made it."""

    epoch: Epoch
    tier: str


class Reporter:
    """See the module. Runs in the event loop; every method but ``close`` returns at once."""

    def __init__(
        self, *, actors: Actors, fingerprints: Fingerprints, publish: Publish, clock: Clock, watcher: Watcher
    ) -> None:
        self.throttle = Throttle()
        self._watcher = watcher
        self._actors = actors
        self._fingerprints = fingerprints
        self._publish = publish
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush: asyncio.TimerHandle | None = None

    def report(self, event: Event) -> None:
        """Take one event, and publish its incident now or soon; closes the actor."""
        repeats = self.throttle.admit(_program(event), event.decoy.path, self._clock.boot_ns())
        if repeats is None:
            event.actor.close()
            self._flush_later()
            return
        known = self._fingerprints.known(_recorded_file(event.verdict))
        if known is not None and isinstance(event.verdict, Evidence):
            self._finish(event, event.verdict, known, repeats)
            event.actor.close()
        elif len(self._tasks) >= MAX_PENDING:
            self._finish(event, event.verdict, Fingerprint(None, "too much happened at once to hash it"), repeats)
            event.actor.close()
        else:
            task = asyncio.get_running_loop().create_task(self._look_closer(event, known, repeats))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def missed(self, reason: str) -> None:
        """Report that something happened to a decoy that the kernel could not tell us about."""
        if self.throttle.admit((reason,), "", self._clock.boot_ns()) is not None:
            self._publish(decide_missed(reason, self._facts_of_nobody()))

    async def close(self) -> None:
        """Finish what was begun: every admitted event is published when this returns."""
        await asyncio.gather(*self._tasks)
        await self._fingerprints.close()
        if self._flush is not None:
            self._flush.cancel()
            self._tell_overflows(self._clock.boot_ns() + WINDOW_NS)

    async def _look_closer(self, event: Event, known: Fingerprint | None, repeats: int) -> None:
        try:
            if known is not None:
                verdict, fingerprint = await self._actors.closer(event.actor, event.verdict), known
            else:
                looks = self._actors.closer(event.actor, event.verdict), self._fingerprint(event)
                verdict, fingerprint = await asyncio.gather(*looks)
            self._finish(event, verdict, fingerprint, repeats)
        except Exception:  # noqa: BLE001 - the incident goes out whatever failed in the look at its details
            _log.exception("the details of an event on %s are missing", event.decoy.path)
            self._finish(event, event.verdict, Fingerprint(None, "the monitor failed to look closer"), repeats)
        finally:
            event.actor.close()

    async def _fingerprint(self, event: Event) -> Fingerprint:
        actor, recorded = event.actor, _recorded_file(event.verdict)
        exe_fd, actor.exe_fd = actor.exe_fd, None  # Fingerprints closes it
        if exe_fd is not None and recorded is None and not is_alive(actor.pidfd):
            os.close(exe_fd)  # nothing says that the pid was still its own
            exe_fd = None
        return await self._fingerprints.of(exe_fd, recorded)

    def _finish(self, event: Event, verdict: Verdict, fingerprint: Fingerprint, repeats: int) -> None:
        facts = EventFacts(
            time_ns=self._clock.wall_ns(),
            pid=event.actor.pid,
            epoch=self._watcher.epoch,
            tier=self._watcher.tier,
            action=event.action,
            other_name=event.other_name,
            repeats=repeats,
            sha256=fingerprint.sha256,
            hash_problem=fingerprint.problem,
        )
        if event.change:
            incident = decide_change(event.decoy, verdict, facts, event.change)
        else:
            incident = decide_open(event.decoy, verdict, facts)
        if incident is not None:
            self._publish(incident)

    def _facts_of_nobody(self) -> EventFacts:
        return EventFacts(self._clock.wall_ns(), 0, self._watcher.epoch, self._watcher.tier, ONLY_SEEN)

    def _flush_later(self) -> None:
        if self._flush is None:
            loop = asyncio.get_running_loop()
            self._flush = loop.call_later(WINDOW_NS / 1e9, lambda: self._tell_overflows(self._clock.boot_ns()))

    def _tell_overflows(self, now_ns: int) -> None:
        self._flush = None
        for path, count in self.throttle.overflows(now_ns):
            self._publish(decide_crowd(path, count, self._facts_of_nobody()))
        if self.throttle.is_crowded:
            self._flush_later()


def _program(event: Event) -> tuple[int | str, ...]:
    """Return what stands for one program image that does one kind of thing, to count its repeats."""
    record = event.actor.record
    who = (event.actor.pid,) if record is None else (record.proc_id, record.exec_id)
    return (event.change, *who)


def _recorded_file(verdict: Verdict) -> FileFacts | None:
    match verdict:
        case Evidence(steps=steps) | Unknown(steps=steps) if steps:
            return steps[0].image.file
        case _:
            return None
