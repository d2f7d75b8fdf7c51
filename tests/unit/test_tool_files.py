"""An updated tool is looked at again: once, and only when the package manager has finished."""

import pytest

from agent_broker.errors import IntegrityError
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule, Serving
from agent_broker.monitor.tool_files import ToolFiles


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class World:
    def __init__(self, folder):
        self.tool, self.shim = folder / "git", folder / "shim"
        self.tool.write_text("1")
        self.shim.write_text("s")
        binaries = (EnrolledBinary(str(self.tool), "a" * 64, 1, package="git"),)
        serving = Serving(str(self.shim))
        self.enrolled = Enrollment("git", 1000, "ann", binaries, RoleRule(("git",)), (), (), 0, serving=serving)
        self.reloads = 0
        self.error = None
        self.files = ToolFiles(self.reload)
        self.files.take([self.enrolled])

    async def reload(self):
        self.reloads += 1
        if self.error:
            raise self.error
        self.files.take([self.enrolled])

    def update(self, path):
        new = path.with_suffix(".new")
        new.write_text("another")
        new.replace(path)

    async def look(self, times):
        for _ in range(times):
            await self.files.look()
        return self.reloads


async def test_nothing_is_read_while_nothing_changes(world):
    assert await world.look(3) == 0


@pytest.mark.parametrize("name", ["tool", "shim"])
async def test_a_new_file_is_looked_at_once_it_is_at_rest(world, name):
    world.update(getattr(world, name))

    assert await world.look(1) == 0
    assert await world.look(1) == 1
    assert await world.look(3) == 1


async def test_what_goes_on_changing_is_waited_for(world):
    for _ in range(3):
        world.update(world.tool)
        assert await world.look(1) == 0


async def test_a_file_that_is_gone_is_a_change(world):
    world.tool.unlink()

    assert await world.look(2) == 1


async def test_a_registry_that_can_t_be_read_is_not_read_for_ever(world):
    world.error = IntegrityError("not root's")
    world.update(world.tool)

    assert await world.look(5) == 1
