"""The alert log is turned over while sinks and the store read on in it."""

import msgspec
import pytest

from agent_broker.audit.alerts import AlertLog
from agent_broker.audit.journal import Limits, verify
from agent_broker.audit.segments import older_segments
from agent_broker.audit.store import AlertStore, Query
from tests.fakes.clock import FakeClock
from tests.fakes.receivers import Receiver, World, an_incident

ALL_KEPT = Limits(segment_bytes=20_000, keep=1000)
FEW_KEPT = Limits(segment_bytes=20_000, keep=2)


@pytest.fixture
def opened(tmp_path):
    """Opens the world again and again, with limits."""
    worlds = []

    def again(limits):
        while worlds:
            worlds.pop().log.close()
        worlds.append(World(tmp_path, limits))
        return worlds[-1]

    yield again
    for each in worlds:
        each.log.close()


def whats(*numbers):
    return [f"incident {number}" for number in numbers]


async def one_by_one(world, first, count):
    """Each in a commit of its own, so that the log is turned over between them."""
    for number in range(first, first + count):
        await world.log.record(an_incident(number))


async def test_a_sink_reads_on_across_segments_and_restarts(opened):
    world, receiver = opened(ALL_KEPT), Receiver()
    async with world.delivering(receiver):
        await one_by_one(world, 0, 60)
        await receiver.has(60)
    world = opened(ALL_KEPT)
    await one_by_one(world, 60, 60)
    async with world.delivering(receiver) as dispatch:
        await receiver.has(120)
        assert dispatch.status()[0].dropped == 0
    assert len(older_segments(world.path)) > 4
    assert receiver.whats == whats(*range(120))
    assert receiver.numbers == list(range(1, 121))


async def test_what_is_not_kept_any_more_counts_as_dropped(opened):
    world, receiver = opened(FEW_KEPT), Receiver()
    receiver.is_down = True
    async with world.delivering(receiver) as dispatch:
        await one_by_one(world, 0, 5)
        await receiver.tried(2)
    await one_by_one(world, 5, 100)
    world = opened(FEW_KEPT)
    receiver.is_down = False
    async with world.delivering(receiver) as dispatch:
        await receiver.until(lambda: receiver.whats[-1:] == whats(104))
        status = dispatch.status()[0]
    kept = verify(world.path)
    assert kept.first > 1
    assert receiver.whats == whats(*range(105 - len(receiver.whats), 105))
    assert status.dropped >= 105 - len(receiver.whats)
    assert receiver.numbers[0] == status.dropped + 1
    assert receiver.numbers == list(range(receiver.numbers[0], receiver.numbers[0] + len(receiver.numbers)))


async def test_a_damaged_cursor_begins_with_the_oldest_that_is_kept(opened):
    world, receiver = opened(FEW_KEPT), Receiver()
    async with world.delivering(receiver):
        await one_by_one(world, 0, 100)
        await receiver.has(100)
    world.cursor().write_bytes(b"{")
    again = Receiver()
    async with world.delivering(again) as dispatch:
        await again.until(lambda: again.whats[-1:] == whats(99))
        assert dispatch.status()[0].dropped == 0
    assert again.whats == whats(*range(100 - len(again.whats), 100))
    assert 0 < len(again.whats) < 100


async def test_the_store_reads_on_across_segments_and_is_made_anew_from_what_is_kept(opened, tmp_path):
    world = opened(FEW_KEPT)

    def store():
        made = AlertStore(tmp_path / "a.sqlite3", world.path, FakeClock(), keep_ns=10**18, max_incidents=1000)
        made.catch_up()
        return made

    def told(from_):
        found = from_.fetch(from_.ids(Query(1000)))
        return [msgspec.json.decode(each.json)["what"] for each in found]

    first = store()
    for number in range(100):
        await world.log.record(an_incident(number))
        if number % 7 == 0:
            first.catch_up()
    first.catch_up()
    assert told(first) == whats(*range(100))
    first.close()
    (tmp_path / "a.sqlite3").unlink()
    again = store()
    assert told(again) == whats(*range(100 - len(told(again)), 100))
    assert 0 < len(told(again)) < 100
    again.close()


async def test_a_log_that_was_turned_over_is_known_at_the_next_start(opened):
    world = opened(ALL_KEPT)
    incidents = [an_incident(number) for number in range(60)]
    for each in incidents:
        await world.log.record(each)
    world = opened(ALL_KEPT)
    assert world.log.recent(100) == tuple(incidents)
    assert not await world.log.record(incidents[0])


async def test_the_start_reads_so_many_lines_at_most(opened, monkeypatch):
    world = opened(ALL_KEPT)
    await one_by_one(world, 0, 60)
    world.log.close()
    next(iter(older_segments(world.path).values())).unlink()
    monkeypatch.setattr("agent_broker.audit.alerts.LOOKED_BACK", 20)
    log = AlertLog.open(world.path, FakeClock(), ALL_KEPT)
    assert [each.what for each in log.recent(100)] == whats(*range(60 - len(log.recent(100)), 60))
    assert 10 < len(log.recent(100)) <= 20
    log.close()
