"""An incident goes out whatever fails in the look at its details, with what the others found."""

import pytest
from msgspec import structs

from agent_broker.monitor.incident import NO_TIER, new_incident
from tests.fakes.alert_world import EPOCH, TIER, World


@pytest.fixture
async def world():
    world = World()
    await world.start()
    yield world
    await world.close()


def incident(world):
    return new_incident(
        kind="agent-tampered", time_ns=1, severity="critical", what="x", tier=NO_TIER, action="only-seen",
        lineage=world.steps, epoch=EPOCH, offenders=(world.steps[0].proc_id,),
    )  # fmt: skip


def fail(*_):
    raise RuntimeError("a defect")


async def test_one_whose_process_can_not_be_held_has_its_program(world, monkeypatch):
    monkeypatch.setattr(world.fakes, "snapshot", fail)

    done = await world.completer.complete(incident(world))

    assert (done.tier, done.offender.package, done.offender.cwd) == (TIER, "coreutils 9.1-1", "")
    assert done.process_sha256


async def test_one_whose_package_can_not_be_looked_up_has_its_folder(world, monkeypatch):
    monkeypatch.setattr(world.fakes, "known", fail)

    done = await world.completer.complete(incident(world))

    assert (done.tier, done.offender.package, done.offender.cwd) == (TIER, "", str(world.home))


async def test_one_that_can_not_be_completed_is_published_as_it_was(world):
    async def fails(_incident):
        raise RuntimeError("a defect")

    follower = world.parts.alerts.follow()
    world.publish.complete = fails
    made = structs.replace(incident(world), tier=TIER)

    world.publish(made)

    assert world.publish.in_work == 1
    await world.publish.close()
    assert world.publish.in_work == 0
    assert (await anext(follower)).id == made.id
