"""An executable on a FUSE file system that an ordinary user mounted, as fusermount3 lets them: never the agent.

fusermount3 is setuid root and does one thing with that: it mounts /dev/fuse for its caller, with the options that are
used here (fusermount3(1), mount.fuse(8)). Nobody else, root included, can look into such a file system.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_broker.kernel.events import FUSE_MAGIC
from tests.fakes import fuse_server
from tests.kernel.test_attest_real import World

pytestmark = pytest.mark.kernel

USER = 64129
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
async def world():
    """The agent of an ordinary user, in a folder of theirs."""
    folder = Path(tempfile.mkdtemp(prefix="fuse-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "own").mkdir()
    world = World(folder / "own", owner_uid=USER)
    for path in (folder / "own", world.agent):
        os.chown(path, USER, USER)
    assert await world.enroll() == ()
    yield world
    world.close()
    shutil.rmtree(folder)


def start(world, program):
    return world.start(str(program), "60", user=USER, group=USER, extra_groups=())


@contextmanager
def mounted(at, content):
    """Have the user serve ``content`` below ``at``, and mount it as fusermount3 does for them."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={fd},rootmode=40000,user_id={USER},group_id={USER}".encode()
        flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        assert _libc.mount(b"own", bytes(at), b"fuse", flags, options) == 0, os.strerror(ctypes.get_errno())
        code = Path(fuse_server.__file__).read_text()
        server = subprocess.Popen(
            ["/usr/bin/python3", "-c", code, str(fd), str(content)],
            pass_fds=(fd,), user=USER, group=USER, extra_groups=(),
        )  # fmt: skip
    finally:
        os.close(fd)
    try:
        yield
    finally:
        server.kill()
        server.wait()
        subprocess.run(["umount", "--lazy", at], check=True)


@pytest.fixture
def content(world):
    """The agent's bytes, where the server finds them."""
    copy = world.agent.parent.parent / "agent"
    shutil.copy(world.agent, copy)
    return copy


async def test_the_agents_bytes_that_its_user_answers_for_are_nobody(world, content):
    at = world.agent.parent.parent / "mounted"
    at.mkdir()
    os.chown(at, USER, USER)
    with mounted(at, content):
        with pytest.raises(PermissionError):
            (at / "agent").stat()
        verdict = await world.attest(start(world, at / "agent"))
        genuine = await world.attest(start(world, world.agent))

    assert (verdict.caller.filename, verdict.caller.file.fs_magic) == (str(at / "agent"), FUSE_MAGIC)
    assert (verdict.principal, verdict.uid) == (None, USER)
    assert genuine.principal.is_caller


async def test_they_are_nobody_too_under_the_agents_own_path(world, content):
    before = await world.attest(start(world, world.agent))
    with mounted(world.agent.parent, content):
        verdict = await world.attest(start(world, world.agent))
        still = await world.attest(world.started[0])

    assert before.principal.is_caller
    assert still.principal.is_caller
    assert (verdict.caller.filename, verdict.caller.file.fs_magic) == (str(world.agent), FUSE_MAGIC)
    assert verdict.principal is None


async def test_what_is_there_can_not_be_enrolled(world, content):
    """Nobody but its user can read it: what the monitor can't hash it says, and registers no one."""
    with mounted(world.agent.parent, content):
        problems = await world.enroll(content)
        verdict = await world.attest(start(world, world.agent))

    assert len(problems) == 1
    assert str(world.agent) in problems[0]
    assert verdict.principal is None
