"""Who writes new versions of an agent, and which of them the policy approves: real processes on the running kernel."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.update import approve, find_update
from agent_broker.identity.updated import find_updated
from agent_broker.monitor import preapproval
from tests.fakes.updating import PYTHON, USER, Updating

pytestmark = pytest.mark.kernel

BORN_LATER_S = 1.1  # the margin of preapproval: an agent that updates itself was started before


@pytest.fixture
async def made():
    worlds = []

    async def make(*ways):
        world = Updating(*ways)
        worlds.append(world)
        assert await world.reload() == ()
        return world

    yield make
    for each in worlds:
        await each.close()


async def test_what_the_agent_itself_writes_is_told_as_its_own(made):
    world = await made()
    agent = await world.agent()

    await agent.do(world.write())

    told = world.who_wrote()
    assert (told.recorded, told.complete, told.remark) == (True, True, "")
    (seen,) = told.writers
    assert (seen.writer.agent, seen.writer.is_agent, seen.writer.pid, seen.writer.uid) == (
        "claude",
        True,
        agent.pid,
        USER,
    )
    assert seen.did == {"created", "wrote", "closed"}
    assert seen.writer.program == str(world.launcher)


async def test_another_program_of_the_user_is_named_with_its_lineage(made):
    world = await made()
    world.updater.start()
    stranger = await world.puppet()

    await stranger.do(world.write())

    (seen,) = world.who_wrote().writers
    assert (seen.writer.program, seen.writer.agent, seen.writer.problem) == (str(PYTHON), None, "")
    assert len(seen.writer.lineage) > 1


async def test_what_the_agents_tool_writes_is_not_its_own(made):
    world = await made("own-updater")
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)

    code = f"import os, time; {world.write()}; time.sleep(1000)"
    tool = await agent.do(f"os.spawnv(os.P_NOWAIT, {str(PYTHON)!r}, ['python3', '-c', {code!r}])")
    while not world.new.exists() or world.new.stat().st_mode & 0o777 != 0o755:
        await asyncio.sleep(0.001)
    await agent.do(world.flip())

    told = world.who_wrote()
    await agent.do(f"[os.kill({tool}, 9), os.waitpid({tool}, 0)].count(None)")

    writers = [seen.writer for seen in told.writers]
    assert [(writer.program, writer.problem) for writer in writers] == [(str(PYTHON), "")]
    assert (writers[0].agent, writers[0].is_agent) == ("claude", False)
    await world.judge()
    assert world.enrolled() == world.enrollment()


async def test_a_writer_that_had_ended_is_named_by_its_number_and_that_is_said(made):
    world = await made()
    subprocess.run(["/bin/cp", world.next_version, world.new], check=True)

    (seen,) = world.who_wrote().writers
    assert seen.writer.program == "/bin/cp"
    assert "it had ended" in seen.writer.problem


async def test_a_writer_of_whom_nothing_is_left_is_not_named(made):
    world = await made()
    subprocess.run(["/bin/cp", world.next_version, world.new], check=True)
    world.sensor.consume()
    subprocess.run(["/bin/sh", "-c", "for i in $(seq 1100); do /bin/true; done"], check=True)

    (seen,) = world.who_wrote().writers
    assert seen.writer.program == ""
    assert "had ended before it could be named" in seen.writer.problem


async def test_a_file_that_is_renamed_keeps_its_writers_and_the_renamer_is_added(made):
    world = await made()
    agent, stranger = await world.agent(), await world.puppet()
    temporary = world.versions / "2.1.331.tmp"

    await agent.do(world.write(temporary))
    await stranger.do(f"os.rename({str(temporary)!r}, {str(world.new)!r})")

    first, second = world.who_wrote().writers
    assert first.writer.is_agent
    assert (second.did, second.writer.agent) == ({"named"}, None)


async def test_a_file_that_was_written_elsewhere_and_moved_in_is_not_wholly_recorded(made):
    world = await made()
    agent = await world.agent()
    elsewhere = world.folder / "home/elsewhere"
    os.chown(world.folder / "home", USER, USER)
    await agent.do(world.write(elsewhere))

    await agent.do(f"os.rename({str(elsewhere)!r}, {str(world.new)!r})")

    told = world.who_wrote()
    assert (told.recorded, told.complete) == (True, False)
    assert "its creation was not seen" in told.remark


async def test_folders_that_appear_below_a_package_are_watched_too(made):
    world = await made()
    stranger = await world.puppet()
    world.updater.start()
    below = world.versions / ".2.1.331-staging"
    await stranger.do(f"os.mkdir({str(below)!r})")
    await asyncio.sleep(0.05)  # for the mark: what is written before it is not wholly recorded

    await stranger.do(world.write(below / "claude"))

    assert world.who_wrote(below / "claude").complete


async def test_what_was_recorded_outlives_the_monitor_and_is_doubted_then(made):
    world = await made("own-updater")
    world.updater.start()
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    await world.updater.close()
    world.updater = world.new_updater()
    await world.reload()
    await agent.do(world.flip())

    told = world.who_wrote()
    assert [seen.writer.is_agent for seen in told.writers] == [True]
    assert not told.complete
    assert "restarted" in told.remark
    await world.judge()
    assert world.enrolled() == world.enrollment()


async def test_what_nobody_was_seen_to_write_is_not_recorded(made):
    world = await made()

    assert not world.who_wrote(world.old).recorded


async def test_after_a_flood_that_the_kernel_dropped_nothing_is_complete(made):
    world = await made("own-updater")
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    assert world.who_wrote().complete
    name = str(world.versions / "flood-")
    names = f"[os.rename({name!r} + str(n), {name!r} + str(n + 1)) for n in range(18000)]"
    flood = f"[open({name!r} + '0', 'w').close(), {names}].count(None)"  # one file, so that no other is forgotten
    await agent.do(flood)

    world.who_wrote()
    assert not world.who_wrote().complete
    await agent.do(world.flip())
    await world.judge()
    assert world.enrolled() == world.enrollment()


async def test_by_default_nothing_is_approved_unasked(made):
    world = await made()
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    await agent.do(world.flip())

    await world.judge()

    assert world.enrolled() == world.enrollment()
    assert world.incidents == []


async def test_the_agents_own_update_is_approved_by_policy_and_told_and_its_session_goes_on(made):
    world = await made("own-updater")
    world.updater.start()
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    await agent.do(world.flip())
    while not world.incidents:  # by itself, once nothing more is written
        await asyncio.sleep(0.01)

    (incident,) = world.incidents
    assert (incident.kind, incident.severity, incident.action) == ("agent-updated", "info", "approved")
    assert "2.1.331" in incident.what
    updated = await world.puppet(world.launcher)
    assert (await world.attest(updated)).principal.is_caller
    assert (await world.attest(agent)).principal.is_caller
    assert [each.how for each in world.enrolled().history] == ["enroll", "own-updater"]
    assert world.enrolled().history[-1].version == "2.1.331"


async def test_a_second_update_leaves_one_earlier_version_enrolled(made):
    world = await made("own-updater")
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    for name in ("2.1.331", "2.1.332"):
        world.new = world.versions / name
        world.next_version.write_bytes(PYTHON.read_bytes() + name.encode())
        await agent.do(world.write())
        await agent.do(world.flip())
        await world.judge()
        agent = await world.agent()
        await asyncio.sleep(BORN_LATER_S)

    assert [Path(each.path).name for each in world.enrolled().binaries] == ["2.1.332", "2.1.331"]
    assert len(world.enrolled().history) == 3


async def test_an_update_that_somebody_else_touched_is_not_approved(made):
    world = await made("own-updater")
    agent, stranger = await world.agent(), await world.puppet()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    await agent.do(world.flip())
    await stranger.do(f"(lambda f: [f.write(b'x'), f.close()])(open({str(world.new)!r}, 'ab'))")

    await world.judge()

    assert world.enrolled() == world.enrollment()


async def test_an_update_that_is_open_for_writing_is_not_approved(made):
    world = await made("own-updater")
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    await agent.do(world.flip())
    await agent.do(f"os.open({str(world.new)!r}, os.O_WRONLY)")

    await world.judge()

    assert world.enrolled() == world.enrollment()


async def test_an_update_that_is_larger_than_is_hashed_is_not_approved_and_that_is_said(made, monkeypatch, caplog):
    world = await made("own-updater")
    agent = await world.agent()
    await asyncio.sleep(BORN_LATER_S)
    await agent.do(world.write())
    await agent.do(world.flip())
    monkeypatch.setattr(preapproval, "MAX_HASHED_BYTES", world.new.stat().st_size - 1)

    await world.judge()

    assert world.enrolled() == world.enrollment()
    assert f"{world.new} is not approved unasked: it is too large to hash" in caplog.text
    monkeypatch.setattr(preapproval, "MAX_HASHED_BYTES", world.new.stat().st_size)
    await world.judge()
    assert [each.how for each in world.enrolled().history] == ["enroll", "own-updater"]


async def test_a_process_that_writes_and_then_becomes_the_agent_is_not_the_agent(made):
    """The event is read when the agent's genuine image is already there: the file is older than the image."""
    world = await made("own-updater")
    await world.agent()
    stranger = await world.puppet()
    await stranger.do(world.write())
    await stranger.do(world.flip())
    wait = "import sys; sys.stdin.read()"
    doing = asyncio.ensure_future(stranger.do(f"os.execv({str(world.old)!r}, ['claude', '-c', {wait!r}])"))
    while (await world.attest(stranger)).principal is None:  # the kernel side sees the exec when its image is there
        await asyncio.sleep(0.001)

    (seen,) = world.who_wrote().writers
    assert seen.writer.is_agent  # so it looks, and only its time tells
    await world.judge()
    assert world.enrolled() == world.enrollment()
    doing.cancel()


