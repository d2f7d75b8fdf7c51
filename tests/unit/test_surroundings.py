"""What is around a package: folders are real, who tells of changes is not."""

import itertools
import os

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity.surroundings import Surroundings


class World:
    """A package below folders of a user; a clock that counts."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "lib/node_modules/sample"
        self.root.mkdir(parents=True)
        for each in (folder, folder / "lib", folder / "lib/node_modules"):
            each.chmod(0o777)
        self.clock = itertools.count(1)
        self.refuses = False
        self.around = Surroundings(str(self.root), self.places, self.follow, lambda: next(self.clock))

    @property
    def places(self):
        return (str(self.folder / "lib/node_modules/optional"), str(self.folder / "node_modules/optional"))

    def follow(self, fd):
        if self.refuses:
            raise UnavailableError("no marks")
        return self.key(f"/proc/self/fd/{fd}")

    @staticmethod
    def key(path):
        return os.fsencode(os.path.realpath(path))

    async def looked_around(self):
        await self.around.look()
        return next(self.clock)


@pytest.fixture
async def world(tmp_path):
    return World(tmp_path)


async def test_nothing_speaks_against_a_program_that_starts_when_all_is_watched(world):
    before = next(world.clock)
    started = await world.looked_around()

    assert world.around.is_current
    assert world.around.taints(started) == ()
    assert "before the folders above its package were watched" in world.around.taints(before)[0]


async def test_an_entry_that_matters_taints_what_ran_then_and_no_other_entry_does(world):
    started = await world.looked_around()

    world.around.note(world.key(world.folder / "lib/node_modules"), b"another")
    assert world.around.taints(started) == ()

    world.around.note(world.key(world.folder / "lib/node_modules"), b"optional")
    assert not world.around.is_current
    assert "while it ran" in world.around.taints(started)[0]
    assert world.around.taints(await world.looked_around()) == ()


@pytest.mark.parametrize("name", [b"lib", b"node_modules"])
async def test_the_way_and_the_folders_that_are_not_there_yet_matter(world, name):
    started = await world.looked_around()

    world.around.note(world.key(world.folder), name)

    assert world.around.taints(started) != ()


async def test_a_module_that_lies_there_taints_every_program(world):
    (world.folder / "node_modules/optional").mkdir(parents=True)

    started = await world.looked_around()

    assert "node_modules/optional" in world.around.taints(started)[0]


async def test_a_link_on_the_way_to_a_place_is_as_bad_as_a_module(world):
    (world.folder / "elsewhere").mkdir()
    (world.folder / "node_modules").symlink_to("elsewhere")

    assert world.around.taints(await world.looked_around()) != ()


async def test_changes_that_were_lost_count(world):
    started = await world.looked_around()
    world.around.note_loss()
    assert "lost" in world.around.taints(started)[0]


async def test_a_mount_of_a_user_above_the_package_counts(world):
    started = await world.looked_around()
    world.around.note_mounts(frozenset({os.fsencode(world.folder.parent / "other")}))
    assert world.around.taints(started) == ()

    world.around.note_mounts(frozenset({os.fsencode(world.folder / "node_modules")}))
    assert "mounted" in world.around.taints(started)[0]


async def test_a_folder_that_appeared_counts_although_nothing_was_told(world):
    started = await world.looked_around()
    (world.folder / "node_modules").mkdir(mode=0o777)
    (world.folder / "node_modules").chmod(0o777)
    world.around.note(world.key(world.folder), b"node_modules")
    later = await world.looked_around()

    assert world.around.taints(started) != ()
    assert world.around.taints(later) == ()


async def test_a_folder_that_cant_be_watched_lets_nothing_pass(world):
    world.refuses = True

    started = await world.looked_around()

    assert "can't be watched" in world.around.taints(started)[0]
    world.refuses = False
    assert world.around.taints(await world.looked_around()) == ()
