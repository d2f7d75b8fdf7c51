import asyncio

import pytest

from agent_broker.ids import Uid
from agent_broker.transport.places import Limits, Places

ALICE, BOB, CAROL = Uid(1), Uid(2), Uid(3)


@pytest.fixture
async def conversation():
    """Make conversations that last until they are ended."""
    made = []

    def make(places, uid, *, asked=False):
        task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        made.append(task)
        places.take(task, uid)
        if asked:
            places.has_asked(task)
        return task

    yield make
    for task in made:
        task.cancel()
    await asyncio.gather(*made, return_exceptions=True)


async def test_a_user_with_its_full_share_gives_up_its_own(conversation):
    places = Places(Limits(connections=9, per_uid=2))
    bobs = conversation(places, BOB)
    oldest, second = conversation(places, ALICE), conversation(places, ALICE)
    assert places.make_room_for(ALICE)
    assert [task.cancelling() for task in (bobs, oldest, second)] == [0, 1, 0]
    assert places.tasks() == (bobs, second)


async def test_when_all_places_are_taken_the_oldest_idle_one_goes_whoever_it_is(conversation):
    places = Places(Limits(connections=3, per_uid=2))
    asked = conversation(places, ALICE, asked=True)
    oldest, second = conversation(places, BOB), conversation(places, ALICE)
    assert places.make_room_for(CAROL)
    assert [task.cancelling() for task in (asked, oldest, second)] == [0, 1, 0]


async def test_who_has_asked_is_left_alone(conversation):
    places = Places(Limits(connections=2, per_uid=1))
    tasks = conversation(places, ALICE, asked=True), conversation(places, BOB, asked=True)
    assert not places.make_room_for(ALICE)
    assert not places.make_room_for(CAROL)
    places.end_one_idle()
    assert [task.cancelling() for task in tasks] == [0, 0]


async def test_a_place_is_given_back_once(conversation):
    places = Places(Limits(connections=1, per_uid=1))
    task = conversation(places, ALICE, asked=True)
    assert len(places) == 1
    places.leave(task)
    places.leave(task)
    assert len(places) == 0
    assert places.make_room_for(ALICE)
    conversation(places, ALICE, asked=True)
    assert not places.make_room_for(ALICE)
