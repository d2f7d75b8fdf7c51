"""The store of incidents: what the journal says, in its order, whatever happens to the store's own file."""

import asyncio
import os
import sqlite3
import stat

import msgspec
import pytest

from agent_broker.audit.acks import Ack, Alert, is_settled
from agent_broker.audit.alerts import AlertLog
from agent_broker.audit.store import AlertStore, Query
from agent_broker.audit.store_feed import StoreFeed
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from tests.fakes.clock import SECOND_NS, FakeClock
from tests.fakes.control import decoy_opened
from tests.fakes.small_disk import fill, small_disk

DAY_NS = 86_400 * SECOND_NS
ALL = Query(10_000)


class World:
    """A journal, its store, and the clock of both."""

    def __init__(self, folder):
        self.path, self.journal, self.clock = folder / "alerts.sqlite3", folder / "alerts.log", FakeClock()
        self.log = AlertLog.open(self.journal, self.clock)
        self.store = self.open()

    def open(self, **options):
        limits = {"keep_ns": 90 * DAY_NS, "max_incidents": 1000} | options
        return AlertStore(self.path, self.journal, self.clock, **limits)

    def reopen(self, **options):
        self.store.close()
        self.store = self.open(**options)
        self.store.catch_up()

    def incident(self, number=0, **changes):
        facts = {"time_ns": self.clock.wall + number, "what": f"number {number}"}
        return decoy_opened(**(facts | changes))

    async def record(self, *incidents):
        for each in incidents:
            await self.log.record(each)
        self.store.catch_up()

    async def write(self, incident):
        """As the log will write a further revision."""
        await self.log._journal.append("incident", msgspec.to_builtins(incident))
        self.store.catch_up()

    def found(self, query=ALL):
        return [msgspec.json.decode(each.json, type=Alert) for each in self.store.fetch(self.store.ids(query))]

    def what(self, query=ALL):
        return [each.what for each in self.found(query)]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()
    made.log.close()


async def acknowledge(world, incident, **changes):
    facts = {"uid": 1000, "time_ns": world.clock.wall, "reason": "my own backup", "severity": incident.severity}
    ack = Ack(incident=incident.id, revision=incident.revision, **(facts | changes))
    await world.log.acknowledge(ack)
    world.store.catch_up()
    return ack


async def test_what_the_journal_took_can_be_asked_for(world):
    incidents = [world.incident(number) for number in range(5)]
    await world.record(*incidents)
    assert world.found() == [Alert.of(each, None) for each in incidents]
    assert world.what(Query(2)) == ["number 3", "number 4"]
    assert world.what(Query(0)) == []
    assert world.store.seq == 5
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert world.store.problems == ()


async def test_filters(world):
    await world.record(
        world.incident(1, severity="info", kind="lineage-lost"),
        world.incident(2, severity="warning"),
        world.incident(3, severity="never heard of it"),
    )
    assert world.what(Query(9, min_severity="warning")) == ["number 2", "number 3"]
    assert world.what(Query(9, min_severity="critical")) == ["number 3"]
    assert world.what(Query(9, kind="lineage-lost")) == ["number 1"]
    assert world.what(Query(9, since_ns=world.clock.wall + 2)) == ["number 2", "number 3"]


async def test_a_higher_revision_replaces_and_a_lower_one_does_not(world):
    first, other = world.incident(1), world.incident(2)
    await world.record(first, other)
    grown = msgspec.structs.replace(first, revision=2, count=1234, last_ns=world.clock.wall + 99, severity="warning")
    await world.write(grown)
    await world.write(msgspec.structs.replace(first, revision=1, count=7))
    assert world.found() == [Alert.of(other, None), Alert.of(grown, None)]
    assert world.what(Query(9, since_ns=world.clock.wall + 50)) == ["number 1"]


async def test_an_acknowledgement_settles_until_the_incident_grows_in_severity(world):
    incident = world.incident(1, severity="warning")
    await world.record(incident)
    ack = await acknowledge(world, incident)
    assert world.store.find(incident.id[:6]).acked == ack
    open_ones = Query(9, with_acked=False)
    assert (world.what(open_ones), world.what()) == ([], ["number 1"])
    await world.write(msgspec.structs.replace(incident, revision=1, count=9))
    assert world.what(open_ones) == []
    worse = msgspec.structs.replace(incident, revision=2, severity="critical")
    await world.write(worse)
    assert world.found(open_ones)[0].acked == ack
    assert not is_settled(worse, ack)


async def test_an_incident_is_found_by_the_beginning_of_its_id(world):
    one, two = (msgspec.structs.replace(world.incident(), id=name * 16) for name in ("ab", "ac"))
    await world.record(one, two)
    assert world.store.find("ab") == Alert.of(one, None)
    for wrong, why in {"a": "several", "ad": "no alert", "": "named by", "a%": "named by", "AB": "named by"}.items():
        with pytest.raises(MisuseError, match=why):
            world.store.find(wrong)


async def test_old_ones_and_too_many_are_forgotten_with_what_was_said_of_them(world):
    incidents = [world.incident(number) for number in range(6)]
    await world.record(*incidents)
    await acknowledge(world, incidents[0])
    await acknowledge(world, incidents[5])
    world.reopen(max_incidents=4)
    await world.record(world.incident(6))
    assert world.what() == ["number 3", "number 4", "number 5", "number 6"]
    assert set(world.store.acks) == {incidents[5].id}
    world.clock.advance_s(91 * 86_400)
    await world.record(world.incident(7))
    assert world.what() == ["number 7"]
    assert world.store.acks == {}


