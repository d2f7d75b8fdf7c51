"""Interpreted agents on the real kernel: a Node package of an ordinary user, and what that user does to it."""

import asyncio
import ctypes
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from agent_broker.kernel.maps import TaskRecord
from tests.fakes.interpreted import OWNER, enrolled_world, is_agent

pytestmark = pytest.mark.kernel


@pytest.fixture
async def world():
    async with enrolled_world() as world:
        yield world


@contextmanager
def mounted_by_a_user(folder):
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id={OWNER},group_id={OWNER}".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"sample", os.fsencode(folder), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    try:
        yield
    finally:
        libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH
        os.close(fd)


async def test_the_enrolled_script_is_the_agent_however_it_is_started(world):
    for command in (
        (world.link,),
        (world.script, "with", "arguments"),
        ("/usr/bin/node", world.link),
        (world.node, "--max-old-space-size=256", world.script),
    ):
        verdict = await world.attest(world.start(*command))
        assert is_agent(verdict), command
        assert verdict.taints == (), command


async def test_another_script_is_nobody(world):
    other = world.folder / "other.js"
    shutil.copy(world.script, other)
    copy = world.folder / "copy"
    shutil.copytree(world.package, copy)
    (world.folder / "part.js").write_text("")

    assert (await world.attest(world.start("/usr/bin/node", other))).principal is None
    assert (await world.attest(world.start("/usr/bin/node", copy / "main.js"))).principal is None


async def test_node_with_code_on_the_command_line_is_nobody(world):
    evil = world.folder / "evil.js"
    evil.write_text("")
    idle = "setInterval(() => {}, 1000)"

    for options in (("-e", idle), ("--eval", idle), ("--require", evil), (f"--require={evil}",), ("--import", evil)):
        assert (await world.attest(world.start("/usr/bin/node", *options, world.script))).principal is None, options
    assert (await world.attest(world.start("/usr/bin/node", "--inspect=127.0.0.1:0", world.script))).principal is None


async def test_a_script_named_by_a_path_that_readers_understand_differently_is_nobody(world):
    (world.folder / "elsewhere").mkdir()
    (world.folder / "elsewhere/link").symlink_to(world.package / "sub")
    text = world.folder / "elsewhere/link/../main.js"

    for path in (text, f"/{world.script}", f"{world.package}/./main.js", "lib/node_modules/sample/main.js"):
        process = world.start("/usr/bin/node", path)
        assert (await world.attest(process)).principal is None, path


async def test_node_options_in_the_environment_taint(world):
    verdict = await world.attest(
        world.start(world.link, env={"PATH": "/usr/bin:/bin", "NODE_OPTIONS": "--no-warnings"})
    )

    assert is_agent(verdict)
    assert any("NODE_OPTIONS" in taint for taint in verdict.taints)


async def test_a_file_that_was_replaced_before_the_start_taints(world):
    world.as_user(f"open('{world.package}/part.js', 'w').write('module.exports = 2;\\n')")
    await world.rest()

    verdict = await world.attest(world.start(world.link))

    assert any("not what was enrolled" in taint for taint in verdict.taints)


async def test_a_file_that_was_added_taints(world):
    world.as_user(f"open('{world.package}/sub/planted.js', 'w').close()")
    await world.rest()

    verdict = await world.attest(world.start(world.link))

    assert any("not what was enrolled" in taint for taint in verdict.taints)


async def test_a_package_that_was_put_back_is_the_agent_again_for_those_started_later(world):
    part = world.package / "part.js"
    before = part.read_text()
    world.as_user(f"open('{part}', 'a').write('evil')")
    world.as_user(f"open('{part}', 'w').write({before!r})")
    await world.rest()

    verdict = await world.attest(world.start(world.link))

    assert is_agent(verdict)
    assert verdict.taints == ()


@pytest.mark.parametrize(
    "change",
    [
        "open(PART, 'a').close()",
        "t = open(PART).read(); open(PART, 'w').write('evil'); open(PART, 'w').write(t)",
        "os.rename(PART, PART + '2'); os.rename(PART + '2', PART)",
        "os.utime(PART, (1, 1))",
        "os.chmod(PART, 0o600); os.chmod(PART, 0o644)",
        "os.link(PART, PART + '2'); os.unlink(PART + '2')",
        "os.rename(PACKAGE, PACKAGE + '2'); os.mkdir(PACKAGE); os.rmdir(PACKAGE); os.rename(PACKAGE + '2', PACKAGE)",
        "os.rename(PACKAGE + '/sub', PACKAGE + '/sub2'); os.rename(PACKAGE + '/sub2', PACKAGE + '/sub')",
    ],
)
async def test_a_change_while_it_runs_taints_for_good_although_it_was_undone(world, change):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()
    code = f"import os; PACKAGE = {str(world.package)!r}; PART = PACKAGE + '/part.js'; {change}"

    world.as_user(code)

    assert is_agent(await world.attest(process))
    assert (await world.attest(process)).taints != ()
    assert not (await world.attest(process)).is_updated
    await world.rest()
    assert (await world.attest(process)).taints != ()
    assert (await world.attest(world.start(world.link))).taints == ()


