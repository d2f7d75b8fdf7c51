"""Marks that go with a file system come back with it: a home that is unmounted and mounted again, and another one."""

import asyncio
import subprocess

import pytest

from agent_broker.monitor.settings_diff import difference
from tests.fakes.settings_world import SettingsWorld
from tests.fakes.updating import USER
from tests.fakes.watching import Watching

pytestmark = pytest.mark.kernel


@pytest.fixture
def mounted():
    places = []

    def mount(place):
        options = f"uid={USER},gid={USER},mode=755"
        subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "home", place], check=True)
        places.append(place)

    def unmount(place):
        subprocess.run(["/bin/umount", place], check=True)
        places.remove(place)

    yield mount, unmount
    for each in places:
        subprocess.run(["/bin/umount", each], check=True)


async def test_decoys_of_a_home_that_was_mounted_again_are_watched_again(mounted):
    mount, unmount = mounted
    watching = Watching()
    home = watching.decoy.parent
    try:
        mount(home)
        watching.new_file(watching.decoy)
        assert watching.start() == ()
        unmount(home)
        mount(home)
        watching.new_file(watching.decoy)
        reader = await watching.puppet()

        while not any(each.kind == "decoy-opened" for each in watching.told):
            await reader.do(f"open({str(watching.decoy)!r}).close()")
            await asyncio.sleep(0.02)
    finally:
        unmount(home)
        await watching.close()


async def test_settings_of_a_home_that_was_mounted_again_are_watched_again(mounted):
    mount, unmount = mounted
    world = SettingsWorld()
    await world.reload()
    folder = world.settings.parent
    try:
        mount(folder)
        world.put(world.settings, {"model": "a"})
        assert world.start_watch() == ()
        unmount(folder)
        mount(folder)
        world.put(world.settings, {"model": "b"})
        stranger = await world.puppet()
        while 'model: removed "b"' not in difference(world.watch._files[str(world.settings)].before, {})[0]:
            await asyncio.sleep(0.005)

        await stranger.do(f"(lambda f: [f.write('{{}}'), f.close()])(open({str(world.settings)!r}, 'w'))")

        (incident,) = await world.told()
        assert incident.changes == ('model: removed "b"',)
    finally:
        await world.quiet()
        unmount(folder)
        await world.close()
