"""A view on a real mount: what its reader reads and writes, what strangers get, what survives."""

import errno
import os

import pytest

from agent_broker.errors import RefusedError
from agent_broker.view.content import MAX_BESIDE, MAX_FILE_BYTES
from tests.fakes.viewing import DECOY, REAL, disk_full, viewing

pytestmark = pytest.mark.kernel
READ = "print(open(PATH).read(), end='')"


@pytest.fixture
async def world():
    async with viewing() as made:
        yield made


async def test_the_reader_reads_the_content_and_a_stranger_the_decoy(world):
    assert await world.read(READ) == REAL.decode().strip()
    assert await world.cat() == DECOY.decode().strip()
    await world.gate.close()
    assert len(world.told.sentences) == 1
    assert "it opened /root/test" in world.told.sentences[0]


async def test_a_thread_that_does_not_lead_its_process_is_that_process(world):
    thread = "import threading\nthread = threading.Thread(target=lambda: print(open(PATH).read()))"
    script = f"{thread}\nthread.start()\nthread.join()"
    assert await world.read(script) == REAL.decode().strip()


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ("open(PATH, 'w').write('new')", b"new"),
        ("f = open(PATH, 'r+')\nf.write('REAL')\nf.close()", b"REAL content\n"),
        ("f = open(PATH, 'r+')\nf.truncate(4)\nf.close()", b"real"),
        ("os.truncate(PATH, 4)", b"real"),
        ("open(PATH, 'a').write('more')", REAL + b"more"),
        ("f = open(PATH, 'r+b')\nf.seek(20)\nf.write(b'x')\nf.close()", REAL + bytes(20 - len(REAL)) + b"x"),
        ("open(PATH + '.tmp', 'w').write('new')\nos.rename(PATH + '.tmp', PATH)", b"new"),
        (
            "f = open(PATH + '.tmp', 'w')\nf.write('new')\nf.flush()\nos.fsync(f)\nos.replace(PATH + '.tmp', PATH)",
            b"new",
        ),
        ("os.unlink(PATH)\nopen(PATH, 'x').write('again')", b"again"),
    ],
)
async def test_what_the_reader_writes_is_kept(world, script, kept):
    assert await world.read(script) == ""
    assert (world.vault.content, world.written > 0) == (kept, True)
    assert await world.read(READ) == kept.decode().strip("\0").strip() or b"\0" in kept
    assert await world.cat() == DECOY.decode().strip()


@pytest.mark.parametrize(
    ("script", "when"),
    [
        ("f = open(PATH, 'w'); f.write('kept'); f.close()", "closed"),
        ("f = open(PATH, 'w'); f.write('kept'); f.flush(); os.fsync(f)", "synced"),
        ("f = open(PATH + 'x', 'w'); f.write('kept'); f.close(); os.rename(PATH + 'x', PATH)", "renamed"),
    ],
)
async def test_it_is_kept_before_the_call_returns(world, script, when):
    async with world.asking(f"{script}; print({when!r}, flush=True); os.read(0, 1)") as process:
        assert (await process.stdout.readline()).decode().strip() == when
        kept = world.vault.content
    assert kept == b"kept"


async def test_the_mode_is_kept_with_the_content(world):
    await world.read("os.chmod(PATH, 0o600)")
    assert await world.read("print(oct(os.stat(PATH).st_mode & 0o777))") == "0o600"
    assert int(world.vault.attributes["mode"], 8) == 0o600


async def test_a_stranger_writes_nothing(world):
    made = f"echo x > {world.path}; echo x > {world.path}.tmp; mkdir {world.path}.lock"
    script = f"{made}; rm -f {world.path}; truncate -s0 {world.path}"
    said = await world.run("/bin/sh", "-c", script)
    assert said.count("ermission denied") == 5
    assert (world.vault.puts, world.vault.content) == (0, REAL)
    await world.gate.close()
    assert sum("tried to write" in each for each in world.told.sentences) >= 4


async def test_a_stranger_sees_nothing_beside_the_file(world):
    make = "f = open(PATH + '.tmp', 'w')\nf.write('new secret')\nf.flush()"
    said = await world.read(f"{make}\nprint(os.popen('cat ' + PATH + '.tmp 2>&1; ls ' + FOLDER).read())")
    assert "No such file" in said
    assert said.splitlines()[-1] == "test"


async def test_locks_work(world):
    assert await world.read("os.mkdir(PATH + '.lock')\nos.mkdir(PATH + '.lock')") == "EEXIST"
    assert await world.read("os.rmdir(PATH + '.lock')\nos.mkdir(PATH + '.lock')\nos.rmdir(PATH + '.lock')") == ""
    assert (
        await world.read("os.open(PATH + '.l', os.O_CREAT | os.O_EXCL)\nos.open(PATH + '.l', os.O_CREAT | os.O_EXCL)")
        == "EEXIST"
    )