@pytest.mark.parametrize("damage", ["deleted", "truncated", "noise", "other tables", "too open", "a link"])
async def test_a_store_that_is_not_ours_is_made_anew_from_the_journal_and_says_so(world, tmp_path, damage):
    incidents = [world.incident(number) for number in range(300)]
    await world.record(*incidents)
    ack = await acknowledge(world, incidents[7])
    world.store.close()
    match damage:
        case "deleted":
            world.path.unlink()
        case "truncated":
            os.truncate(world.path, 5000)
        case "noise":
            world.path.write_bytes(os.urandom(100_000))
        case "other tables":
            with sqlite3.connect(world.path) as connection:
                connection.execute("CREATE TRIGGER t AFTER INSERT ON acks BEGIN DELETE FROM incidents; END")
            connection.close()
        case "too open":
            world.path.chmod(0o644)
        case _:
            world.path.rename(tmp_path / "elsewhere")
            world.path.symlink_to(tmp_path / "elsewhere")
    world.reopen()
    assert len(world.found()) == 300
    assert world.store.find(incidents[7].id).acked == ack
    assert "made anew" in world.store.problems[0]
    assert stat.S_IMODE(world.path.lstat().st_mode) == 0o600


async def test_pages_that_are_damaged_inside_are_noticed_when_they_are_read(world):
    await world.record(*[world.incident(number) for number in range(300)])
    world.store.close()
    size = world.path.stat().st_size
    with world.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    world.reopen()
    assert len(world.found()) == 300
    assert "was damaged" in world.store.problems[0]


async def test_the_store_of_another_journal_is_not_believed(world, tmp_path):
    await world.record(*[world.incident(number) for number in range(3)])
    world.log.close()
    for path in (world.journal, tmp_path / "alerts.log.head"):
        path.unlink()
    world.log = AlertLog.open(world.journal, world.clock)
    await world.record(world.incident(9))
    assert world.what() == ["number 9"]
    assert "another journal" in world.store.problems[0]


async def test_it_goes_on_where_it_stopped_and_reads_nothing_twice(world, monkeypatch):
    await world.record(world.incident(1))
    world.store.close()
    await world.log.record(world.incident(2))
    world.store = world.open()
    taken = []
    monkeypatch.setattr(world.store, "_take", lambda entry, _: taken.append(entry.seq))
    world.store.catch_up()
    assert taken == [2]


async def test_a_line_that_is_being_written_is_taken_when_it_is_whole(world):
    await world.record(world.incident(1))
    whole = world.journal.read_bytes()
    await world.log.record(world.incident(2))
    both = world.journal.read_bytes()
    world.journal.write_bytes(both[: len(whole) + 100])
    world.store.catch_up()
    assert world.what() == ["number 1"]
    world.journal.write_bytes(both)
    world.store.catch_up()
    assert world.what() == ["number 1", "number 2"]


async def test_a_changed_journal_is_an_error_and_not_a_reason_to_forget(world):
    await world.record(world.incident(1))
    await world.log.record(world.incident(2))
    world.journal.write_bytes(
        world.journal.read_bytes().replace(b"number 2", b"number 3").replace(b'"seq":2', b'"seq":7')
    )
    with pytest.raises(IntegrityError, match="the journal was changed"):
        world.store.catch_up()
    assert world.what() == ["number 1"]


async def test_a_full_disk_stops_the_store_and_nothing_else(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (tmp_path / "journal").mkdir()
        world = World(tmp_path / "journal")
        world.path = disk / "alerts.sqlite3"
        world.reopen()
        feed = StoreFeed(world.store)
        filler = fill(disk)
        for number in range(200):
            assert await world.log.record(world.incident(number))
        await feed._catch_up()
        filler.unlink()
        assert len([each async for each in feed.query(ALL)]) == 200
        await feed.close()
        world.log.close()


async def test_a_disk_that_is_full_at_the_start_is_tried_again(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (tmp_path / "journal").mkdir()
        world = World(tmp_path / "journal")
        await world.record(world.incident(1))
        world.store.close()
        world.path = disk / "alerts.sqlite3"
        filler = fill(disk)
        world.store = world.open()
        assert "can't be asked for" in world.store.problems[0]
        with pytest.raises(UnavailableError):
            world.store.ids(ALL)
        filler.unlink()
        world.store.catch_up()
        assert world.what() == ["number 1"]
        world.store.close()
        world.log.close()


async def test_an_answer_has_all_that_was_recorded_before_it(world, monkeypatch):
    monkeypatch.setattr("agent_broker.audit.store_feed.DELAY_S", 3600)
    feed = StoreFeed(world.store)
    for number in range(50):
        incident = world.incident(number)
        await world.log.record(incident)
        feed.nudge()
        assert (await feed.find(incident.id)).what == f"number {number}"
    assert len([each async for each in feed.query(ALL)]) == 50


async def test_many_come_in_order_a_few_at_a_time(world, monkeypatch):
    incidents = [world.incident(number) for number in range(500)]
    await world.record(*incidents)
    fetched = []
    fetch = world.store.fetch
    monkeypatch.setattr(world.store, "fetch", lambda ids: fetched.append(len(ids)) or fetch(ids))
    feed = StoreFeed(world.store)
    assert [each.id async for each in feed.query(Query(450))] == [each.id for each in incidents[50:]]
    assert max(fetched) <= 200


async def test_it_fills_itself_while_incidents_come_and_keeps_their_order(world, monkeypatch):
    monkeypatch.setattr("agent_broker.audit.store_feed.DELAY_S", 0.001)
    feed = StoreFeed(world.store)
    for number in range(100):
        await world.log.record(world.incident(number))
        feed.nudge()
    while world.store.seq < 100:
        await asyncio.sleep(0.001)
    assert world.what() == [f"number {number}" for number in range(100)]
    await feed.close()
