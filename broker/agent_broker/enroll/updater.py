"""The monitor's part of updates: it watches who writes new versions, and enrolls those that the policy approves."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent_broker.clock import Clock
from agent_broker.enroll.update import approve_unasked
from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.ids import Pid
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.actor import Actors, AttestorPort
from agent_broker.monitor.detection import INFO, printable
from agent_broker.monitor.incident import Incident, incident_now
from agent_broker.monitor.preapproval import PreApproval
from agent_broker.monitor.provenance import Provenance, Way, not_recorded
from agent_broker.monitor.updates import UpdateWatch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What the monitor lends."""

    attestor: AttestorPort
    sensor: Sensor
    store: Store
    hashes: HashCache
    clock: Clock
    journal_dir: Path
    registry_dir: Path
    state_file: Path
    tier: str
    publish: Callable[[Incident], None]
    reload: Callable[[], Awaitable[object]]


class Updater:
    """See the module. A kernel that can't tell who writes where leaves everything to a person."""

    def __init__(self, around: Surroundings, ways: tuple[Way, ...]) -> None:
        self._around = around
        self._enrollments: tuple[Enrollment, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem = ""
        self._watch: UpdateWatch | None = None
        try:
            self._watch = UpdateWatch(Actors(around.attestor), self._ended, around.state_file, around.clock)
        except UnavailableError as error:
            self._problem = f"who writes new versions of agents is not seen: {error.message}"
            return
        self._judge = PreApproval(self._watch, around.sensor, around.hashes, ways, self._approve)
        self._watch.on_quiet = self._consider

    def start(self) -> None:
        """Serve from the running event loop."""
        if self._watch is not None:
            self._watch.start()

    async def close(self) -> None:
        """Write down what was seen, and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._watch is not None:
            self._watch.close()

    def apply_registry(self, enrollments: tuple[Enrollment, ...]) -> tuple[str, ...]:
        """Watch the places of these agents; return a sentence for each that can't be watched."""
        self._enrollments = enrollments
        if self._watch is None:
            return (self._problem,)
        return self._watch.apply_registry(enrollments)

    def who_wrote(self, fd: int) -> Provenance:
        """Return who wrote an open file."""
        return not_recorded(self._problem) if self._watch is None else self._watch.who_wrote(fd)

    def _ended(self, pid: int) -> TaskRecord | None:
        self._around.sensor.consume()
        found = self._around.store.ended(Pid(pid))
        return None if found is None else TaskRecord(*found, 0)

    def _consider(self) -> None:
        task = asyncio.get_running_loop().create_task(self._judge.consider(self._enrollments))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("an update could not be judged", exc_info=task.exception())

    async def _approve(self, enrollment: Enrollment, old: EnrolledBinary, new: EnrolledBinary, way: Way) -> None:
        version = await asyncio.to_thread(approve_unasked, enrollment, old, new, how=way, registry=self._around)
        try:
            await self._around.reload()
        except AgentBrokerError as error:
            _log.error("%s", error.message)
        named = f" ({printable(version)})" if version else ""
        self._around.publish(
            incident_now(
                self._around.clock,
                kind="agent-updated",
                severity=INFO,
                what=f"{enrollment.agent} of {enrollment.owner_name} was updated to {printable(new.path)}{named}, and "
                f"is enrolled as config.toml allows ({way}), sha256 {new.sha256}",
                tier=self._around.tier,
                action="approved",
                path=new.path,
                process_sha256=new.sha256,
                agent=enrollment.agent,
                next_step="nothing, if you updated it; else: sudo agent-broker freeze "
                f"{enrollment.agent} --reason update",
            )
        )
