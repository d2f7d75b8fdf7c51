"""All three vendors' logins, refreshed against strict servers: the form, the clock, the crowd, the end."""

import asyncio
import json

import pytest

from agent_broker.daemon.login_ended import LoginEnded
from agent_broker.enroll.login_agents import LOGINS
from agent_broker.errors import UnavailableError
from agent_broker.inject.kinds import KINDS as INJECTED
from agent_broker.inject.oauth import TokenKeeper
from agent_broker.inject.oauth_servers import ANTHROPIC, GOOGLE, LOGIN_SERVERS, OPENAI
from agent_broker.vault.secret import Secret
from tests.fakes.clock import SECOND_NS, FakeClock
from tests.fakes.issuer import MemoryVault
from tests.fakes.login_server import LoginWorld

HOUR_S = 3600
KINDS = sorted(LOGIN_SERVERS)


def test_every_kind_that_is_a_login_has_its_server():
    assert set(LOGIN_SERVERS) == {kind for kind in INJECTED if kind.endswith("-oauth")} == set(LOGINS)


class Broker:
    """A vault with one login of each kind, the keeper, and what it told."""

    def __init__(self, world, clock):
        self.world, self.clock = world, clock
        self.vault = MemoryVault()
        self.alerts = []
        self.keys = {}
        self.restart()

    def restart(self):
        self.keeper = TokenKeeper(
            self.vault, self.clock, token_urls=self.world.token_urls, watch=LoginEnded(self._raise, self.clock)
        )

    async def _raise(self, incident):
        if incident.id not in {each.id for each in self.alerts}:
            self.alerts.append(incident)

    def log_in(self, kind, left_s=HOUR_S):
        self.store(kind, self.world.log_in(kind, left_s))

    def store(self, kind, tokens):
        self.keys[kind] = self.vault.put(kind, kind, json.dumps(tokens).encode())

    def stored(self, kind):
        return json.loads(self.vault.unseal(self.keys[kind]).reveal())

    async def token(self, kind):
        key = self.keys[kind]
        return await self.keeper.access_token(self.vault.describe(key), self.vault.unseal(key))

    def rejected(self, kind, token):
        self.keeper.rejected(self.vault.describe(self.keys[kind]), token)


@pytest.fixture
async def broker():
    clock = FakeClock()
    true_time = FakeClock()
    async with LoginWorld(lambda: true_time.wall / SECOND_NS) as world:
        made = Broker(world, clock)
        made.true_time = true_time
        yield made
        await made.keeper.close()


