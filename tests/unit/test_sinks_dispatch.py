"""Sinks get every incident, in order, whatever their receivers do; a record waits for none of them."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent_broker.audit.sinks.dispatch import Pace
from agent_broker.audit.sinks.outbox import CURSOR_BYTES
from agent_broker.errors import IntegrityError
from tests.fakes.receivers import QUICK, Receiver, World, an_incident


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.log.close()


def whats(first, count):
    return [f"incident {number}" for number in range(first, first + count)]


async def test_what_is_recorded_is_delivered_once_in_order(world):
    receiver = Receiver()
    async with world.delivering(receiver) as dispatch:
        await world.record(0, 100)
        await receiver.has(100)
        (status,) = dispatch.status()
    assert receiver.whats == whats(0, 100)
    assert receiver.numbers == list(range(1, 101))
    assert (status.state, status.delivered, status.dropped, status.backlog) == ("ok", 100, 0, 0)


async def test_a_receiver_that_was_down_for_5000_incidents_gets_them_all_once_in_order(world):
    receiver = Receiver()
    receiver.is_down = True
    async with world.delivering(receiver) as dispatch:
        await world.record(0, 5000)
        await receiver.tried(3)
        assert dispatch.status()[0].state == "waiting"
        assert dispatch.status()[0].last_error == "nobody answers"
        assert dispatch.status()[0].backlog == 5000
        receiver.is_down = False
        await receiver.has(5000)
    assert receiver.whats == whats(0, 5000)
    assert receiver.numbers == list(range(1, 5001))
    assert world.cursor().stat().st_size == CURSOR_BYTES


async def test_a_full_backlog_drops_the_oldest_counts_them_and_says_so(world, caplog):
    receiver = Receiver()
    receiver.is_down = True
    async with world.delivering(receiver, pace=msgspec.structs.replace(QUICK, capacity=10)) as dispatch:
        await world.record(0, 50)
        await receiver.tried(3)
        assert (dispatch.status()[0].dropped, dispatch.status()[0].backlog) == (40, 10)
        receiver.is_down = False
        await receiver.has(10)
        assert (dispatch.status()[0].dropped, dispatch.status()[0].delivered) == (40, 10)
    assert receiver.whats == whats(40, 10)
    assert receiver.numbers == list(range(41, 51)), "the gap in the numbers is what was dropped"
    assert "its backlog is full, 40 incidents were dropped" in caplog.text


async def test_what_waits_survives_a_restart_and_so_do_the_counts(world):
    receiver = Receiver()
    async with world.delivering(receiver, pace=msgspec.structs.replace(QUICK, capacity=20)):
        await world.record(0, 5)
        await receiver.has(5)
        receiver.is_down = True
        await world.record(5, 30)
        await receiver.tried(3)
    again = Receiver()
    async with world.delivering(again) as dispatch:
        await again.has(20)
        assert (dispatch.status()[0].dropped, dispatch.status()[0].delivered) == (10, 25)
    assert again.whats == whats(15, 20)
    assert again.numbers == list(range(16, 36))


async def test_a_receiver_that_never_answers_delays_no_record_and_no_other_sink(world):
    hanging, well = Receiver("hanging"), Receiver("well")
    hanging.hangs = True
    async with world.delivering(hanging, well):
        await world.record(0, 1)
        await hanging.tried(0)
        await world.record(1, 500)  # would never return if it waited for the sink
        await well.has(501)
        assert hanging.tries == 1
    assert well.whats == whats(0, 501)


async def test_a_long_backlog_that_is_taken_at_once_gives_everybody_else_a_turn(world):
    receiver, turns = Receiver(), 0
    dispatch = world.dispatch(receiver)
    await world.record(0, 500)
    dispatch.start()
    while len(receiver.taken) < 500:
        turns += 1
        await asyncio.sleep(0)
    await dispatch.close()
    assert turns >= 500


async def test_a_receiver_that_hangs_is_tried_again_after_a_while(world):
    receiver = Receiver()
    receiver.hangs = True
    async with world.delivering(receiver, pace=msgspec.structs.replace(QUICK, timeout_s=0.01)) as dispatch:
        await world.record(0, 2)
        await receiver.tried(3)
        assert dispatch.status()[0].last_error == "its receiver did not answer within 0.01 s"
        receiver.hangs = False
        await receiver.has(2)
    assert receiver.whats == whats(0, 2)


async def test_what_a_receiver_will_never_take_is_counted_and_does_not_stop_the_rest(world):
    receiver = Receiver()
    receiver.refuses = {"incident 1"}
    async with world.delivering(receiver) as dispatch:
        await world.record(0, 3)
        await receiver.has(2)
        (status,) = dispatch.status()
    assert receiver.whats == ["incident 0", "incident 2"]
    assert (status.delivered, status.dropped, status.last_error) == (2, 1, "this one is not for me")


async def test_a_librarys_failure_is_told_by_its_kind_only(world, caplog):
    receiver = Receiver()
    receiver.breaks = ValueError("https://user:hunter2@example/")
    async with world.delivering(receiver) as dispatch:
        await world.record(0, 1)
        await receiver.tried(2)
        assert dispatch.status()[0].last_error == "it failed with ValueError"
        receiver.breaks = None
        await receiver.has(1)
    assert "hunter2" not in caplog.text


async def test_less_severe_ones_are_left_out(world):
    receiver = Receiver(severity="warning")
    async with world.delivering(receiver) as dispatch:
        await world.record(0, 3, "info")
        await world.record(3, 1, "critical")
        await world.record(4, 200, "info")
        await world.record(204, 1, "warning")
        await receiver.has(2)
        await world.record(205, 1, "info")
        while dispatch.status()[0].backlog:
            await asyncio.sleep(0)
    assert receiver.whats == ["incident 3", "incident 204"]
    assert receiver.numbers == [1, 2]


async def test_a_revision_is_delivered_like_a_new_one(world):
    receiver = Receiver()
    first = an_incident(0)
    second = msgspec.structs.replace(first, id="f" * 32, revision=1, count=9)
    async with world.delivering(receiver):
        await world.log.record(first)
        await world.log.record(second)
        await receiver.has(2)
    assert [(each.revision, each.count) for _, each in receiver.taken] == [(0, 1), (1, 9)]


async def test_a_new_sink_begins_with_what_comes_then(world):
    await world.record(0, 10)
    receiver = Receiver()
    async with world.delivering(receiver):
        await world.record(10, 2)
        await receiver.has(2)
    assert receiver.whats == whats(10, 2)


@pytest.mark.parametrize("damage", [b"", b"{" * CURSOR_BYTES, b"\xff" * 10])
async def test_a_damaged_cursor_means_twice_rather_than_never(world, caplog, damage):
    receiver = Receiver()
    async with world.delivering(receiver):
        await world.record(0, 5)
        await receiver.has(5)
    world.cursor().write_bytes(damage)
    again = Receiver()
    async with world.delivering(again):
        await again.has(5)
    assert again.whats == whats(0, 5)
    assert "begins again at the first incident" in caplog.text


async def test_a_new_log_is_begun_at_its_first_line(world, tmp_path, caplog):
    receiver = Receiver()
    async with world.delivering(receiver):
        await world.record(0, 5)
        await receiver.has(5)
    world.log.close()
    for path in tmp_path.glob("alerts.log*"):
        path.unlink()
    new = World(tmp_path)
    await new.record(100, 7)
    again = Receiver()
    async with new.delivering(again):
        await again.has(7)
    new.log.close()
    assert again.whats == whats(100, 7)
    assert again.numbers == list(range(6, 13))
    assert "is not of this alert log" in caplog.text


async def test_a_log_that_was_changed_is_not_delivered(world):
    receiver = Receiver()
    receiver.is_down = True
    async with world.delivering(receiver):
        await world.record(0, 5)
        await receiver.tried(1)
    world.path.write_bytes(world.path.read_bytes().replace(b"incident 1", b"incident X"))
    receiver.is_down = False
    async with world.delivering(receiver) as dispatch:
        await receiver.has(2)
        while dispatch.status()[0].state == "ok":
            await asyncio.sleep(0)
        assert "the journal was changed" in dispatch.status()[0].last_error
    assert len(receiver.taken) == 2, "the changed line itself is found out by the one after it"


def test_an_outbox_that_others_can_write_is_refused(world):
    world.dispatch(Receiver())
    world.cursor().chmod(0o644)
    with pytest.raises(IntegrityError, match="must be a regular file"):
        world.dispatch(Receiver())
    world.cursor().unlink()
    world.cursor().symlink_to("/etc/passwd")
    with pytest.raises(Exception, match="Too many levels of symbolic links"):
        world.dispatch(Receiver())


def test_the_default_patience_is_bounded():
    assert Pace().capacity == 10_000
    assert Pace().timeout_s <= 60
    assert Pace().last_retry_s <= 60
