"""Decoys on the running kernel: every way to open one is seen, named, answered; the agent is left alone."""

import asyncio
import errno
import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.puppet import Puppet
from tests.fakes.watching import SYSTEM_PYTHON, USER, Watching

pytestmark = pytest.mark.kernel


@pytest.fixture
async def watching():
    watching = Watching()
    yield watching
    await watching.close()


def sha256(path):
    return hashlib.sha256(Path(path).resolve().read_bytes()).hexdigest()


WAYS = {
    "open": "os.open({decoy!r}, os.O_RDONLY)",
    "open for writing": "os.open({decoy!r}, os.O_WRONLY)",
    "openat": "os.open('credentials', os.O_RDONLY, dir_fd=os.open({home!r}, os.O_RDONLY))",
    "openat2": "openat2({decoy!r})",
    "creat": "os.open({decoy!r}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)",
    "mmap": "str(mmap.mmap(os.open({decoy!r}, os.O_RDONLY), 0, prot=mmap.PROT_READ)[:4])",
    "O_PATH, opened again": "os.open('/proc/self/fd/%d' % os.open({decoy!r}, os.O_PATH), os.O_RDONLY)",
    "symbolic link": "[os.symlink({decoy!r}, {home!r} + '/s'), os.open({home!r} + '/s', os.O_RDONLY)][1]",
    "execve": "[os.chmod({decoy!r}, 0o700), os.spawnv(os.P_WAIT, {decoy!r}, ['x'])][1]",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_every_way_to_open_a_decoy_is_seen_and_named(watching, way):
    assert watching.start() == ()
    puppet = await watching.puppet()

    await puppet.do(way.format(decoy=str(watching.decoy), home=str(watching.decoy.parent)))

    opened = [each for each in await watching.all_told() if each.kind == "decoy-opened"]
    assert len(opened) == 1
    assert (opened[0].severity, opened[0].action) == ("critical", "served-decoy")
    assert opened[0].path == str(watching.decoy)
    assert opened[0].process_sha256 == sha256(SYSTEM_PYTHON)
    assert opened[0].lineage[0].image.uid == USER


async def test_a_hard_link_is_the_same_decoy_by_another_name(watching):
    watching.start()
    puppet = await watching.puppet()
    link = watching.decoy.with_name("innocent")

    await puppet.do(f"[os.link({str(watching.decoy)!r}, {str(link)!r}), os.open({str(link)!r}, os.O_RDONLY)][1]")

    (incident,) = await watching.all_told()
    assert incident.path == str(watching.decoy)
    assert f"as {link} and was served it" in incident.what


async def test_a_bind_mount_is_the_same_decoy_by_another_name(watching):
    watching.start()
    target = watching.new_file(watching.folder / "mounted")
    subprocess.run(["mount", "--bind", watching.decoy, target], check=True)
    try:
        puppet = await watching.puppet()
        await puppet.do(f"os.close(os.open({str(target)!r}, os.O_RDONLY))")
        incident = await watching.incidents.get()
    finally:
        subprocess.run(["umount", target], check=True)

    assert f"as {target} and was served it" in incident.what


async def test_an_opener_that_ends_at_once_is_named_all_the_same(watching):
    watching.start()

    cat = await asyncio.create_subprocess_exec(
        "cat", watching.decoy, user=USER, group=USER, extra_groups=(), cwd="/", stdout=asyncio.subprocess.PIPE
    )
    served, _ = await cat.communicate()

    assert served == b'{"token": "decoy"}'
    (incident,) = await watching.all_told()
    assert incident.process_sha256 == sha256("/bin/cat")
    assert incident.lineage[0].image.filename.endswith("cat")


async def test_the_agent_opens_its_decoy_unseen_and_its_child_does_not(watching):
    watching.start()
    agent = await watching.puppet(agent="claude")
    child = await watching.puppet(parent=agent)
    opening = f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))"

    await agent.do(opening)
    await child.do(opening)

    (incident,) = await watching.all_told()
    assert f"pid {child.pid}" in incident.what
    assert "started by the agent claude" in incident.what
    assert incident.agent == "claude"


async def test_an_agent_whose_hash_is_not_taken_yet_is_asked_again_and_left_alone(watching):
    watching.start()
    agent = await watching.puppet(agent="claude")
    watching.world.unknown_at_once.add(agent.pid)

    await agent.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")

    assert await watching.all_told() == []


async def test_root_is_told_as_information(watching):
    watching.start()
    root = await watching.puppet(uid=0)

    await root.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")

    (incident,) = await watching.all_told()
    assert incident.severity == "info"


async def test_a_denied_decoy_is_denied_to_all_but_its_agent(watching):
    watching.start(deny=True)
    agent = await watching.puppet(agent="claude")
    stranger = await watching.puppet()
    opening = f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))"

    await agent.do(opening)
    with pytest.raises(PermissionError):
        await stranger.do(opening)

    (incident,) = await watching.all_told()
    assert incident.action == "denied"
    assert "and was denied" in incident.what