async def test_a_package_manager_that_root_runs_is_approved_and_the_same_by_the_user_is_not(made):
    for uid, approved in ((0, True), (USER, False)):
        world = await made("root-package-manager")
        manager = world.folder / "dpkg"
        manager.write_bytes(PYTHON.read_bytes())
        manager.chmod(0o755)
        dpkg = await world.puppet(manager, uid)
        await asyncio.sleep(0.1)
        await dpkg.do(world.write())
        await dpkg.do(world.flip())

        await world.judge()

        assert [each.how for each in world.enrolled().history[1:]] == ["root-package-manager"] * approved


async def test_root_that_is_not_a_package_manager_is_asked(made):
    world = await made("root-package-manager", "own-updater")
    root = await world.puppet(uid=0)
    await asyncio.sleep(BORN_LATER_S)
    await root.do(world.write())
    await root.do(world.flip())

    await world.judge()

    assert world.enrolled() == world.enrollment()


async def test_the_new_version_is_nobody_and_the_refusal_can_say_what_to_do(made):
    world = await made()
    agent = await world.agent()
    await agent.do(world.write())
    await agent.do(world.flip())
    updated = await world.puppet(world.launcher)

    verdict = await world.attest(updated)

    assert verdict.principal is None
    found = find_updated(verdict, "claude", (world.enrolled(),))
    assert found.sentence == f"claude at {world.launcher} is not what was enrolled"
    assert found.next_step == "if you updated it: sudo agent-broker approve claude"


async def test_after_approve_the_new_process_is_the_agent_and_the_old_one_is_not(made):
    world = await made()
    old = await world.agent()
    await old.do(world.write())
    await old.do(world.flip())
    updated = await world.puppet(world.launcher)
    assert (await world.attest(updated)).principal is None

    found = find_update(ClaudeRecipe(), USER, site=world.site(), who_wrote=world.updater.who_wrote)
    assert found.provenance.complete
    assert (found.running, found.vendor.version) == ((old.pid,), "2.1.331")
    assert approve(found, world.site()) == ()
    assert await world.reload() == ()

    fresh = await world.puppet(world.launcher)
    assert (await world.attest(fresh)).principal.is_caller
    assert (await world.attest(old)).principal is None
