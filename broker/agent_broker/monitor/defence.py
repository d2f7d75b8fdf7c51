"""What stands against whoever works against the monitor, or against an agent behind its back: one place to wire it.

The kernel side's heartbeat and the attestor that believes nothing without it; the watch over the agents' settings; and
SIGSTOP for offenders. What each guarantees is said in monitor.heartbeat, proven, settings_watch and halt.
"""

import logging
from collections.abc import Iterable

from agent_broker.clock import Clock
from agent_broker.identity.attest import Attestor
from agent_broker.identity.registry import Enrollment
from agent_broker.ids import Epoch, Pid
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.sensor import KernelSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.actor import Actors
from agent_broker.monitor.blind import BlindAttestor
from agent_broker.monitor.halt import Halt, Stopping
from agent_broker.monitor.heartbeat import Heartbeat, decide_blind
from agent_broker.monitor.programs import PackageOwners
from agent_broker.monitor.proven import ProvenAttestor
from agent_broker.monitor.report import Publish
from agent_broker.monitor.settings_verdict import Seen
from agent_broker.monitor.settings_watch import SettingsWatch

_LOG = logging.getLogger(__name__)


class Defence:
    """See the module. Made and used in the monitor's event loop; nothing runs before ``start``."""

    def __init__(  # noqa: PLR0913 - the parts of one process, named arguments only
        self,
        *,
        heartbeat: Heartbeat,
        sensor: KernelSensor | None,
        store: Store,
        attestor: Attestor | BlindAttestor,
        publish: Publish,
        clock: Clock,
        epoch: Epoch,
        tier: str,
        stopping: Stopping,
        packages: PackageOwners | None = None,
    ) -> None:
        """Take the parts; ``heartbeat`` is the one whose tap the sensor was made with.

        Raises:
            UnavailableError: the kernel refuses fanotify.
        """
        self._heartbeat = heartbeat
        self._sensor = sensor
        self._store = store
        self._publish = publish
        self._clock = clock
        self._tier = tier
        heartbeat.on_blind = self._blinded
        self.attestor: ProvenAttestor | BlindAttestor = (
            ProvenAttestor(attestor, heartbeat) if isinstance(attestor, Attestor) else attestor
        )
        self.halt = Halt(self.attestor, epoch, stopping)
        self._settings: SettingsWatch | None = None
        if sensor is not None:  # else nobody can be identified, so everybody who writes would be told
            self._settings = SettingsWatch(
                actors=Actors(self.attestor),
                ended=self._ended,
                packages=packages,
                publish=publish,
                seen=Seen(clock, epoch, tier),
            )

    async def start(self) -> None:
        """Beat; the first beat is made when this returns."""
        if self._sensor is not None:
            self._heartbeat.start(self._sensor)
            await self._heartbeat.prove()

    async def close(self) -> None:
        """Stop; what was seen is published when this returns."""
        await self._heartbeat.close()
        if self._settings is not None:
            await self._settings.close()
        self.halt.close()

    def apply_registry(self, enrollments: Iterable[Enrollment]) -> tuple[str, ...]:
        """Watch the settings of these enrolments; return a sentence for each file that is not watched."""
        return () if self._settings is None else self._settings.apply_registry(enrollments)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each settings file that is not watched now."""
        return () if self._settings is None else self._settings.problems

    def take_in(self) -> bool:
        """See SettingsWatch."""
        return self._settings is not None and self._settings.take_in()

    @property
    def in_work(self) -> int:
        """See SettingsWatch."""
        return 0 if self._settings is None else self._settings.in_work

    @property
    def blind(self) -> str:
        """Why the kernel side, once loaded, is not believed now; empty: it was proven to report."""
        return "" if self._sensor is None else self._heartbeat.problem

    @property
    def is_blind(self) -> bool:
        """Whether that is final."""
        return bool(self._heartbeat.blind)

    @property
    def proven_age_ns(self) -> int:
        """How long ago the kernel side was proven; below 0: never."""
        return self._heartbeat.age_ns

    def _blinded(self, reason: str) -> None:
        _LOG.error("%s", reason)
        self._publish(decide_blind(reason, self._clock, self._tier))

    def _ended(self, pid: int) -> TaskRecord | None:
        if self._sensor is None:
            return None
        self._sensor.consume()
        found = self._store.ended(Pid(pid))
        return None if found is None else TaskRecord(*found, self._store.taints_of(*found))