async def test_denying_one_decoy_leaves_the_others_served(watching):
    served = watching.new_file(watching.decoy.with_name("served"))
    watching.start()
    enrollments = [watching.enrollment(watching.decoy, deny=True), watching.enrollment(served, agent="codex")]
    assert watching.watch.apply_registry(enrollments) == ()
    puppet = await watching.puppet()

    await puppet.do(f"os.close(os.open({str(served)!r}, os.O_RDONLY))")
    with pytest.raises(PermissionError):
        await puppet.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")

    told = await watching.all_told()
    assert {(each.path, each.action) for each in told} == {
        (str(served), "served-decoy"), (str(watching.decoy), "denied"),
    }  # fmt: skip


async def test_a_denied_decoy_is_denied_to_everybody_while_the_loop_is_stuck(watching):
    watching.start(deny=True)
    cat = subprocess.Popen(["cat", watching.decoy], stderr=subprocess.PIPE)

    _, said = await_blocking(cat)  # the event loop stands still meanwhile

    assert os.strerror(errno.EPERM) in said.decode()


async def test_a_served_decoy_is_served_while_the_loop_is_stuck(watching):
    watching.start()
    cat = subprocess.Popen(["cat", watching.decoy], stdout=subprocess.PIPE, user=USER, group=USER, extra_groups=())

    served, _ = await_blocking(cat)

    assert served == b'{"token": "decoy"}'
    (incident,) = await watching.all_told()
    assert incident.process_sha256 == sha256("/bin/cat")


def await_blocking(process):
    """Wait for a process without letting the event loop run."""
    return process.communicate()


async def test_a_decoy_that_is_opened_by_the_monitor_itself_does_not_hang_it(watching):
    watching.start(deny=True)

    watching.decoy.read_text()  # in the event loop's own thread, as an attacker can arrange with a hard link

    assert await watching.all_told() == []


async def test_a_program_that_is_the_decoy_itself_is_hashed(watching):
    watching.decoy.write_bytes(Path(SYSTEM_PYTHON).resolve().read_bytes())
    watching.decoy.chmod(0o755)
    watching.start()
    puppet = await Puppet.start(USER, program=watching.decoy)
    watching.puppets.append(puppet)
    watching.world.execute(watching.world.processes[puppet.pid], str(watching.decoy))

    await puppet.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")

    executed, opened = await watching.all_told()
    assert "python" in executed.lineage[0].image.filename  # what it was before the exec that opened the decoy
    assert opened.lineage[0].image.filename == str(watching.decoy)
    assert opened.process_sha256 == sha256(SYSTEM_PYTHON)


async def test_a_burst_of_one_program_is_one_incident(watching):
    watching.start()
    puppet = await watching.puppet()

    await puppet.do(f"[os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY)) for _ in range(10)] and None")

    (incident,) = await watching.all_told()
    assert incident.kind == "decoy-opened"
    assert len(incident.lineage) == 1


async def test_an_opener_that_is_killed_while_it_waits_does_no_harm(watching, monkeypatch):
    watching.start()
    real = watching.world.snapshot
    victims = []

    def kill_first(pidfd):
        record = real(pidfd)
        if victims:
            victims.pop().kill()
            time.sleep(0.05)
        return record

    monkeypatch.setattr(watching.world, "snapshot", kill_first)
    victim = await asyncio.create_subprocess_exec("sleep", "1000", user=USER, group=USER, extra_groups=(), cwd="/")
    victim.kill()
    await victim.wait()
    cat = await asyncio.create_subprocess_exec(
        "cat", watching.decoy, user=USER, group=USER, extra_groups=(), cwd="/", stdout=asyncio.subprocess.DEVNULL
    )
    victims.append(cat)
    await cat.wait()
    second = await watching.puppet()
    await second.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")

    told = await watching.all_told()
    assert any(f"pid {second.pid}" in each.what for each in told)


async def test_closing_lets_openers_go_and_tells_what_was_seen(watching):
    watching.start()
    puppets = [await watching.puppet() for _ in range(4)]
    opening = f"[os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY)) for _ in range(50)] and None"

    opens = [asyncio.create_task(each.do(opening)) for each in puppets]
    await watching.incidents.get()
    told = await watching.all_told()
    await asyncio.gather(*opens)

    assert {each.lineage[0].image.uid for each in told} == {USER}


async def test_without_permission_events_an_open_is_only_seen(watching):
    watching.start(permission=False, deny=True)
    puppet = await watching.puppet()

    await puppet.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")

    (incident,) = await watching.all_told()
    assert (incident.action, incident.process_sha256) == ("only-seen", sha256(SYSTEM_PYTHON))


async def test_no_descriptor_is_left_behind(watching):
    puppet = await watching.puppet()
    before = sorted(os.listdir("/proc/self/fd"))
    watching.start()

    for path in (watching.decoy, watching.decoy.with_name("again")):
        await puppet.do(f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))")
        await puppet.do(f"os.rename({str(watching.decoy)!r}, {str(path)!r})")
    await watching.all_told()

    assert sorted(os.listdir("/proc/self/fd")) == before