async def test_a_link_that_was_swapped_and_put_back_taints(world):
    evil = world.folder / "evil.js"
    evil.write_text("console.log('loaded'); setInterval(() => {}, 1000);\n")
    evil.chmod(0o755)
    world.as_user(
        f"import os, subprocess; link = {str(world.link)!r}; os.rename(link, link + '.old');"
        f"os.symlink({str(evil)!r}, link); p = subprocess.Popen(['/usr/bin/node', link], stdin=-3, stdout=-1);"
        f"open({str(world.folder / 'pid')!r}, 'w').write(str(p.pid)); p.stdout.readline();"
        "os.unlink(link); os.rename(link + '.old', link)"
    )

    verdict = await world.attest(world.adopt(int((world.folder / "pid").read_text())))

    assert any("path of its script was changed" in taint for taint in verdict.taints)


async def test_a_folder_that_was_swapped_and_put_back_taints(world):
    world.as_user(
        f"import os, shutil, subprocess; modules = {str(world.modules)!r};"
        "shutil.copytree(modules, modules + '.evil', symlinks=True);"
        "os.rename(modules, modules + '.old'); os.rename(modules + '.evil', modules);"
        f"p = subprocess.Popen(['/usr/bin/node', {str(world.link)!r}], stdin=-3, stdout=-1);"
        f"open({str(world.folder / 'pid')!r}, 'w').write(str(p.pid)); p.stdout.readline();"
        "shutil.rmtree(modules); os.rename(modules + '.old', modules)"
    )

    verdict = await world.attest(world.adopt(int((world.folder / "pid").read_text())))

    assert any("path of its script was changed" in taint for taint in verdict.taints)


@pytest.mark.parametrize(
    "how", ["f = open(PART, 'r+')", "import mmap; o = open(PART, 'r+b'); f = mmap.mmap(o.fileno(), 0); o.close()"]
)
async def test_a_file_that_is_open_for_writing_taints_until_the_writer_left_and_the_agent_is_started_again(world, how):
    """A mapping that was written before writes again without a new change time."""
    with world.attacker(f"PART = {str(world.package / 'part.js')!r}; {how}"):
        await world.rest()
        process = world.start(world.link)
        while_held = await world.attest(process)
    afterwards = await world.attest(process)
    second = await world.attest(world.start(world.link))

    assert any("open for writing" in taint for taint in while_held.taints)
    assert any("open for writing" in taint for taint in afterwards.taints)
    assert second.taints == ()


async def test_a_writer_from_before_the_package_was_watched_taints(world):
    part = world.package / "part.js"
    part.write_text("module.exports = 3;\n")
    world.owned(part)
    await world.rest()
    with world.attacker(f"f = open({str(part)!r}, 'r+')"):
        assert await world.enroll() == ()
        verdict = await world.attest(world.start(world.link))

    assert any("open for writing" in taint for taint in verdict.taints)


async def test_a_writer_that_was_there_at_the_start_and_left_before_anybody_looked_taints(world):
    """It can have shown the agent other bytes: written back, they leave no trace but the end of its descriptor."""
    with world.attacker(f"f = open({str(world.package / 'part.js')!r}, 'r+')"):
        process = world.start(world.link)
        await world.runs(process)

    assert any("open for writing" in taint for taint in (await world.attest(process)).taints)


async def test_a_writer_that_came_after_the_start_taints_whatever_it_wrote(world):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    world.as_user(f"open('{world.package}/part.js', 'r+').close()")

    assert any("open for writing" in taint for taint in (await world.attest(process)).taints)


async def test_who_only_reads_the_package_changes_nothing(world):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    world.as_user(
        f"import os; [open(os.path.join(d, f)).read() for d, _, n in os.walk({str(world.package)!r}) for f in n]"
    )

    assert (await world.attest(process)).taints == ()


async def test_other_packages_may_come_beside_it_while_it_runs(world):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    world.as_user(f"import os; os.mkdir({str(world.modules / 'another')!r}); open({str(world.folder / 'new')!r}, 'w')")

    assert (await world.attest(process)).taints == ()


