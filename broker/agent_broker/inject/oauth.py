"""OAuth: the broker holds the refresh token and is the only one that uses it.

The law of this module:
1. A refresh is made once for each credential however many requests wait for it, and no client's departure ends
   it: the provider rotates the refresh token, so an answer that is lost is a login that is lost.
2. Rotated tokens are stored durably before they are used. If storing fails they are kept in memory, nothing is
   released, and storing is tried again with the next request.
3. A refresh token that the provider refuses is not sent again: one alert, and one clear error to whoever asks, until
   the credential is replaced.
4. A provider that fails is asked again after a pause. Meanwhile, as in case 3, an access token that is still in
   date is used to its end, unless the provider has refused that too.
5. Whether a token is in date is judged by ``oauth_clock``: a wall clock that is wrong neither keeps an old token nor
   refreshes in a loop.

If the broker is killed between the provider's answer and the store, the new tokens are lost with it, and the old
refresh token, the only one there is, is tried again after the start. A provider that lets an old token pass once more
gives new ones; one that sees a reuse ends the login, and then case 3 holds. Nothing can close that gap from here: no
provider tells twice what it has given once.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Final, Protocol

import aiohttp

from agent_broker.clock import Clock
from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.ids import CredentialId
from agent_broker.inject.answer import LoginEndedError, login_command
from agent_broker.inject.google_tokens import MINTED, TOKEN_URL, GoogleMinter
from agent_broker.inject.oauth_clock import TokenEnd, answered_at_ms
from agent_broker.inject.oauth_servers import LOGIN_SERVERS, LoginServer
from agent_broker.inject.oauth_tokens import Answer, Tokens, claimed_times_s, decode_answer, fingerprint
from agent_broker.inject.upstream import Upstream
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret

_PAUSE_NS: Final = 10 * 1_000_000_000  # between two attempts that the provider failed
_REJECTION_PAUSE_NS: Final = 300 * 1_000_000_000  # between two refreshes of tokens that are in date
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)  # seconds
_MAX_ANSWER_BYTES: Final = 256 << 10  # tokens have some kilobytes
_ENDED: Final = frozenset({400, 401})
"""How a token endpoint says that a refresh token is no good: ``invalid_grant`` (RFC 6749, 5.2), or plainly 401."""

_LOG = logging.getLogger(__name__)


class TokenStore(Protocol):
    """Where tokens are kept: the vault."""

    def unseal(self, id: CredentialId) -> Secret:  # noqa: A002 - the vault's own parameter name
        """Return the stored tokens."""
        ...

    def store(self, credential: Credential, secret: Secret) -> None:
        """Replace the tokens, keeping all else of the record; durable on return."""
        ...


class LoginWatch(Protocol):
    """Who is told that a login has ended."""

    async def login_ended(self, credential: Credential, mark: str) -> None:
        """Raise the alert; ``mark`` is the same for the same login, also after a restart.

        Raises:
            UnavailableError: it can't be stored; it is told again then.
        """
        ...


class _State:
    """What is remembered of one credential between requests; tokens only as fingerprints."""

    def __init__(self, clock: Clock) -> None:
        self.lock = asyncio.Lock()
        self.end = TokenEnd(clock)
        self.unstored: tuple[bytes, Secret] | None = None
        """Fingerprint of the refresh token that was used up, and the new tokens until they are stored."""
        self.refused_refresh = b""
        self.failed_refresh = b""
        """What ``not_before_ns`` is about: another login need not wait."""
        self.told_ended = b""
        self.rejected_access = b""
        self.not_before_ns = 0
        self.rejection_not_before_ns = 0


class TokenKeeper:
    """Hands out access tokens. ``close`` it before the loop ends, so that a running refresh is stored."""

    def __init__(
        self,
        store: TokenStore,
        clock: Clock,
        *,
        token_urls: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        watch: LoginWatch | None = None,
    ) -> None:
        """Take the operator's token endpoints by kind of credential; missing or empty: the provider's own.

        Raises:
            MisuseError: an address that no token may be sent to.
        """
        self._store = store
        self._clock = clock
        chosen = token_urls or {}
        self._token_urls = {
            kind: _checked_url(each.token_url, chosen.get(kind, "")) for kind, each in LOGIN_SERVERS.items()
        }
        self._tls = tls
        self._watch = watch
        self._session: aiohttp.ClientSession | None = None
        self._states: dict[CredentialId, _State] = {}
        self._running: set[asyncio.Task[str]] = set()
        minting = {kind: _checked_url(TOKEN_URL, chosen.get(kind, "")) for kind in MINTED}
        self._minter = GoogleMinter(clock, self._post_form, minting, watch)

    async def access_token(self, credential: Credential, secret: Secret) -> str:
        """Return an access token that is valid now; ``secret`` is what the vault just gave.

        Raises:
            UnavailableError: the login has ended, or the token is out of date and the provider does not answer,
                or the disk does not take the new tokens.
            IntegrityError: what is stored are not tokens.
        """
        if credential.kind in MINTED:
            return await self._minter.access_token(credential, secret)
        state = self._state(credential)
        tokens = Tokens(secret, LOGIN_SERVERS[credential.kind])
        if state.unstored is None and not _is_due(tokens, state):
            return tokens.access
        task = asyncio.ensure_future(self._renew(credential, state))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    def rejected(self, credential: Credential, access_token: str) -> None:
        """Remember that the provider refused this access token, so that the next request refreshes it early."""
        if credential.kind in MINTED:
            self._minter.rejected(credential, access_token)
            return
        state = self._state(credential)
        if self._clock.boot_ns() >= state.rejection_not_before_ns:
            state.rejection_not_before_ns = self._clock.boot_ns() + _REJECTION_PAUSE_NS
            state.rejected_access = fingerprint(access_token)

    async def close(self) -> None:
        """Wait for refreshes that are under way, then end."""
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._minter.close()
        if self._session is not None:
            await self._session.close()

    def _state(self, credential: Credential) -> _State:
        return self._states.setdefault(credential.id, _State(self._clock))

    async def _renew(self, credential: Credential, state: _State) -> str:
        async with state.lock:
            self._store_leftover(credential, state)
            tokens = self._stored(credential)  # another request may have refreshed meanwhile
            if not _is_due(tokens, state):
                return tokens.access
            if not tokens.refresh or state.refused_refresh == fingerprint(tokens.refresh):
                return await self._ended(credential, state, tokens)
            if self._clock.boot_ns() < state.not_before_ns and state.failed_refresh == fingerprint(tokens.refresh):
                return _in_date(tokens, state, _provider_failed("the login server failed a moment ago"))
            return await self._refresh(credential, state, tokens)

    async def _refresh(self, credential: Credential, state: _State, tokens: Tokens) -> str:
        state.failed_refresh = fingerprint(tokens.refresh)
        state.not_before_ns = self._clock.boot_ns() + _PAUSE_NS
        try:
            status, date, body = await self._post(LOGIN_SERVERS[credential.kind], tokens.refresh)
        except (aiohttp.ClientError, TimeoutError) as error:
            failed = _provider_failed(f"the login server fails ({type(error).__name__})")
            return _in_date(tokens, state, failed)
        if status in _ENDED:
            state.refused_refresh = fingerprint(tokens.refresh)
            return await self._ended(credential, state, tokens)
        answer = decode_answer(body) if status == 200 else None  # noqa: PLR2004 - an HTTP status
        if answer is None:
            failed = _provider_failed(f"the login server answers {status} and gives no tokens")
            return _in_date(tokens, state, failed)
        state.not_before_ns = 0
        now_ms = answered_at_ms(date, self._clock)
        state.end.given(answer.access_token, _lifetime_s(answer, now_ms))
        state.unstored = (fingerprint(tokens.refresh), tokens.replaced(answer, now_ms))
        self._store_leftover(credential, state)
        return answer.access_token

    async def _post(self, server: LoginServer, refresh_token: str) -> tuple[int, str | None, bytes]:
        """Return status, Date header and body of the login server's answer."""
        parameters = server.request(refresh_token)
        return await self._send(self._token_urls[server.kind], parameters, is_json=server.encoding == "json")

    async def _post_form(self, url: str, parameters: dict[str, str]) -> tuple[int, str | None, bytes]:
        return await self._send(url, parameters, is_json=False)

    async def _send(self, url: str, parameters: dict[str, str], *, is_json: bool) -> tuple[int, str | None, bytes]:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls or True, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        async with self._session.post(
            url, json=parameters if is_json else None, data=None if is_json else parameters, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise aiohttp.ClientPayloadError("too long for tokens")
            return response.status, response.headers.get("Date"), bytes(body)

    def _store_leftover(self, credential: Credential, state: _State) -> None:
        if state.unstored is None:
            return
        used_up, secret = state.unstored
        if used_up == fingerprint(self._stored(credential).refresh):  # else: replaced by a newer login meanwhile
            self._store.store(credential, secret)
        state.unstored = None

    def _stored(self, credential: Credential) -> Tokens:
        return Tokens(self._store.unseal(credential.id), LOGIN_SERVERS[credential.kind])

    async def _ended(self, credential: Credential, state: _State, tokens: Tokens) -> str:
        """Tell it, once a login; the access token is good for as long as the provider does not refuse it."""
        login = fingerprint(tokens.refresh or tokens.access)
        if self._watch is not None and state.told_ended != login:
            try:
                await self._watch.login_ended(credential, login.hex())
                state.told_ended = login
            except AgentBrokerError as error:
                _LOG.warning("the end of the login %s could not be told: %s", credential.id, error.message)
        problem = _login_ended(credential)
        if tokens.refresh and state.rejected_access == fingerprint(tokens.access):
            raise problem
        return _in_date(tokens, state, problem)


def _is_due(tokens: Tokens, state: _State) -> bool:
    return state.end.is_due(tokens) or state.rejected_access == fingerprint(tokens.access)


def _in_date(tokens: Tokens, state: _State, problem: UnavailableError) -> str:
    left_ns = state.end.left_ns(tokens)
    if left_ns is None or left_ns > 0:
        return tokens.access
    raise problem


def _lifetime_s(answer: Answer, now_ms: int) -> int | None:
    """How long a new access token lives; None: nothing says it, or what is said is over already."""
    if answer.lifetime_s is not None:
        return answer.lifetime_s
    ends_s = claimed_times_s(answer.access_token)[1]
    return ends_s - now_ms // 1000 if ends_s is not None and ends_s > now_ms // 1000 else None


def _checked_url(own: str, chosen: str) -> str:
    """An address that is the provider's own is not the operator's choice, and gets no leave for plain http."""
    is_chosen = chosen not in {"", own}
    return Upstream(chosen if is_chosen else own, from_operator=is_chosen).base_url


def _login_ended(credential: Credential) -> UnavailableError:
    return LoginEndedError(
        "the provider has ended this login", next_step=f"log in again: {login_command(credential.id)}"
    )


def _provider_failed(problem: str) -> UnavailableError:
    return UnavailableError(f"the access token is out of date and {problem}", next_step="try again in a minute")
