"""What happens around a decoy's path: replaced, moved, deleted, made again, unmounted; and the registry changing."""

import asyncio
import os
import subprocess

import pytest

from tests.fakes.watching import USER, Watching

pytestmark = pytest.mark.kernel


@pytest.fixture
async def watching():
    watching = Watching()
    yield watching
    await watching.close()


def opening(path):
    return f"os.close(os.open({str(path)!r}, os.O_RDONLY))"


def creating(path):
    return f"os.close(os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT, 0o600))"


def renaming(old, new):
    return f"os.rename({str(old)!r}, {str(new)!r})"


async def test_a_file_renamed_over_the_decoy_is_told_and_watched(watching):
    watching.start()
    puppet = await watching.puppet()
    fake = watching.decoy.with_name("fake")

    await puppet.do(creating(fake))
    await puppet.do(renaming(fake, watching.decoy))
    replaced = await watching.incidents.get()
    await puppet.do(opening(watching.decoy))
    opened = await watching.incidents.get()

    assert (replaced.kind, replaced.severity, replaced.action) == ("decoy-replaced", "critical", "only-seen")
    assert f"(pid {puppet.pid}, uid {USER}) moved another file to the place of the decoy" in replaced.what
    assert replaced.process_sha256 is not None
    assert (opened.kind, opened.path) == ("decoy-opened", str(watching.decoy))


async def test_a_decoy_deleted_and_made_again_is_told_twice_and_watched(watching):
    watching.start()
    puppet = await watching.puppet()

    await puppet.do(f"os.unlink({str(watching.decoy)!r})")
    deleted = await watching.incidents.get()
    assert "No such file" in watching.watch.problems[0]
    assert watching.watch.decoys_watched == 0
    await puppet.do(creating(watching.decoy))
    created = await watching.incidents.get()
    assert watching.watch.problems == ()
    await puppet.do(opening(watching.decoy))
    opened = await watching.incidents.get()

    assert "deleted the decoy" in deleted.what
    assert "created another file in the place of the decoy" in created.what
    assert opened.kind == "decoy-opened"


async def test_a_decoy_that_was_moved_away_keeps_telling_who_opens_it(watching):
    watching.start()
    puppet = await watching.puppet()
    hidden = watching.folder / "home" / "hidden"

    await puppet.do(renaming(watching.decoy, hidden))
    moved = await watching.incidents.get()
    await puppet.do(opening(hidden))
    opened = await watching.incidents.get()

    assert "moved away the decoy" in moved.what
    assert (opened.path, opened.kind) == (str(watching.decoy), "decoy-opened")
    assert f"as {hidden}" in opened.what


async def test_a_folder_on_the_way_that_is_replaced_is_told_and_the_new_file_watched(watching):
    below = watching.folder / "home" / "config" / "claude"
    below.mkdir(parents=True)
    decoy = watching.new_file(below / "credentials")
    for each in (below, below.parent):
        os.chown(each, USER, USER)
    watching.decoy = decoy
    watching.start()
    puppet = await watching.puppet()
    config = below.parent

    await puppet.do(renaming(config, config.with_name("gone")))
    moved = await watching.incidents.get()
    await puppet.do(f"[os.mkdir({str(config)!r}), os.mkdir({str(below)!r})] and None")
    await puppet.do(creating(decoy))
    while watching.watch.problems:
        await watching.incidents.get()
    await puppet.do(opening(decoy))

    assert "moved a folder that holds the decoy" in moved.what
    told = await watching.all_told()
    assert [each.kind for each in told][-1] == "decoy-opened"


async def test_a_change_that_opens_nothing_is_told(watching):
    watching.start()
    puppet = await watching.puppet()

    await puppet.do(f"os.truncate({str(watching.decoy)!r}, 3)")

    (incident,) = await watching.all_told()
    assert (incident.kind, incident.path) == ("decoy-replaced", str(watching.decoy))
    assert "changed the content of the decoy" in incident.what


async def test_the_agent_may_replace_its_decoy_and_the_new_one_is_watched(watching):
    watching.start()
    agent = await watching.puppet(agent="claude")
    stranger = await watching.puppet()
    fresh = watching.decoy.with_name("fresh")

    await agent.do(creating(fresh))
    await agent.do(f"os.truncate({str(fresh)!r}, 3)")
    await agent.do(renaming(fresh, watching.decoy))
    await watching.watch_settles()
    await stranger.do(opening(watching.decoy))

    (incident,) = await watching.all_told()
    assert (incident.kind, f"pid {stranger.pid}" in incident.what) == ("decoy-opened", True)