async def test_another_mount_namespace_can_show_other_files_so_it_taints(world):
    command = ["unshare", "--mount", "setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]
    process = world.start_as_root(*command, "/usr/bin/node", world.link)

    verdict = await world.attest(process)

    assert any("mount namespace" in taint for taint in verdict.taints)


async def test_a_file_system_of_a_user_that_was_over_the_package_taints_also_when_it_is_gone(world):
    """What fusermount does for any user; nobody serves it here, and the monitor does not touch it."""
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    with mounted_by_a_user(world.package):
        covered = await world.attest(process)
    while (await world.attest(world.start(world.link))).taints:  # until it was noticed that the mount is gone
        await world.rest()

    assert any("mounted over" in taint for taint in (await world.attest(process)).taints)
    assert covered.taints != ()


async def test_another_user_is_nobody(world):
    process = world.start_as_root("/usr/bin/node", world.link)

    assert (await world.attest(process)).principal is None


async def test_a_start_is_looked_at_before_anybody_asks(world):
    seen = {}  # by process: others on this machine start the same interpreter
    look = world.store.on_captured
    world.store.on_captured = lambda event: (look(event), seen.update({event.pid: (event.proc_id, event.exec_id)}))
    process = world.start("/usr/bin/node", world.link)
    verdict = None
    while not hasattr(verdict, "principal"):
        world.sensor.consume()
        await asyncio.sleep(0.001)
        verdict = world.attestor.recall(TaskRecord(*seen[process.pid], 0)) if process.pid in seen else None

    assert is_agent(verdict)
    assert process.poll() is None


async def test_a_warm_answer_takes_microseconds(world):
    """No limit here, it must not wait. What a new start costs, with a large package, is the bench's (bundle-start)."""
    process = world.start(world.link)
    await world.attest(process)
    await asyncio.sleep(0.3)
    await world.attest(process)

    with world.pidfd(process) as pidfd:
        began = time.perf_counter()
        answers = [world.attestor.attest_now(pidfd) for _ in range(1000)]

    print(f"warm: {(time.perf_counter() - began) * 1000:.1f} us")
    assert None not in answers


async def test_a_native_addon_of_the_package_is_its_own_code_and_one_from_elsewhere_is_not(world):
    addon, foreign = world.package / "addon.node", world.folder / "foreign.node"
    source = world.folder / "addon.c"
    source.write_text("void *napi_register_module_v1(void *env, void *exports) { (void)env; return exports; }\n")
    for each in (addon, foreign):
        subprocess.run(["cc", "-shared", "-fPIC", "-o", each, source], check=True)
        world.owned(each)
    load = "require({!r});\n"
    text = world.script.read_text().replace("console.log", load.format(str(addon)) + "console.log")
    world.script.write_text(
        text.replace("console.log", "if (process.argv[2]) " + load.format(str(foreign)) + "console.log")
    )
    await world.rest()
    assert await world.enroll() == ()

    own, other = world.start(world.link), world.start(world.link, "foreign")
    await world.loaded(own)
    await world.loaded(other)

    assert (await world.attest(own)).taints == ()
    assert any("not part of the agent" in taint for taint in (await world.attest(other)).taints)


async def test_a_module_that_the_package_lacks_may_not_lie_above_it(world):
    planted = world.folder / "node_modules/optional"
    world.as_user(f"import os; os.makedirs('{planted}')")
    await world.rest()

    verdict = await world.attest(world.start(world.link))

    assert is_agent(verdict)
    assert any(str(planted) in taint for taint in verdict.taints)


@pytest.mark.parametrize("place", ["lib/node_modules/optional.js", ".node_modules/optional", "node_modules/@a/b"])
async def test_a_module_that_was_there_for_a_moment_taints_what_ran_then(world, place):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    planted = world.folder / place
    world.as_user(f"import os; os.makedirs('{planted}'); os.removedirs('{planted}')")

    assert any("while it ran" in taint for taint in (await world.attest(process)).taints)
    await world.rest()
    assert (await world.attest(world.start(world.link))).taints == ()


async def test_other_modules_above_the_package_are_the_users_business(world):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()
    world.as_user(f"import os; os.makedirs('{world.modules}/another/node_modules/optional')")
    await world.rest()

    assert (await world.attest(process)).taints == ()
    assert (await world.attest(world.start(world.link))).taints == ()


async def test_a_folder_above_the_package_that_is_swapped_taints_what_runs(world):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    lib = world.folder / "lib"
    world.as_user(f"import os; os.rename('{lib}', '{lib}2'); os.mkdir('{lib}'); os.rmdir('{lib}');"
                  f" os.rename('{lib}2', '{lib}')")  # fmt: skip

    assert any("above its package" in taint for taint in (await world.attest(process)).taints)


async def test_another_home_taints_since_modules_are_looked_for_there(world):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(world.folder / "elsewhere")}

    verdict = await world.attest(world.start(world.link, env=environment))

    assert any("another HOME" in taint for taint in verdict.taints)
