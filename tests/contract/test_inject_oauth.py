"""The broker refreshes OAuth tokens against a real token endpoint, and never loses a login."""

import asyncio
import json

import aiohttp
import pytest

from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.inject.oauth import TokenKeeper
from agent_broker.inject.oauth_servers import ANTHROPIC
from agent_broker.vault.secret import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.issuer import MemoryVault
from tests.fakes.mock_provider import MockProvider, Mode

MINUTE_S = 60


class Login:
    """One OAuth credential, its keeper, and a provider."""

    def __init__(self, provider):
        self.provider = provider
        self.clock = FakeClock()
        self.vault = MemoryVault()
        self.keeper = TokenKeeper(
            self.vault, self.clock, token_urls={ANTHROPIC.kind: f"{provider.base_url}/v1/oauth/token"}
        )
        self.key = None
        self.log_in("old-access", "old-refresh", left_s=60 * MINUTE_S)

    def log_in(self, access, refresh, left_s, **more):
        fields = {
            "accessToken": access,
            "refreshToken": refresh,
            "expiresAt": self.clock.wall // 1_000_000 + int(left_s * 1000),
            "scopes": ["user:inference"],
            **more,
        }
        self.key = self.vault.put("oauth", "anthropic-oauth", json.dumps(fields).encode())

    @property
    def stored(self):
        return json.loads(self.vault.unseal(self.key).reveal())

    @property
    def refreshes(self):
        return [seen.json for seen in self.provider.seen]

    async def token(self):
        return await self.keeper.access_token(self.vault.describe(self.key), self.vault.unseal(self.key))


@pytest.fixture
async def login():
    async with MockProvider() as provider:
        made = Login(provider)
        yield made
        await made.keeper.close()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def test_a_token_that_is_in_date_is_used_without_a_call(login):
    assert await login.token() == "old-access"
    assert login.refreshes == []