async def test_root_may_replace_a_decoy_and_the_new_one_is_watched(watching):
    watching.start()
    stranger = await watching.puppet()
    root = await watching.puppet(uid=0)

    await root.do(f"os.unlink({str(watching.decoy)!r})")
    await root.do(creating(watching.decoy))
    await root.do(f"os.chmod({str(watching.decoy)!r}, 0o644)")
    await watching.watch_settles()
    await stranger.do(opening(watching.decoy))

    opened = [each for each in await watching.all_told() if each.severity == "critical"]
    assert [each.kind for each in opened] == ["decoy-opened"]


async def test_a_link_in_the_place_of_a_decoy_is_not_followed(watching):
    victim = watching.new_file(watching.folder / "victim")
    watching.start()
    puppet = await watching.puppet()

    await puppet.do(f"os.unlink({str(watching.decoy)!r})")
    await puppet.do(f"os.symlink({str(victim)!r}, {str(watching.decoy)!r})")
    await watching.incidents.get()
    await watching.incidents.get()
    await puppet.do(opening(victim))

    assert "is a symbolic link" in watching.watch.problems[0]
    assert {each.kind for each in await watching.all_told()} == {"decoy-replaced"}


async def test_other_files_of_the_folder_are_nobodys_business(watching):
    watching.start()
    puppet = await watching.puppet()
    other = watching.decoy.with_name("settings.json")

    await puppet.do(creating(other))
    await puppet.do(opening(other))
    await puppet.do(renaming(other, other.with_name("renamed")))

    assert await watching.all_told() == []


async def test_a_decoy_that_is_not_there_yet_is_a_problem_until_it_is(watching):
    late = watching.folder / "home" / "late" / "credentials"
    watching.start()
    problems = watching.enroll(watching.decoy, late)
    assert problems == (f"{late} can't be watched: late: No such file or directory",)
    puppet = await watching.puppet()

    await puppet.do(f"os.mkdir({str(late.parent)!r})")
    await watching.watch_settles()
    await puppet.do(creating(late))
    await watching.watch_settles()
    await puppet.do(opening(late))

    assert (await watching.all_told())[-1].path == str(late)


async def test_a_home_that_is_mounted_later_is_watched_from_then_on(watching):
    home = watching.decoy.parent
    watching.start()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "decoys", home], check=True)
    try:
        watching.new_file(watching.decoy)
        puppet = await watching.puppet()
        while watching.incidents.empty():
            await puppet.do(opening(watching.decoy))
            await asyncio.sleep(0.01)
    finally:
        subprocess.run(["umount", home], check=True)  # nothing of ours keeps it busy

    assert [each.kind for each in await watching.all_told()][-1] == "decoy-opened"


async def test_a_decoy_that_left_the_registry_is_left_alone_and_the_others_stay(watching):
    second = watching.new_file(watching.decoy.with_name("second"))
    watching.start()
    assert watching.enroll(watching.decoy, second) == ()
    assert watching.watch.decoys_watched == 2
    puppet = await watching.puppet()

    assert watching.enroll(second) == ()
    await puppet.do(opening(watching.decoy))
    await puppet.do(renaming(watching.decoy, watching.decoy.with_name("moved")))
    await puppet.do(opening(second))

    (incident,) = await watching.all_told()
    assert incident.path == str(second)


async def test_a_decoy_that_stays_is_watched_while_the_registry_is_applied(watching):
    other = watching.new_file(watching.decoy.with_name("other"))
    watching.start()
    puppet = await watching.puppet()

    burst = f"[os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY)) for _ in range(2000)] and None"
    opens = asyncio.create_task(puppet.do(burst))
    while not opens.done():
        watching.enroll(watching.decoy, other)
        watching.enroll(watching.decoy)
        await watching.watch_settles()

    counts = {incident.id: incident.count for incident in await watching.all_told()}
    assert list(counts.values()) == [2000]


async def test_a_path_that_two_agents_enroll_is_told(watching):
    watching.start()
    twice = [watching.enrollment(watching.decoy), watching.enrollment(watching.decoy, agent="codex")]

    problems = watching.watch.apply_registry(twice)

    assert problems == (f"{watching.decoy} is enrolled twice: only claude is exempt there",)
