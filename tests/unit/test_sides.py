"""Queues by lineage against the plainest way to say the same: compare sides, from the origin on."""

from hypothesis import given
from hypothesis import strategies as st

from agent_broker.admission import sides
from agent_broker.admission.sides import Charges, Queue, path_of

paths = st.lists(st.integers(1, 3), max_size=4).map(lambda chain: path_of([*chain, 9]))


def charged(amounts):
    charges = Charges(lambda: 0.0)
    for path, amount in amounts:
        charges.add(path, amount)
    return charges


def queue_of(waiting, charges):
    queue = Queue(charges)
    for number, path in enumerate(waiting):
        queue.add(path, number)
    return queue


@given(st.lists(paths, min_size=1, max_size=12), st.lists(st.tuples(paths, st.integers(1, 9)), max_size=12))
def test_whoever_is_next_comes_from_the_least_charged_side_wherever_lineages_part(waiting, amounts):
    charges = charged(amounts)
    queue = queue_of(waiting, charges)
    left = dict(enumerate(waiting))
    while left:
        taken = queue.take()
        path = left[taken]
        for depth in range(len(path)):
            beside = {each[depth] for each in left.values() if each[:depth] == path[:depth]}
            assert charges.of(path[depth]) == min(charges.of(side) for side in beside)
        del left[taken]
    assert queue.take() is None
    assert len(queue) == 0


@given(st.lists(paths, min_size=1, max_size=12), st.lists(st.tuples(paths, st.integers(1, 9)), max_size=12))
def test_whoever_has_to_go_comes_from_the_most_charged_side(waiting, amounts):
    charges = charged(amounts)
    queue = queue_of(waiting, charges)
    path = waiting[queue.take_most_charged()]
    for depth in range(len(path)):
        beside = {each[depth] for each in waiting if each[:depth] == path[:depth]}
        assert charges.of(path[depth]) == max(charges.of(side) for side in beside)


def test_of_equals_one_of_those_has_to_go_who_are_many():
    queue = Queue(Charges())
    for number in range(10):
        queue.add(path_of([100 + number, 2, 1]), number)
    queue.add(path_of([3, 1]), "alone")
    assert [queue.take_most_charged() for _ in range(9)] == list(range(9, 0, -1))


@given(st.lists(st.tuples(paths, st.booleans()), max_size=20))
def test_who_leaves_is_forgotten_whole(steps):
    queue = Queue(Charges())
    for number, (path, leaves) in enumerate(steps):
        queue.add(path, number)
        if leaves:
            queue.discard(number)
            queue.discard(number)
    assert sorted(iter(queue.take, None)) == [number for number, (_, leaves) in enumerate(steps) if not leaves]
    assert queue._root.sides == {}


def test_what_is_remembered_is_bounded_and_the_flood_is_not_what_is_forgotten(monkeypatch):
    monkeypatch.setattr(sides, "_REMEMBERED", 100)
    charges = Charges(lambda: 0.0)
    for number in range(10_000):
        charges.add(path_of([100 + number, 2, 1]), 1.0)
    assert len(charges) == 100
    assert charges.of((2, False)) == 10_000


def test_charges_fade_and_modest_ones_are_equal_to_none():
    now_s = 0.0
    charges = Charges(lambda: now_s, free=10)
    charges.add(path_of([2, 1]), 30)
    assert charges.of((2, False)) == 20
    now_s = 10.0
    assert charges.of((2, False)) == 5
    now_s = 20.0
    assert charges.of((2, False)) == charges.of((3, False)) == 0