async def test_what_a_reader_can_make_the_broker_hold_is_bounded(world):
    assert await world.read(f"open(PATH, 'r+b').truncate({MAX_FILE_BYTES + 1})") == "EFBIG"
    assert await world.read(f"for each in range({MAX_BESIDE + 1}): os.mkdir(PATH + str(each))") == "ENOSPC"


async def test_what_is_no_file_of_a_reader_is_refused(world):
    assert await world.read("os.link(PATH, PATH + '2')") in {"EPERM", "ENOSYS"}
    assert await world.read("os.symlink('/etc', PATH + '2')") in {"EPERM", "ENOSYS"}
    assert await world.read("os.rename(PATH, PATH + '2')") == "EACCES"
    assert await world.read("os.rename(PATH, '/tmp/ab-view-elsewhere')") == "EXDEV"
    assert await world.read("import mmap\nmmap.mmap(os.open(PATH, os.O_RDWR), 4)") == "ENODEV"


async def test_a_reader_that_a_rule_refuses_gets_no_decoy(world):
    world.issuer.refusal = RefusedError("policy", "no rule")
    assert await world.read(READ) == "EACCES"
    assert await world.cat() == DECOY.decode().strip()


async def test_without_a_monitor_everybody_is_a_stranger(world):
    world.monitor.down = True
    assert await world.read(READ) == DECOY.decode().strip()
    assert await world.read("open(PATH, 'w')") == "EACCES"


async def test_a_descriptor_that_is_left_to_another_program_reads_nothing(world):
    leave = "os.dup2(os.open(PATH, os.O_RDONLY), 0)\nos.spawnv(os.P_WAIT, '/bin/dd', ['dd', 'status=none'])"
    said = await world.read(leave)
    assert REAL.decode().strip() not in said
    assert "Permission denied" in said
    await world.gate.close()
    assert any("another process's descriptor" in each for each in world.told.sentences)


@pytest.mark.parametrize("flags", ["os.O_RDONLY", "os.O_PATH"])
async def test_a_readers_open_file_is_nobody_elses_by_way_of_proc(world, flags):
    async with world.asking(f"print(os.open(PATH, {flags}), flush=True); os.read(0, 1)") as process:
        fd = (await process.stdout.readline()).decode().strip()
        place = f"/proc/{process.pid}/fd/{fd}"
        assert "Stale file handle" in await world.run("/bin/cat", place)
        assert await world.read(f"print(open({place!r}).read())") == "ESTALE"


@pytest.mark.parametrize(
    ("file", "seen"),
    [
        ("name = PATH", DECOY.decode().strip()),
        (
            "fd = os.open(PATH, os.O_PATH)\nos.set_inheritable(fd, True)\nname = f'/proc/self/fd/{fd}'",
            "Stale file handle",
        ),
    ],
)
async def test_what_a_reader_becomes_a_moment_later_is_a_stranger(world, file, seen):
    said = await world.read(f"open(PATH).read()\n{file}\nos.execv('/bin/cat', ['cat', name])")
    assert seen in said
    assert REAL.decode().strip() not in said


async def test_a_reader_that_seems_to_change_is_looked_at_again(world):
    world.issuer.changes = 1
    assert await world.read(READ) == REAL.decode().strip()
    world.issuer.changes = 2
    assert await world.read(READ) == "ESTALE"


async def test_a_reader_that_reads_on_is_asked_about_at_each_open_and_each_read(world):
    await world.read("for each in range(5): open(PATH).read()")
    asked = world.monitor.questions
    assert sum("known" in each for each in asked) >= 5
    assert asked.count("recheck") >= 5


async def test_a_vault_that_takes_nothing_is_an_error_and_loses_nothing(world):
    world.vault.failure = disk_full()
    assert await world.read("f = open(PATH, 'w')\nf.write('new')\nf.close()") == "EIO"
    world.vault.failure = None
    assert world.vault.content == REAL
    assert await world.read(READ) == REAL.decode().strip()


async def test_a_dead_broker_gives_nothing_and_its_mount_is_replaced(world):
    await world.stop()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        world.path.read_bytes()
    world.serve()
    assert await world.read(READ) == REAL.decode().strip()


async def test_nothing_is_left_of_those_who_are_gone(world):
    for _ in range(3):
        await world.read(READ)
        await world.cat()
    state = world.server._state
    assert state.handles._handles == {}
    assert state.contents[next(iter(state.contents))]._blob is None
