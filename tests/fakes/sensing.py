"""The monitor's own parts on the running kernel, in this process: sensor, lineage, attestation, and a watch at will.

A test that carries out many small scenes makes one of these, and a new watch for each scene: what one scene left in
the watch's memory (folded incidents, hashes under way) says nothing about the next.
"""

from agent_broker.clock import SystemClock
from agent_broker.identity.attest import Attestor
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.blind import BlindAttestor
from agent_broker.monitor.denials import DenialReader
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.self_defence import SelfReporter
from agent_broker.monitor.watch import DecoyWatch

EPOCH = "e1"
_PROGRAMS = 256


class Sensing:
    """See the module. Needs root, and an event loop for ``watch``."""

    def __init__(self):
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.store.apply)
        self.store.link_seeded()
        self.hashes = HashCache()
        self.attestor = Attestor(
            epoch=EPOCH, tier="observe+", sensor=self.sensor, store=self.store, hashes=self.hashes
        )  # fmt: skip

    async def watch(self, paths, owner_uid, publish, *, tier="observe+", permission=True, deny=False):
        """Return a watch on decoys of a user, as a monitor of this tier has it; it is told until it is closed.

        Other programs' incidents are not folded into one, however many programs they are.

        Tier ``none``: without the lineage. ``enforce``: the kernel denies by itself.

        Raises AssertionError if a decoy can't be watched, or the kernel denies nothing by itself.
        """
        marks = self.sensor.marks if tier == "enforce" else None
        assert marks is not None or tier != "enforce", self.sensor.why_not_denied
        attestor = BlindAttestor("this watch is to be blind") if tier == "none" else self.attestor
        watch = DecoyWatch(
            attestor=attestor, hashes=self.hashes, facts_of=lambda fd: self.sensor.own_file(fd).file,
            publish=publish, clock=SystemClock(), watcher=Watcher(EPOCH, tier, per_family=_PROGRAMS),
            permission=permission, marks=marks,
        )  # fmt: skip
        decoys = tuple(DecoyFile(str(path), "claude-oauth", deny) for path in paths)
        problems = watch.apply_registry(
            [Enrollment("claude", owner_uid, "ann", (), RoleRule(("claude",)), decoys, (), 0)]
        )
        watched = watch if marks is None else Denied(watch, self._denials_of(watch, publish, tier))
        if problems:
            await watched.close()
            raise AssertionError(problems)
        return watched

    def _denials_of(self, watch, publish, tier):
        us = SelfReporter(self.attestor, publish, SystemClock(), EPOCH, tier)
        reader = DenialReader(self.sensor.denials, self.sensor.consume, watch.kernel_opens, us)
        reader.start()
        return reader

    def close(self):
        self.sensor.close()


class Denied:
    """A watch whose marks the kernel denies; when it is closed, they are no more."""

    def __init__(self, watch, reader):
        self._watch = watch
        self._reader = reader

    async def close(self):
        """See DecoyWatch.close."""
        self._reader.close()
        self._watch.apply_registry(())
        await self._watch.close()
