import pytest

from agent_broker.admission.places import Places, Shares
from agent_broker.admission.standing import ProcessKey
from agent_broker.ids import Uid

ALICE, BOB, CAROL = Uid(1), Uid(2), Uid(3)
FLOODER, OTHER = ProcessKey(11), ProcessKey(12)


class World(Places[str]):
    """Places of strings that remember who was ended."""

    def __init__(self, connections=9, per_uid=9, lesser_per_uid=9, per_process=9):
        self.ended = []
        super().__init__(Shares(connections, per_uid, lesser_per_uid, per_process), self.ended.append)

    def join(self, name, uid=ALICE, process=None, *, is_lesser=False, asked=False):
        self.take(name, uid, process, is_lesser=is_lesser)
        if asked:
            self.has_asked(name)


def test_a_user_with_its_full_share_gives_up_its_own():
    places = World(per_uid=2)
    places.join("bob's", BOB)
    places.join("oldest")
    places.join("second")
    assert places.make_room_for(ALICE)
    assert places.ended == ["oldest"]
    assert places.holders() == ("bob's", "second")


def test_when_all_places_are_taken_the_oldest_idle_one_goes_whoever_it_is():
    places = World(connections=3, per_uid=2)
    places.join("asked", process=OTHER, asked=True)
    places.join("oldest", BOB, FLOODER)
    places.join("second")
    assert places.make_room_for(CAROL)
    assert places.ended == ["oldest"]


def test_who_has_asked_is_left_alone():
    places = World(connections=2, per_uid=1)
    places.join("a", asked=True)
    places.join("b", asked=True)
    assert not places.make_room_for(ALICE)
    assert not places.make_room_for(CAROL)
    places.end_one_idle()
    assert places.ended == []


def test_a_process_with_its_full_share_gives_up_its_own_and_takes_nothing_from_its_user():
    places = World(per_process=2)
    places.join("other", process=OTHER)
    places.join("first", process=FLOODER)
    places.join("second", process=FLOODER, asked=True)
    assert places.make_room_for(ALICE, FLOODER)
    assert places.ended == ["first"]
    places.join("third", process=FLOODER, asked=True)
    assert not places.make_room_for(ALICE, FLOODER)
    assert places.make_room_for(ALICE, OTHER)


def test_the_process_that_holds_the_most_gives_up_first():
    places = World(per_uid=4)
    places.join("agent's", process=OTHER)
    for number in range(3):
        places.join(f"flood {number}", process=FLOODER)
    assert places.make_room_for(ALICE, ProcessKey(13))
    assert places.ended == ["flood 0"]


def test_lesser_places_leave_the_rest_of_a_users_share_free():
    places = World(per_uid=4, lesser_per_uid=2)
    for name in "ab":
        places.join(name, is_lesser=True, asked=True)
    assert not places.make_room_for(ALICE, is_lesser=True)
    assert places.make_room_for(ALICE)
    assert places.make_room_for(BOB, is_lesser=True)


def test_a_place_that_was_earned_is_kept_while_strangers_come_and_go():
    places = World(per_uid=3, lesser_per_uid=1, per_process=1)
    places.join("agent's", process=OTHER, is_lesser=True)
    places.promote("agent's")
    places.is_idle("agent's")
    for number in range(5):
        assert places.make_room_for(ALICE, FLOODER, is_lesser=True)
        places.join(f"flood {number}", process=FLOODER, is_lesser=True)
    assert places.ended == [f"flood {number}" for number in range(4)]
    assert places.make_room_for(ALICE, OTHER, is_lesser=True)


def test_a_lesser_place_can_be_lost_again_once_its_answer_is_given():
    places = World(lesser_per_uid=1)
    places.join("probe", is_lesser=True, asked=True)
    assert not places.make_room_for(ALICE, is_lesser=True)
    places.is_idle("probe")
    assert places.make_room_for(ALICE, is_lesser=True)
    assert places.ended == ["probe"]


@pytest.mark.parametrize("is_lesser", [True, False])
def test_a_place_is_given_back_once(is_lesser):
    places = World(connections=1)
    places.join("only", process=FLOODER, is_lesser=is_lesser, asked=True)
    assert len(places) == 1
    places.leave("only")
    places.leave("only")
    assert len(places) == 0
    for nobody in (places.promote, places.is_idle, places.has_asked):
        nobody("only")
    assert places.make_room_for(ALICE, FLOODER)
    places.join("next", process=FLOODER, asked=True)
    assert not places.make_room_for(ALICE, FLOODER)
