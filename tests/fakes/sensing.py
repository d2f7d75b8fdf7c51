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
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.watch import DecoyWatch

EPOCH = "e1"


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

    def watch(self, path, owner_uid, publish, *, permission=True, deny=False):
        """Return a watch on one decoy of a user; raises AssertionError if it can't be watched."""
        watch = DecoyWatch(
            attestor=self.attestor, hashes=self.hashes, facts_of=lambda fd: self.sensor.own_file(fd).file,
            publish=publish, clock=SystemClock(),
            watcher=Watcher(EPOCH, "observe+" if permission else "observe"), permission=permission,
        )  # fmt: skip
        decoys = (DecoyFile(str(path), "claude-oauth", deny),)
        problems = watch.apply_registry(
            [Enrollment("claude", owner_uid, "ann", (), RoleRule(("claude",)), decoys, (), 0)]
        )
        assert problems == (), problems
        return watch

    def close(self):
        self.sensor.close()
