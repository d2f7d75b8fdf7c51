"""The user puts something else in the place of a file or a folder, at every step: root follows nothing (needs root).

Whatever is put there, what lies behind it stays as it is, the run stops, and when the user's own thing is back,
recovery finds the home as it was.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from agent_broker.enroll.beneath import exchange
from agent_broker.errors import AgentBrokerError
from tests.fakes.enroll_cases import CASES
from tests.fakes.enroll_world import GID, UID
from tests.fakes.transaction_world import TransactionWorld

CASE = CASES["claude, API key in the settings"]
ATTEMPTS = 12


@pytest.fixture
def world():
    world = TransactionWorld(CASE)
    yield world
    world.close()


class Private:
    """A folder of root's in which the agent's names exist too."""

    def __init__(self, world):
        self.folder = world.root / "private"
        self.folder.mkdir(mode=0o700)
        for name in ("settings.json", ".credentials.json", "backups"):
            (self.folder / name).write_text(f'{{"of": "root {name}"}}')
        self.settings = self.folder / "settings.json"
        self.facts = self.look()

    def look(self):
        facts = {path: path.stat() for path in (self.folder, *self.folder.iterdir())}
        return {
            path: (each.st_ino, each.st_mode, each.st_uid, each.st_size, each.st_nlink, each.st_mtime_ns)
            for path, each in facts.items()
        }


def by_link(place, private):
    place.symlink_to(private.folder if place.name == ".claude" else private.settings)


def copy(source, target):
    """Without moving the source's time of access."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOATIME), "rb") as file:
        target.write_bytes(file.read())


def by_own_copy(place, private):
    aside = place.with_name(place.name + ".aside")
    if aside.is_dir():
        place.mkdir()
        for path in filter(os.path.isfile, aside.iterdir()):
            copy(path, place / path.name)
    else:
        copy(aside, place)
    for path in (place, *place.glob("*")):
        os.chown(path, UID, GID)


def by_hard_link(place, private):
    os.link(place.with_name(place.name + ".aside"), place)


def by_pipe(place, private):
    os.mkfifo(place)
    os.chown(place, UID, GID)


def by_mount(place, private):
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={UID},gid={GID},mode=0700", "tmpfs", place], check=True)


SWAPS = [
    (".claude", by_link),
    (".claude", by_own_copy),
    (".claude", by_mount),
    (".claude/settings.json", by_link),
    (".claude/settings.json", by_hard_link),
    (".claude/settings.json", by_pipe),
]


def put_back(place):
    """Take away what was put there, whatever it is, and return the user's own."""
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()
    place.with_name(place.name + ".aside").rename(place)


def steps_of_enroll():
    world = TransactionWorld(CASE)
    try:
        return world.steps(world.enroll)
    finally:
        world.close()


@pytest.mark.parametrize(("path", "swap"), SWAPS)
def test_swapped_between_plan_and_apply(world, path, swap):
    private, place = Private(world), world.home / path
    plan = world.plan()
    place.rename(place.with_name(place.name + ".aside"))
    swap(place, private)
    with pytest.raises(AgentBrokerError) as caught:
        world.apply(plan)
    assert caught.value.next_step
    assert private.look() == private.facts
    put_back(place)
    assert world.snapshot() == world.before
    assert world.journals() == world.registered() == []
    assert world.store.vault.list() == ()


@pytest.mark.parametrize(("path", "swap"), SWAPS)
def test_swapped_at_every_step(path, swap):
    names = steps_of_enroll()
    for number, where in enumerate(names):
        world = TransactionWorld(CASE)
        try:
            private, place = Private(world), world.home / path
            steps = []

            def at(name, number=number, steps=steps, place=place, private=private):
                steps.append(name)
                if len(steps) == number + 1:
                    place.rename(place.with_name(place.name + ".aside"))
                    swap(place, private)

            error = world.attempt(world.enroll, at)
            if number < names.index("verified"):
                assert error is not None, where
            assert private.look() == private.facts, where
            put_back(place)
            world.recover()
            if error is not None:
                assert world.snapshot() == world.before, where
                assert world.store.vault.list() == (), where
            assert all(len(places) == 1 for places in world.places().values()), where
        finally:
            world.close()


def attack(world, private, seed):
    """As the user, for ever: exchange a file or the folder with something else, and back."""
    os.setgroups([])
    os.setresgid(GID, GID, GID)
    os.setresuid(UID, UID, UID)
    chance = random.Random(seed)  # noqa: S311 - an order of attacks, no secret
    pairs = [
        (world.home, ".claude", ".link"),
        (world.home, ".claude", ".own"),
        (world.claude, "settings.json", ".link"),
    ]
    (world.home / ".link").symlink_to(private.folder)
    shutil.copytree(world.claude, world.home / ".own")
    (world.claude / ".link").symlink_to(private.settings)
    (world.home / ".ready").touch()
    while True:
        folder, name, other = chance.choice(pairs)
        with suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            exchange(fd, name, other)
            time.sleep(chance.random() / 500)
            exchange(fd, name, other)
            os.close(fd)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_attacker_who_swaps_all_the_time(world, seed):
    private = Private(world)
    attacker = os.fork()
    if attacker == 0:
        try:
            attack(world, private, seed)
        finally:
            os._exit(1)
    try:
        while not (world.home / ".ready").exists():
            time.sleep(0.01)
        for _ in range(ATTEMPTS):
            if not world.journals():
                world.attempt(world.enroll)
            world.attempt(world.recover)
            if world.registered():
                world.attempt(world.unenroll)
            assert private.look() == private.facts
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
    tidy(world)
    world.recover()
    assert private.look() == private.facts
    for places in world.places().values():
        assert places
        assert not any(name.startswith("state: ") for name in places)
    if not world.registered():
        assert world.store.vault.list() == ()
    assert world.journals() == world.registered()


def tidy(world):
    """Take the attacker's links away; where one lies in the place of the user's own, bring that back."""
    for folder, name in ((world.home, ".claude"), (world.claude, "settings.json")):
        link = folder / ".link"
        if (folder / name).is_symlink():
            (folder / name).unlink()
            link.rename(folder / name)
        elif link.is_symlink():
            link.unlink()