def pass_s(broker, seconds):
    """Let time pass, for the machine and for the rest of the world."""
    broker.clock.advance_s(seconds)
    broker.true_time.advance_s(seconds)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_vendors_server_takes_the_refresh_and_its_answer_is_stored_in_the_vendors_form(broker, kind):
    broker.log_in(kind, left_s=60)
    before = broker.stored(kind)
    token = await broker.token(kind)
    row, after = LOGIN_SERVERS[kind], broker.stored(kind)
    assert token in broker.world.access
    assert after[row.fields.access] == token != before[row.fields.access]
    assert (after[row.fields.refresh] != before[row.fields.refresh]) == (kind != GOOGLE.kind)
    assert set(after) == set(before)
    if row.fields.expires_ms:
        assert after[row.fields.expires_ms] == int(broker.true_time.wall // 10**6) + HOUR_S * 1000
    if row.fields.identity:
        assert after["id_token"] != before["id_token"]
    assert await broker.token(kind) == token
    assert len(broker.world.refreshes(kind)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_fifty_requests_at_once_make_one_refresh(broker, kind):
    broker.log_in(kind, left_s=-1)
    broker.world.delay_s = 0.05
    assert len(set(await asyncio.gather(*(broker.token(kind) for _ in range(50))))) == 1
    assert len(broker.world.refreshes(kind)) == 1
    assert broker.vault.stores == 1


async def test_the_vendors_do_not_wait_for_each_other(broker):
    for kind in KINDS:
        broker.log_in(kind, left_s=-1)
    await asyncio.gather(*(broker.token(kind) for kind in KINDS for _ in range(10)))
    assert [len(broker.world.refreshes(kind)) for kind in KINDS] == [1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hours", [-30, -5, 5, 30])
async def test_a_date_that_jumps_neither_keeps_an_old_token_nor_refreshes_in_a_loop(broker, kind, hours):
    broker.log_in(kind, left_s=-1)
    first = await broker.token(kind)
    broker.clock.wall += hours * HOUR_S * SECOND_NS
    for _ in range(5):
        assert await broker.token(kind) == first
        pass_s(broker, 60)
    pass_s(broker, HOUR_S - 5 * 60)
    second = await broker.token(kind)
    assert second != first
    for _ in range(5):
        assert await broker.token(kind) == second
    assert len(broker.world.refreshes(kind)) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hours", [-30, 30])
async def test_a_broker_that_starts_with_a_wrong_date_refreshes_once_and_goes_on(broker, kind, hours):
    broker.clock.wall += hours * HOUR_S * SECOND_NS
    broker.log_in(kind, left_s=-1)
    token = await broker.token(kind)
    if token not in broker.world.access or hours < 0:  # it looked good: the provider says that it is not
        broker.rejected(kind, token)
        token = await broker.token(kind)
    for _ in range(20):
        assert await broker.token(kind) == token
        pass_s(broker, 60)
    assert len(broker.world.refreshes(kind)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_stored_before_the_date_was_set_back_ends_when_it_should(broker, kind):
    broker.log_in(kind, left_s=HOUR_S)
    first = await broker.token(kind)
    broker.clock.wall -= 30 * HOUR_S * SECOND_NS
    pass_s(broker, HOUR_S - 4 * 60)
    assert await broker.token(kind) != first


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_that_lives_for_a_minute_is_refreshed_twice_a_minute_at_most(broker, kind):
    broker.world.lifetime_s = 60
    broker.log_in(kind, left_s=-1)
    for _ in range(60):
        await broker.token(kind)
        pass_s(broker, 1)
    assert len(broker.world.refreshes(kind)) in {1, 2}


async def test_an_opaque_token_of_openai_is_used_until_it_is_refused(broker):
    broker.world.opaque = True
    broker.log_in(OPENAI.kind)
    first = await broker.token(OPENAI.kind)
    pass_s(broker, 24 * HOUR_S)
    assert await broker.token(OPENAI.kind) == first
    broker.rejected(OPENAI.kind, first)
    assert await broker.token(OPENAI.kind) != first


@pytest.mark.parametrize("kind", KINDS)
async def test_a_login_that_was_revoked_is_one_alert_however_many_ask_and_however_often_it_restarts(broker, kind):
    broker.log_in(kind, left_s=-1)
    broker.world.revoked = True
    for _ in range(3):
        results = await asyncio.gather(*(broker.token(kind) for _ in range(50)), return_exceptions=True)
        assert {type(each).__name__ for each in results} == {"LoginEndedError"}
        assert {each.next_step for each in results} == {"log in again: sudo agent-broker login claude"}
        pass_s(broker, HOUR_S)
        await broker.keeper.close()
        broker.restart()
    assert len(broker.world.refreshes(kind)) == 3  # once a start
    (alert,) = broker.alerts
    assert (alert.kind, alert.severity, alert.agent) == ("login-ended", "warning", "claude")
    assert "sudo agent-broker login claude" in alert.next_step
    assert all(str(value) not in repr(alert) for value in broker.stored(kind).values() if len(str(value)) > 8)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_new_login_goes_on_at_once_and_its_end_is_another_alert(broker, kind):
    broker.log_in(kind, left_s=-1)
    broker.world.revoked = True
    with pytest.raises(UnavailableError):
        await broker.token(kind)
    broker.world.revoked = False
    fresh = broker.world.log_in(kind, left_s=-1)
    fresh[LOGIN_SERVERS[kind].fields.refresh] = broker.world._current[kind] = f"another {kind}"
    broker.store(kind, fresh)
    assert await broker.token(kind) in broker.world.access
    broker.world.revoked = True
    pass_s(broker, 2 * HOUR_S)
    with pytest.raises(UnavailableError):
        await broker.token(kind)
    assert len(broker.alerts) == 2


async def test_a_new_login_does_not_wait_for_the_pause_of_the_old_one(broker):
    broker.log_in(ANTHROPIC.kind, left_s=-1)
    broker.world.fails = 503
    with pytest.raises(UnavailableError, match="answers 503"):
        await broker.token(ANTHROPIC.kind)
    broker.world.fails = 0
    with pytest.raises(UnavailableError, match="a moment ago"):
        await broker.token(ANTHROPIC.kind)
    broker.log_in(ANTHROPIC.kind, left_s=-1)
    assert await broker.token(ANTHROPIC.kind) in broker.world.access


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_that_both_servers_refuse_is_not_sent_any_more(broker, kind):
    broker.log_in(kind)
    token = await broker.token(kind)
    broker.world.revoked = True
    broker.rejected(kind, token)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="ended this login"):
            await broker.token(kind)
    assert (len(broker.world.refreshes(kind)), len(broker.alerts)) == (1, 1)


async def test_an_alert_that_can_not_be_stored_is_told_with_the_next_request(broker):
    broker.log_in(ANTHROPIC.kind, left_s=-1)
    broker.world.revoked = True
    keep, broker.alerts = broker.alerts, None  # a disk that refuses

    async def refuse(_incident):
        raise UnavailableError("the disk is full")

    broker.keeper._watch._raise_alert = refuse
    with pytest.raises(UnavailableError, match="ended this login"):
        await broker.token(ANTHROPIC.kind)
    broker.alerts = keep
    broker.keeper._watch._raise_alert = broker._raise
    with pytest.raises(UnavailableError, match="ended this login"):
        await broker.token(ANTHROPIC.kind)
    assert len(broker.alerts) == 1


async def test_an_answer_without_end_is_not_read_to_its_end(broker):
    broker.log_in(ANTHROPIC.kind, left_s=-1)
    broker.world._answer = lambda *_: __import__("aiohttp").web.Response(body=b" " * (1 << 20))
    with pytest.raises(UnavailableError, match="ClientPayloadError"):
        await broker.token(ANTHROPIC.kind)


@pytest.mark.parametrize("stored", [b"{}", b'{"access_token": 1}', b'{"accessToken": "of another vendor"}', b"[]"])
async def test_tokens_of_another_form_are_damage(broker, stored):
    key = broker.vault.put("odd", GOOGLE.kind, stored)
    with pytest.raises(Exception, match="can't be read"):
        await broker.keeper.access_token(broker.vault.describe(key), Secret(stored))
