"""Agents that are scripts of sh, perl and ruby, on the real kernel: the script that the kernel saw, in its package."""

import functools
import shutil
from pathlib import Path

import pytest

from tests.fakes.interpreted import ScriptWorld, enrolled_world, is_agent

pytestmark = pytest.mark.kernel

_CODE = {"sh": "-c", "perl": "-e", "ruby": "-e"}


@pytest.fixture(params=_CODE)
async def world(request):
    async with enrolled_world(functools.partial(ScriptWorld, interpreter=request.param)) as world:
        yield world


def program(world):
    """What people have in their PATH: its name may be a link's."""
    return shutil.which(world.interpreter)


async def test_the_enrolled_script_is_the_agent_by_its_first_line_and_as_first_argument(world):
    for command in ((world.link,), (world.script, "with", "arguments"), (program(world), world.link)):
        process = world.start(*command)
        await world.loaded(process)
        verdict = await world.attest(process)
        assert is_agent(verdict), command
        assert verdict.taints == (), command


async def test_another_script_of_the_same_interpreter_is_nobody(world):
    copy = world.folder / "copy"
    shutil.copytree(world.package, copy)

    for command in ((program(world), copy / "main"), (copy / "main",), (program(world), copy / "main", world.script)):
        process = world.start(*command)
        await world.loaded(process)
        assert (await world.attest(process)).principal is None, command


async def test_code_on_the_command_line_is_nobody(world):
    idle = f"read -r word < {world.folder}/fifo" if world.interpreter == "sh" else "sleep"
    process = world.start(program(world), _CODE[world.interpreter], idle, world.script)

    assert (await world.attest(process)).principal is None


@pytest.mark.parametrize("name", ["main", "part"])
async def test_a_package_that_was_changed_before_the_start_taints(world, name):
    world.as_user(f"open({str(world.package / name)!r}, 'a').write('\\n')")
    await world.rest()

    verdict = await world.attest(world.start(world.link))

    assert is_agent(verdict)
    assert any("not what was enrolled" in taint for taint in verdict.taints)


async def test_a_script_that_is_changed_while_it_runs_taints_for_good(world):
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).taints == ()

    text = Path(world.script).read_text()
    world.as_user(f"f = open({str(world.script)!r}, 'w'); f.write({text!r})")

    assert (await world.attest(process)).taints != ()
    await world.rest()
    assert (await world.attest(process)).taints != ()
