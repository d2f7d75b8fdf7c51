"""A user's home for decoys, with the journals and the registry of an installation, on the real disk; needs root."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.plant import Garden, plan_planting, plant
from agent_broker.enroll.plant_end import recover, refresh, remove
from agent_broker.honeytoken.kinds import kind_of
from agent_broker.identity.planted import load_planted
from tests.fakes.enroll_world import GID, UID, EnrollWorld, FakeWatch


class PlantWorld:
    """One world a test; ``close()`` deletes it. ``watch.alive`` False: no daemon answers."""

    snapshot = EnrollWorld.snapshot
    make_folder = EnrollWorld.make_folder
    make = EnrollWorld.make
    owner = property(lambda self: owner_of(str(UID), self.home))

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="plant-", dir="/tmp"))
        self.root.chmod(0o755)
        self.home = self.make_folder(self.root / "home")
        self.watch = FakeWatch()
        self.state = self.root / "state"
        (self.state / "registry").mkdir(parents=True)

    def close(self):
        shutil.rmtree(self.root)

    def garden(self, on_step=lambda _: None):
        return Garden(
            watch=self.watch,
            journal_dir=self.state / "enroll",
            registries=(self.state / "registry/agents", self.state / "registry/tools"),
            decoys_dir=self.state / "registry/decoys",
            clock=SystemClock(),
            on_step=on_step,
        )

    def file(self, path, data, mode=0o600):
        """A file of the user's, and the folders on the way."""
        place = self.home / path
        for folder in reversed(place.relative_to(self.home).parents[:-1]):
            if not (self.home / folder).exists():
                self.make_folder(self.home / folder)
        return self.make(place, data, mode)

    def plan(self, kind, path="", **options):
        return plan_planting(kind_of(kind), self.owner, self.garden(), path=path, **options)

    def plant(self, kind, path="", on_step=lambda _: None, **options):
        return plant(self.plan(kind, path, **options), self.garden(on_step))

    def remove(self, path, on_step=lambda _: None):
        return remove(str(self.home / path), self.garden(on_step))

    def refresh(self, on_step=lambda _: None):
        (decoy,) = self.planted()
        return refresh(decoy, self.garden(on_step))

    def recover(self, on_step=lambda _: None):
        return recover(self.garden(on_step))

    def planted(self):
        return load_planted(self.state / "registry/decoys")

    def journals(self):
        return list((self.state / "enroll/decoys").glob("*.json"))

    def folders(self):
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_dir())

    def knows(self, value):
        """Whether the one decoy's record has the digest of this value."""
        (decoy,) = self.planted()
        return hashlib.sha256(value.encode()).hexdigest() in decoy.values_sha256


__all__ = ["GID", "UID", "PlantWorld"]
