"""An executable on a FUSE file system, whose user answers for every byte at every read: never the agent."""

import shutil
import subprocess

import pytest

from agent_broker.kernel.events import FUSE_MAGIC
from tests.kernel.test_attest_real import World

pytestmark = pytest.mark.kernel


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    assert await world.enroll() == ()
    yield world
    world.close()


@pytest.fixture
def fuse(world, tmp_path):
    """Mount a file system of a process's own, which holds the agent's bytes under the agent's name."""
    content, image, at = tmp_path / "content", tmp_path / "image", tmp_path / "fuse"
    content.mkdir()
    at.mkdir()
    shutil.copy(world.agent, content / "agent")
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", content, image, "8M"], check=True)
    subprocess.run(["fuse2fs", "-o", "ro", image, at], check=True, capture_output=True)
    yield at
    subprocess.run(["umount", "--lazy", at], check=True)


async def test_the_agents_bytes_on_a_file_system_that_a_user_answers_for_are_nobody(world, fuse):
    verdict = await world.attest(world.start(str(fuse / "agent"), "60"))

    assert verdict.caller.file.fs_magic == FUSE_MAGIC
    assert verdict.principal is None


async def test_they_are_nobody_too_when_they_cover_the_agents_own_path(world, fuse):
    subprocess.run(["mount", "--bind", fuse / "agent", world.agent], check=True)
    try:
        process = world.start(str(world.agent), "60")
        verdict = await world.attest(process)
    finally:
        subprocess.run(["umount", "--lazy", world.agent], check=True)

    assert verdict.caller.filename == str(world.agent)
    assert verdict.principal is None


async def test_an_agent_that_was_enrolled_there_is_tainted(world, fuse):
    world.agent = fuse / "agent"
    assert await world.enroll() == ()

    verdict = await world.attest(world.start(str(world.agent), "60"))

    assert verdict.principal.is_caller
    assert any("a user can answer for" in taint for taint in verdict.taints)
