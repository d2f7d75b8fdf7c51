"""What the broker answers about alerts: stored ones and new ones, each revision once, filtered alike."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest
from msgspec.structs import replace

from agent_broker.audit.acks import MAX_REASON_CHARS, Alert
from agent_broker.audit.alerts import AlertLog
from agent_broker.audit.store import AlertStore
from agent_broker.audit.store_feed import StoreFeed
from agent_broker.daemon import alert_answers
from agent_broker.errors import MisuseError
from agent_broker.ids import Uid
from agent_broker.transport.control_records import ALL_ALERTS, Acknowledgement, AlertFilter, Missed
from tests.fakes.clock import SECOND_NS, FakeClock
from tests.fakes.control import decoy_opened


@pytest.fixture
async def parts(tmp_path):
    clock = FakeClock()
    log = AlertLog.open(tmp_path / "alerts.log", clock)
    store = AlertStore(tmp_path / "a.sqlite3", tmp_path / "alerts.log", clock, keep_ns=10**18, max_incidents=1000)
    made = SimpleNamespace(alerts=log, stored_alerts=StoreFeed(store), clock=clock)
    yield made
    await made.stored_alerts.close()
    log.close()


def incident(parts, number=0, **changes):
    return decoy_opened(time_ns=parts.clock.wall + number, what=f"number {number}", **changes)


def decoded(told):
    return msgspec.json.decode(told, type=Alert) if isinstance(told, bytes) else told


async def stored(parts, wanted=ALL_ALERTS, limit=100):
    return [decoded(each) async for each in alert_answers.alerts(parts, limit, wanted, follow=False)]


class Following:
    """A follower whose next answers are asked for one by one."""

    def __init__(self, parts, wanted=ALL_ALERTS, limit=100):
        self._stream = alert_answers.alerts(parts, limit, wanted, follow=True)

    async def begin(self):
        """Return the stored ones: all before None."""
        found = []
        while (each := await anext(self._stream)) is not None:
            found.append(decoded(each))
        return found

    async def next(self):
        return decoded(await anext(self._stream))

    async def close(self):
        await self._stream.aclose()


def acknowledge(parts, alert, reason="a drill"):
    return alert_answers.acknowledge(parts, Acknowledgement(alert.id, reason, Uid(1000)))


async def test_stored_then_each_new_one_once(parts):
    first, second, third = (incident(parts, number) for number in range(3))
    await parts.alerts.record(first)
    following = Following(parts)
    assert [each.what for each in await following.begin()] == ["number 0"]
    await parts.alerts.record(second)
    assert (await following.next()).what == "number 1"
    await parts.alerts.record(third)
    assert (await following.next()).what == "number 2"
    await following.close()


async def test_what_is_recorded_while_following_begins_comes_once(parts, monkeypatch):
    """It is recorded after the follower was subscribed and before the stored ones are read: both have it."""
    one, other = incident(parts, 1), incident(parts, 2)
    query = parts.stored_alerts.query

    async def late(asked):
        await parts.alerts.record(one)
        async for each in query(asked):
            yield each

    monkeypatch.setattr(parts.stored_alerts, "query", late)
    following = Following(parts)
    assert [each.what for each in await following.begin()] == ["number 1"]
    await parts.alerts.record(other)
    assert (await following.next()).what == "number 2"
    await following.close()


async def test_filters_hold_for_stored_and_new_ones(parts):
    wanted = AlertFilter(min_severity="warning", kind="decoy-opened", since_ns=parts.clock.wall + 5, hide_acked=True)
    bad = [
        incident(parts, 10, severity="info"),
        incident(parts, 11, kind="lineage-lost"),
        incident(parts, 1),
    ]
    good = incident(parts, 12, severity="warning")
    for each in (*bad, good):
        await parts.alerts.record(each)
    assert [each.what for each in await stored(parts, wanted)] == ["number 12"]
    following = Following(parts, wanted, limit=0)
    assert await following.begin() == []
    for each in (*(replace(bad_one, id=f"{n}" * 32) for n, bad_one in enumerate(bad)), replace(good, id="f" * 32)):
        await parts.alerts.record(each)
    assert (await following.next()).id == "f" * 32
    await following.close()


async def test_an_acknowledged_one_is_left_out_and_says_who_did(parts):
    one = incident(parts, 1)
    await parts.alerts.record(one)
    done = await acknowledge(parts, one)
    assert (done.acked.uid, done.acked.reason, done.acked.severity) == (1000, "a drill", "critical")
    assert await stored(parts, AlertFilter(hide_acked=True)) == []
    assert await stored(parts) == [done]
    again = await acknowledge(parts, one, "really")
    assert (await stored(parts))[0].acked.reason == "really" == again.acked.reason


async def test_no_such_alert_and_an_endless_reason_are_misuse(parts):
    one = incident(parts, 1)
    await parts.alerts.record(one)
    with pytest.raises(MisuseError, match="no alert"):
        await acknowledge(parts, replace(one, id="0" * 32))
    with pytest.raises(MisuseError, match="at most"):
        await acknowledge(parts, one, "x" * (MAX_REASON_CHARS + 1))
    assert (await stored(parts))[0].acked is None


async def test_a_follower_gets_the_same_bytes_as_who_asks_for_the_stored_one(parts):
    one = incident(parts, 1)
    stream = alert_answers.alerts(parts, 0, ALL_ALERTS, follow=True)
    assert await anext(stream) is None
    await parts.alerts.record(one)
    assert await anext(stream) == msgspec.json.encode(Alert.of(one, None))
    acked = (await acknowledge(parts, one)).acked
    assert acked is not None
    again = replace(one, revision=1)
    await parts.alerts.record(again)
    told = await anext(stream)
    assert told == msgspec.json.encode(Alert.of(again, acked))
    assert [each async for each in alert_answers.alerts(parts, 1, ALL_ALERTS, follow=False)] == [told]
    await stream.aclose()


async def test_a_slow_follower_is_told_what_it_missed(parts, monkeypatch):
    monkeypatch.setattr("agent_broker.audit.alerts.QUEUE", 2)
    following = Following(parts)
    assert await following.begin() == []
    for number in range(5):
        await parts.alerts.record(incident(parts, number))
    assert [type(await following.next()) for _ in range(3)] == [Alert, Alert, Missed]
    await following.close()


async def test_a_follower_that_leaves_is_forgotten(parts):
    following = Following(parts)
    await following.begin()
    waiting = asyncio.ensure_future(following.next())
    await asyncio.sleep(0)
    assert len(parts.alerts._followers) == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await following.close()
    await parts.alerts.record(incident(parts, 1))
    assert parts.clock.wall > SECOND_NS
    assert [each._is_closed for each in parts.alerts._followers] in ([], [True])
