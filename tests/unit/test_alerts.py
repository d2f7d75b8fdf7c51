import asyncio
import errno
import gc
import os

import msgspec
import pytest

from agent_broker.audit import alerts
from agent_broker.audit.alerts import AlertLog, Missed
from agent_broker.audit.chain import EMPTY
from agent_broker.audit.journal import GIVE_WAY_S, Journal, verify
from agent_broker.audit.tail import entries_after
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.monitor.incident import new_incident
from tests.fakes.clock import FakeClock
from tests.fakes.lineage_records import a_step
from tests.fakes.small_disk import fill, small_disk


def an_incident(number=0):
    return new_incident(
        kind="decoy-opened",
        time_ns=number,
        severity="critical",
        what=f"incident {number}",
        tier="observe+",
        action="served-decoy",
        lineage=(a_step(8, "self"),),
        path="/home/u/.claude/.credentials.json",
        next_step="look",
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alerts.log"


@pytest.fixture
def reopen(path):
    opened = []

    def again():
        while opened:
            opened.pop().close()
        opened.append(AlertLog.open(path, FakeClock()))
        return opened[-1]

    yield again
    while opened:
        opened.pop().close()


async def test_an_incident_is_stored_once_and_comes_back_equal(path, reopen):
    log, incident = reopen(), an_incident()
    assert await log.record(incident) is True
    assert await log.record(incident) is False
    assert log.recent(10) == (incident,)
    log = reopen()
    assert log.recent(10) == (incident,)
    assert await log.record(incident) is False
    assert verify(path).entries == 1


async def test_recent_gives_the_last_ones_newest_last(reopen):
    log = reopen()
    incidents = [an_incident(number) for number in range(5)]
    for incident in incidents:
        await log.record(incident)
    assert log.recent(2) == tuple(incidents[-2:])
    assert log.recent(0) == ()
    assert log.recent(-1) == ()
    assert log.recent(100) == tuple(incidents)


async def test_the_same_incident_twice_at_once_is_written_once(path, reopen):
    log, incident = reopen(), an_incident()
    assert sorted(await asyncio.gather(*(log.record(incident) for _ in range(3)))) == [False, False, True]
    assert verify(path).entries == 1


@pytest.fixture
def order(monkeypatch):
    """What happens, in its order: fdatasync (the real one still runs), and what a test adds."""
    happened = []
    real = os.fdatasync

    def noted(fd):
        happened.append("durable")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    return happened


async def test_a_follower_has_it_when_it_is_written_and_record_returns_when_it_is_durable(path, reopen, order):
    log = reopen()

    async def follow():
        await anext(log.follow())
        order.append(("told", [entry.seq for entry, _ in entries_after(path, EMPTY)]))

    following = asyncio.ensure_future(follow())
    await asyncio.sleep(0)
    order.clear()
    await log.record(an_incident())
    order.append("recorded")
    await following
    assert order == [("told", [1]), "durable", "recorded"]


async def test_the_disk_gives_way_to_a_follower_and_not_without_one(reopen, order):
    log, loop = reopen(), asyncio.get_running_loop()
    order.clear()

    async def record():
        meanwhile = loop.create_future()
        loop.call_later(GIVE_WAY_S / 2, lambda: meanwhile.set_result(order.append("meanwhile")))
        await log.record(an_incident())
        await meanwhile

    await record()
    assert order == ["durable", "meanwhile"]
    follower = log.follow()
    await record()
    assert order[2:] == ["meanwhile", "durable"]
    follower.close()


async def test_a_sink_is_called_when_it_is_durable(reopen, order):
    log = reopen()
    log.notify(lambda: order.append("sink"))
    order.clear()
    await log.record(an_incident())
    assert order == ["durable", "sink"]


async def test_what_a_follower_saw_and_the_disk_then_refused_is_taken_back_and_comes_again(path, reopen, monkeypatch):
    log, incident = reopen(), an_incident()
    follower = log.follow()
    real = os.fdatasync

    def refuse(fd):
        monkeypatch.setattr(os, "fdatasync", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(UnavailableError):
        await log.record(incident)
    assert await anext(follower) == incident
    assert verify(path).entries == 0
    assert log.recent(1) == ()

    assert await log.record(incident) is True
    assert await anext(follower) == incident
    assert verify(path).entries == 1


async def test_followers_see_what_comes_after_they_began(reopen):
    log = reopen()
    await log.record(an_incident(0))
    first = log.follow()
    await log.record(an_incident(1))
    second = log.follow()
    await log.record(an_incident(2))
    assert [(await anext(first)).time_ns for _ in range(2)] == [1, 2]
    assert (await anext(second)).time_ns == 2


async def test_a_duplicate_is_not_followed_twice(reopen):
    log = reopen()
    follower = log.follow()
    incident = an_incident()
    await log.record(incident)
    await log.record(incident)
    log.close()
    assert [each async for each in follower] == [incident]


async def test_a_slow_follower_is_told_how_many_it_missed_and_delays_nobody(reopen, monkeypatch):
    monkeypatch.setattr(alerts, "QUEUE", 3)
    log = reopen()
    slow, quick = log.follow(), log.follow()
    for number in range(5):
        await log.record(an_incident(number))
        assert (await anext(quick)).time_ns == number
    assert (await anext(slow)).time_ns == 0
    await log.record(an_incident(5))  # there is room, but what was missed comes first
    assert [(await anext(slow)).time_ns for _ in range(2)] == [1, 2]
    assert await anext(slow) == Missed(3)
    await log.record(an_incident(6))
    assert (await anext(slow)).time_ns == 6


async def test_an_abandoned_follower_costs_nothing(reopen):
    log = reopen()
    follower = log.follow()
    await log.record(an_incident())
    del follower
    gc.collect()
    assert len(log._followers) == 0


async def test_closing_ends_the_streams_after_what_is_queued(reopen):
    log = reopen()
    follower = log.follow()
    waiting = log.follow()
    end = asyncio.ensure_future(anext(waiting, "end"))
    await asyncio.sleep(0)
    await log.record(an_incident())
    log.close()
    assert len([each async for each in follower]) == 1
    assert (await end).kind == "decoy-opened"
    assert [each async for each in waiting] == []


async def test_a_cancelled_recorder_loses_nothing(path, reopen):
    log, incident = reopen(), an_incident()
    follower = log.follow()
    task = asyncio.ensure_future(log.record(incident))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await anext(follower) == incident
    assert await log.record(incident) is False
    assert verify(path).entries == 1


async def test_a_full_disk_refuses_and_the_incident_can_come_again(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        log = AlertLog.open(disk / "alerts.log", FakeClock())
        follower = log.follow()
        for number in range(2):
            await log.record(an_incident(number))
        filler = fill(disk)
        incident = an_incident(9)
        refusals = 0
        while not refusals:  # the last page has room for some
            try:
                await log.record(an_incident(5))
            except UnavailableError:
                refusals += 1
        twice = await asyncio.gather(log.record(incident), log.record(incident), return_exceptions=True)
        assert [type(error) for error in twice] == [UnavailableError] * 2
        filler.unlink()
        assert await log.record(incident) is True
        log.close()
        assert [each async for each in follower][-1] == incident
        assert AlertLog.open(disk / "alerts.log", FakeClock()).recent(1) == (incident,)


async def test_only_so_many_ids_are_remembered(reopen, monkeypatch):
    monkeypatch.setattr(alerts, "REMEMBERED_IDS", 10)
    log = reopen()
    await asyncio.gather(*(log.record(an_incident(number)) for number in range(50)))
    assert len(log._revisions) == 10
    assert not log._writing


def revised(incident, revision, **changes):
    return msgspec.structs.replace(incident, revision=revision, count=revision + 1, **changes)


async def test_a_follower_gets_every_revision_and_recent_has_the_newest_once(path, reopen):
    log, first, other = reopen(), an_incident(1), an_incident(2)
    follower = log.follow()
    told = [first, other, revised(first, 1), revised(first, 3)]
    assert [await log.record(each) for each in told] == [True] * 4
    assert log.recent(10) == (other, told[3])
    assert reopen().recent(10) == (other, told[3])
    assert [each async for each in follower] == told
    assert verify(path).entries == 4


async def test_a_revision_that_comes_late_is_known(reopen):
    log, first = reopen(), an_incident()
    await log.record(revised(first, 2))
    assert [await log.record(revised(first, number)) for number in (0, 1, 2)] == [False] * 3
    assert log.recent(10)[0].revision == 2


async def test_two_revisions_at_once_are_both_durable_and_the_higher_one_stays(path, reopen):
    log, first = reopen(), an_incident()
    assert await asyncio.gather(log.record(revised(first, 1)), log.record(first)) == [True, True]
    assert verify(path).entries == 2
    assert log.recent(10) == (revised(first, 1),)
    assert reopen().recent(10) == (revised(first, 1),)


async def test_a_damaged_disk_does_not_make_the_next_revision_known(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        log, first = AlertLog.open(disk / "alerts.log", FakeClock()), an_incident()
        await log.record(first)
        filler = fill(disk)
        with pytest.raises(UnavailableError):
            for number in range(1, 100):  # the last page has room for some
                await log.record(revised(first, number))
        failed = log.recent(1)[0].revision + 1
        filler.unlink()
        assert await log.record(revised(first, failed)) is True
        assert log.recent(10) == (revised(first, failed),)
        log.close()


def test_what_is_no_incident_is_refused(path):
    journal = Journal.open(path, FakeClock())
    journal.append_now(alerts.KIND, {"id": "x"})
    journal.close()
    with pytest.raises(IntegrityError, match=r"alerts\.log:1: this line is not an incident"):
        AlertLog.open(path, FakeClock())
