"""OAuth: the broker holds the refresh token and is the only one that uses it.

The law of this module:
1. A refresh is made once for each credential however many requests wait for it, and no client's departure ends
   it: the provider rotates the refresh token, so an answer that is lost is a login that is lost.
2. Rotated tokens are stored durably before they are used. If storing fails they are kept in memory, nothing is
   released, and storing is tried again with the next request.
3. A refresh token that the provider refuses is not sent again: one clear error until the credential is replaced.
4. A provider that fails is asked again after a pause. Meanwhile, as in case 3, an access token that is still in
   date is used to its end.
"""

import asyncio
import ssl
from typing import Final, Protocol

import aiohttp

from agent_broker.clock import Clock
from agent_broker.errors import UnavailableError
from agent_broker.ids import CredentialId
from agent_broker.inject.answer import LoginEndedError
from agent_broker.inject.oauth_tokens import LOG_IN_AGAIN, Tokens, decode_answer, fingerprint
from agent_broker.inject.upstream import Upstream
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret

TOKEN_URL: Final = "https://platform.claude.com/v1/oauth/token"  # noqa: S105 - an address
CLIENT_ID: Final = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
"""Claude Code's public client id: the tokens in the vault were given to it."""

_EARLY_MS: Final = 5 * 60 * 1000  # refresh this long before the access token ends
_PAUSE_NS: Final = 10 * 1_000_000_000  # between two attempts that the provider failed
_REJECTION_PAUSE_NS: Final = 300 * 1_000_000_000  # between two refreshes of tokens that are in date
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)  # seconds
_NS_PER_MS: Final = 1_000_000


class TokenStore(Protocol):
    """Where tokens are kept: the vault."""

    def unseal(self, id: CredentialId) -> Secret:  # noqa: A002 - the vault's own parameter name
        """Return the stored tokens."""
        ...

    def store(self, credential: Credential, secret: Secret) -> None:
        """Replace the tokens, keeping all else of the record; durable on return."""
        ...


class _State:
    """What is remembered of one credential between requests; tokens only as fingerprints."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.unstored: tuple[bytes, Secret] | None = None
        """Fingerprint of the refresh token that was used up, and the new tokens until they are stored."""
        self.refused_refresh = b""
        self.rejected_access = b""
        self.not_before_ns = 0
        self.rejection_not_before_ns = 0


class TokenKeeper:
    """Hands out access tokens. ``close`` it before the loop ends, so that a running refresh is stored."""

    def __init__(
        self, store: TokenStore, clock: Clock, *, token_url: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """Take the operator's token endpoint, empty for the provider's own.

        Raises:
            MisuseError: an address that no token may be sent to.
        """
        self._store = store
        self._clock = clock
        self._token_url = Upstream(token_url or TOKEN_URL, from_operator=bool(token_url)).base_url
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._states: dict[CredentialId, _State] = {}
        self._running: set[asyncio.Task[str]] = set()

    async def access_token(self, credential: Credential, secret: Secret) -> str:
        """Return an access token that is valid now; ``secret`` is what the vault just gave.

        Raises:
            UnavailableError: the login has ended, or the token is out of date and the provider does not answer,
                or the disk does not take the new tokens.
            IntegrityError: what is stored are not tokens.
        """
        state = self._state(credential)
        tokens = Tokens(secret)
        if state.unstored is None and not self._is_due(tokens, state):
            return tokens.access
        task = asyncio.ensure_future(self._renew(credential, state))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    def rejected(self, credential: Credential, access_token: str) -> None:
        """Remember that the provider refused this access token, so that the next request refreshes it early."""
        state = self._state(credential)
        if self._clock.boot_ns() >= state.rejection_not_before_ns:
            state.rejection_not_before_ns = self._clock.boot_ns() + _REJECTION_PAUSE_NS
            state.rejected_access = fingerprint(access_token)

    async def close(self) -> None:
        """Wait for refreshes that are under way, then end."""
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _state(self, credential: Credential) -> _State:
        return self._states.setdefault(credential.id, _State())

    def _is_due(self, tokens: Tokens, state: _State) -> bool:
        left_ms = tokens.left_ms(self._now_ms())
        return (left_ms is not None and left_ms < _EARLY_MS) or state.rejected_access == fingerprint(tokens.access)

    async def _renew(self, credential: Credential, state: _State) -> str:
        async with state.lock:
            self._store_leftover(credential, state)
            tokens = Tokens(self._store.unseal(credential.id))  # another request may have refreshed meanwhile
            if not self._is_due(tokens, state):
                return tokens.access
            if not tokens.refresh or state.refused_refresh == fingerprint(tokens.refresh):
                return self._in_date(tokens, _login_ended())
            if self._clock.boot_ns() < state.not_before_ns:
                return self._in_date(tokens, _provider_failed("the login server failed a moment ago"))
            return await self._refresh(credential, state, tokens)

    async def _refresh(self, credential: Credential, state: _State, tokens: Tokens) -> str:
        state.not_before_ns = self._clock.boot_ns() + _PAUSE_NS
        try:
            status, body = await self._post(tokens.refresh)
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._in_date(tokens, _provider_failed(f"the login server fails ({type(error).__name__})"))
        if status in {400, 401}:
            state.refused_refresh = fingerprint(tokens.refresh)
            return self._in_date(tokens, _login_ended())
        answer = decode_answer(body) if status == 200 else None  # noqa: PLR2004 - an HTTP status
        if answer is None:
            return self._in_date(tokens, _provider_failed(f"the login server answers {status} and gives no tokens"))
        state.not_before_ns = 0
        state.unstored = (fingerprint(tokens.refresh), tokens.replaced(answer, self._now_ms()))
        self._store_leftover(credential, state)
        return answer.access_token

    async def _post(self, refresh_token: str) -> tuple[int, bytes]:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls or True, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CLIENT_ID}
        async with self._session.post(self._token_url, json=form, allow_redirects=False) as response:
            return response.status, await response.read()

    def _store_leftover(self, credential: Credential, state: _State) -> None:
        if state.unstored is None:
            return
        used_up, secret = state.unstored
        stored = Tokens(self._store.unseal(credential.id))
        if used_up == fingerprint(stored.refresh):  # else: replaced by a newer login meanwhile
            self._store.store(credential, secret)
        state.unstored = None

    def _in_date(self, tokens: Tokens, problem: UnavailableError) -> str:
        left_ms = tokens.left_ms(self._now_ms())
        if left_ms is None or left_ms > 0:
            return tokens.access
        raise problem

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // _NS_PER_MS


def _login_ended() -> UnavailableError:
    return LoginEndedError("the provider has ended this login", next_step=LOG_IN_AGAIN)


def _provider_failed(problem: str) -> UnavailableError:
    return UnavailableError(f"the access token is out of date and {problem}", next_step="try again in a minute")