async def test_a_token_that_ends_soon_is_refreshed_and_stored(login):
    login.log_in("old-access", "old-refresh", left_s=4.9 * MINUTE_S, subscriptionType="max")
    login.provider.mode = Mode(new_access="new-access", token_lifetime_s=3600, date_s=login.clock.wall // 10**9 - 90)
    assert await login.token() == "new-access"
    assert login.refreshes == [
        {"grant_type": "refresh_token", "refresh_token": "old-refresh", "client_id": ANTHROPIC.client_id}
    ]
    assert login.stored == {
        "accessToken": "new-access",
        "refreshToken": "mock-refresh-1",
        "expiresAt": login.clock.wall // 1_000_000 - 90_000 + 3_600_000,  # in the provider's time
        "scopes": ["user:inference"],
        "subscriptionType": "max",
    }
    assert await login.token() == "new-access"
    assert len(login.refreshes) == 1


async def test_a_refresh_token_that_is_not_rotated_is_kept(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.provider.mode = Mode(new_access="new-access", rotate=False)
    assert await login.token() == "new-access"
    assert login.stored["refreshToken"] == "old-refresh"


async def test_five_minutes_are_the_limit(login):
    login.log_in("old-access", "old-refresh", left_s=5 * MINUTE_S)
    assert await login.token() == "old-access"
    login.clock.advance_s(0.001)
    assert await login.token() != "old-access"


async def test_requests_that_come_together_share_one_refresh(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.provider.mode = Mode(new_access="new-access", token_delay_s=0.05)
    assert set(await asyncio.gather(*(login.token() for _ in range(20)))) == {"new-access"}
    assert (len(login.refreshes), login.vault.stores) == (1, 1)


async def test_a_client_that_leaves_does_not_lose_the_rotated_token(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.provider.mode = Mode(new_access="new-access", token_delay_s=0.1)
    request = asyncio.ensure_future(login.token())
    await until(lambda: login.refreshes)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await until(lambda: login.provider.finished + login.provider.disconnects)
    await login.keeper.close()
    assert login.stored["accessToken"] == "new-access"


async def test_closing_waits_for_a_refresh(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.provider.mode = Mode(new_access="new-access", token_delay_s=0.1)
    request = asyncio.ensure_future(login.token())
    await until(lambda: login.refreshes)
    await login.keeper.close()
    assert login.stored["accessToken"] == "new-access"
    assert await request == "new-access"


async def test_what_can_not_be_stored_is_not_used_and_not_lost(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.vault.failure = UnavailableError("the disk is full")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="the disk is full"):
            await login.token()
    assert login.stored["refreshToken"] == "old-refresh"
    login.vault.failure = None
    assert await login.token() == "mock-access-1"
    assert login.stored["refreshToken"] == "mock-refresh-1"
    assert len(login.refreshes) == 1


async def test_a_new_login_wins_over_tokens_that_could_not_be_stored(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.vault.failure = UnavailableError("the disk is full")
    with pytest.raises(UnavailableError):
        await login.token()
    login.vault.failure = None
    login.log_in("other-access", "other-refresh", left_s=60 * MINUTE_S)
    assert await login.token() == "other-access"
    assert login.stored["refreshToken"] == "other-refresh"


@pytest.mark.parametrize("status", [400, 401])
async def test_a_login_that_has_ended_is_told_once_to_the_provider_and_always_to_the_user(login, status):
    login.log_in("old-access", "old-refresh", left_s=-1)
    login.provider.mode = Mode(token_status=status)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="ended this login") as ended:
            await login.token()
        assert ended.value.next_step == "log in again: sudo agent-broker login claude"
        login.clock.advance_s(3600)
    assert len(login.refreshes) == 1
    login.log_in("third-access", "third-refresh", left_s=-1)
    login.provider.mode = Mode(new_access="new-access")
    assert await login.token() == "new-access"


async def test_an_access_token_is_used_to_its_end_though_the_login_has_ended(login):
    login.log_in("old-access", "old-refresh", left_s=2 * MINUTE_S)
    login.provider.mode = Mode(token_status=400)
    assert await login.token() == "old-access"
    login.clock.advance_s(2 * MINUTE_S)
    with pytest.raises(UnavailableError):
        await login.token()


@pytest.mark.parametrize("status", [0, 200, 403, 429, 500, 503])
async def test_a_login_server_that_fails_is_asked_again_after_a_pause(login, status):
    login.log_in("old-access", "old-refresh", left_s=2 * MINUTE_S)
    if status == 0:
        await login.provider.stop()
    login.provider.mode = Mode(token_status=status, token_lifetime_s=0)  # 200: an answer without a lifetime
    for _ in range(3):
        assert await login.token() == "old-access"
    assert len(login.refreshes) == (status != 0)
    login.clock.advance_s(2 * MINUTE_S)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="out of date"):
            await login.token()
    if status == 0:
        await login.provider.start(login.provider.port)
    login.provider.mode = Mode(new_access="new-access")
    login.clock.advance_s(11)
    assert await login.token() == "new-access"


async def test_a_token_that_the_provider_refuses_early_is_refreshed_once(login):
    login.provider.mode = Mode(new_access="new-access")
    login.keeper.rejected(login.vault.describe(login.key), "old-access")
    assert await login.token() == "new-access"
    login.keeper.rejected(login.vault.describe(login.key), "new-access")
    assert await login.token() == "new-access"
    assert len(login.refreshes) == 1
    login.clock.advance_s(6 * MINUTE_S)
    login.keeper.rejected(login.vault.describe(login.key), "new-access")
    await login.token()
    assert len(login.refreshes) == 2


async def test_a_login_without_refresh_token_lives_as_long_as_its_access_token(login):
    login.log_in("old-access", "", left_s=MINUTE_S)
    assert await login.token() == "old-access"
    login.clock.advance_s(MINUTE_S)
    with pytest.raises(UnavailableError, match="ended this login"):
        await login.token()
    assert login.refreshes == []


async def test_a_token_without_a_known_end_is_used(login):
    key = login.vault.put("oauth", "anthropic-oauth", b'{"accessToken": "setup-token"}')
    token = await login.keeper.access_token(login.vault.describe(key), login.vault.unseal(key))
    assert token == "setup-token"


@pytest.mark.parametrize(
    "stored", [b"", b"[]", b"{}", b'{"accessToken": 5}', b'{"accessToken": "a", "expiresAt": "soon"}', b"\xff\xfe"]
)
async def test_what_is_not_tokens_is_damage_and_not_quoted(login, stored):
    with pytest.raises(IntegrityError) as broken:
        await login.keeper.access_token(login.vault.describe(login.key), Secret(stored))
    assert broken.value.message == "the stored OAuth tokens can't be read"


async def test_no_error_holds_a_token(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    for mode in (Mode(token_status=500), Mode(token_status=400)):
        login.provider.mode = mode
        login.clock.advance_s(60)
        with pytest.raises(UnavailableError) as failed:
            await login.token()
        chain = f"{failed.value.explain()} {failed.value!r} {failed.value.__cause__!r}"
        assert "old-" not in chain


async def test_tokens_go_to_https_or_to_the_operators_loopback_only(login):
    assert TokenKeeper(login.vault, login.clock)._token_urls[ANTHROPIC.kind] == ANTHROPIC.token_url
    with pytest.raises(MisuseError):
        TokenKeeper(login.vault, login.clock, token_urls={ANTHROPIC.kind: "http://login.example/token"})


async def test_the_login_servers_redirect_is_not_followed(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    async with MockProvider() as other:
        login.provider.mode = Mode(token_status=307, location=f"{other.base_url}/v1/oauth/token")
        with pytest.raises(UnavailableError, match="answers 307"):
            await login.token()
        assert other.seen == []


async def test_the_tokens_client_keeps_no_connection(login):
    login.log_in("old-access", "old-refresh", left_s=-1)
    await login.token()
    assert isinstance(login.keeper._session, aiohttp.ClientSession)
    assert login.provider.seen[0].headers["connection"] == "close"
