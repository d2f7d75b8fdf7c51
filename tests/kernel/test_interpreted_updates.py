"""Updates of an interpreted agent on the real kernel: its package is replaced before it starts, or while it runs."""

import pytest

from tests.fakes.interpreted import enrolled_world, is_agent

pytestmark = pytest.mark.kernel


@pytest.fixture
async def world():
    async with enrolled_world() as world:
        yield world


NEXT_VERSION = """
import os, shutil
PACKAGE = {package!r}; NEW = PACKAGE + '.new'
shutil.copytree(PACKAGE, NEW, symlinks=True)
open(NEW + '/part.js', 'w').write('module.exports = 2; // longer')
[open(NEW + '/more%d.js' % n, 'w').close() for n in range({more})]
os.rename(PACKAGE, PACKAGE + '.old'); os.rename(NEW, PACKAGE); shutil.rmtree(PACKAGE + '.old')
"""
"""What npm does: the new package comes beside the old one, and takes its place by its name."""


async def update(world, more=0):
    world.as_user(NEXT_VERSION.format(package=str(world.package), more=more))
    await world.rest()


@pytest.mark.parametrize("more", [0, 40], ids=["as many files", "more files"])
async def test_a_new_version_that_was_there_before_the_start_is_told_as_an_update_and_gets_nothing(world, more):
    await update(world, more)

    verdict = await world.attest(world.start(world.link))

    assert verdict.is_updated
    assert [taint for taint in verdict.taints if "not what was enrolled" in taint] == list(verdict.taints) != []


async def test_once_the_new_version_is_enrolled_who_is_started_then_is_the_agent_and_nobody_who_ran_before(world):
    old = world.start(world.link)
    await world.loaded(old)
    await update(world)
    between = world.start(world.link)
    await world.loaded(between)
    assert (await world.attest(between)).is_updated

    assert await world.enroll() == ()

    fresh = await world.attest(world.start(world.link))
    assert (is_agent(fresh), fresh.taints) == (True, ())
    assert "was started before it was enrolled" in (await world.attest(between)).reason
    assert (await world.attest(old)).taints != ()


async def test_a_version_that_is_put_back_under_a_running_one_is_no_update(world):
    part = world.package / "part.js"
    before = part.read_text()
    world.as_user(f"open({str(part)!r}, 'a').write('// evil')")
    await world.rest()
    process = world.start(world.link)
    await world.loaded(process)
    assert (await world.attest(process)).is_updated

    world.as_user(f"open({str(part)!r}, 'w').write({before!r})")

    for _ in range(2):
        verdict = await world.attest(process)
        assert (is_agent(verdict), verdict.is_updated) == (True, False)
        assert verdict.taints != ()


async def test_an_update_that_is_started_with_foreign_code_is_tainted_and_no_update(world):
    await update(world)
    injected = world.start(world.link, env={"PATH": "/usr/bin:/bin", "NODE_OPTIONS": "--no-warnings"})

    assert not (await world.attest(injected)).is_updated
    world.as_user(f"import os; os.mkdir({str(world.modules / 'optional')!r})")
    await world.rest()
    assert not (await world.attest(world.start(world.link))).is_updated
