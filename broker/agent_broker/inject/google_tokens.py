"""Google's access tokens, minted by the broker from what never leaves it: a service account's key, or a user's login.

The law of this module:
1. Tokens live in memory only, and only to their end by the boot clock. Nothing that Google answers is stored: neither
   the key nor the refresh token of these credentials changes when it is used.
2. A token is minted once for each credential however many requests wait for it, and no client's departure ends it.
3. A key or login that Google refuses is not sent again: one alert, and one clear error to whoever asks, until it is
   replaced. If the machine's date is off, Google refuses a good key as well: it is tried once more with Google's date.
4. It is sent to the token endpoint that the operator or this code names. What ``token_uri`` of the file says counts
   for nothing: who could write the file would choose who gets the login.

Formats: service account, RFC 7523 section 2.1 (JWT, RS256); user, RFC 6749 section 6. ``application_default_
credentials.json`` and keys as gcloud 500 and the console write them.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import aiohttp
import msgspec
from msgspec import Struct

from agent_broker.clock import Clock
from agent_broker.errors import AgentBrokerError, IntegrityError, UnavailableError
from agent_broker.ids import CredentialId
from agent_broker.inject.answer import LoginEndedError
from agent_broker.inject.oauth_clock import EARLY_NS, answered_at_ms
from agent_broker.inject.oauth_tokens import decode_answer, fingerprint
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret

SERVICE_ACCOUNT: Final = "google-service-account"
USER: Final = "google-adc"
MINTED: Final = frozenset({SERVICE_ACCOUNT, USER})
"""The kinds of credential that tokens are minted from."""
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

_ASSERTION_S: Final = 3600  # the longest that Google takes
_OFF_MS: Final = 60_000  # of the date: what is less is not why a key is refused
_PAUSE_NS: Final = 10 * 1_000_000_000  # between two attempts that Google failed
_REJECTION_PAUSE_NS: Final = 300 * 1_000_000_000  # between two tokens that are minted since one was refused in date
_NS_PER_S: Final = 1_000_000_000
_OK: Final = 200
_ENDED: Final = frozenset({400, 401})

_LOG = logging.getLogger(__name__)

Post = Callable[[str, dict[str, str]], Awaitable[tuple[int, str | None, bytes]]]
"""Posts a form; returns status, Date header and body."""


class LoginWatch(Protocol):
    """Who is told that a login has ended (inject.oauth)."""

    async def login_ended(self, credential: Credential, mark: str) -> None:
        """Raise the alert."""
        ...


class ServiceAccountKey(Struct, frozen=True):
    """Of a service account's key file."""

    client_email: str
    private_key: str
    private_key_id: str = ""

    def __repr__(self) -> str:
        return "<ServiceAccountKey>"


class UserLogin(Struct, frozen=True):
    """Of ``application_default_credentials.json``, for a user."""

    client_id: str
    client_secret: str
    refresh_token: str

    def __repr__(self) -> str:
        return "<UserLogin>"


class _State:
    """Of one credential: its present token, and what was learnt."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.source = b""
        """Fingerprint of what the token was minted from."""
        self.token = ""
        self.ends_ns = 0
        self.due_ns = 0
        self.refused = b""
        """Fingerprint of what Google refused."""
        self.told = b""
        self.not_before_ns = 0
        self.rejection_not_before_ns = 0


class GoogleMinter:
    """See the module."""

    def __init__(self, clock: Clock, post: Post, token_urls: Mapping[str, str], watch: LoginWatch | None) -> None:
        """Take what it works with; ``token_urls`` by kind."""
        self._clock = clock
        self._post = post
        self._token_urls = token_urls
        self._watch = watch
        self._states: dict[CredentialId, _State] = {}
        self._running: set[asyncio.Task[str]] = set()

    async def access_token(self, credential: Credential, secret: Secret) -> str:
        """Return an access token that is valid now; ``secret`` is what the vault just gave.

        Raises:
            UnavailableError: Google refuses the credential, or does not answer and no token is left.
            IntegrityError: what is stored is not such a credential.
        """
        state = self._states.setdefault(credential.id, _State())
        source = fingerprint(secret.reveal().decode("utf-8", "surrogateescape"))
        if state.source == source and self._clock.boot_ns() < state.due_ns:
            return state.token
        task = asyncio.ensure_future(self._renew(credential, secret, source, state))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    def rejected(self, credential: Credential, access_token: str) -> None:
        """Remember that the provider refused this access token, so that the next request gets another."""
        state = self._states.get(credential.id)
        now_ns = self._clock.boot_ns()
        if state is not None and state.token == access_token and now_ns >= state.rejection_not_before_ns:
            state.rejection_not_before_ns = now_ns + _REJECTION_PAUSE_NS
            state.due_ns = 0

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _renew(self, credential: Credential, secret: Secret, source: bytes, state: _State) -> str:
        async with state.lock:
            if state.source != source:
                state.source, state.token, state.ends_ns, state.due_ns, state.not_before_ns = source, "", 0, 0, 0
            now_ns = self._clock.boot_ns()
            if now_ns < state.due_ns:  # another request minted meanwhile
                return state.token
            if state.refused == source:
                raise await self._ended(credential, source, state)
            if now_ns < state.not_before_ns:
                return self._left(state, "Google's login server failed a moment ago")
            return await self._mint(credential, secret, source, state)

    async def _mint(self, credential: Credential, secret: Secret, source: bytes, state: _State) -> str:
        state.not_before_ns = self._clock.boot_ns() + _PAUSE_NS
        url = self._token_urls[credential.kind]
        try:
            status, date, body = await self._post(url, _grant(credential.kind, secret, self._clock.wall_ns()))
            told_ms = answered_at_ms(date, self._clock)
            if status in _ENDED and abs(told_ms - self._clock.wall_ns() // 1_000_000) > _OFF_MS:
                status, date, body = await self._post(url, _grant(credential.kind, secret, told_ms * 1_000_000))
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._left(state, f"Google's login server fails ({type(error).__name__})")
        if status in _ENDED:
            state.refused, state.token, state.ends_ns = source, "", 0
            raise await self._ended(credential, source, state)
        answer = decode_answer(body) if status == _OK else None
        if answer is None:
            return self._left(state, f"Google's login server answers {status} and gives no token")
        lifetime_ns = (answer.lifetime_s or 0) * _NS_PER_S
        now_ns = self._clock.boot_ns()
        state.token, state.ends_ns, state.not_before_ns = answer.access_token, now_ns + lifetime_ns, 0
        state.due_ns = state.ends_ns - min(EARLY_NS, lifetime_ns // 2)
        return state.token

    def _left(self, state: _State, problem: str) -> str:
        if state.token and self._clock.boot_ns() < state.ends_ns:
            return state.token
        raise UnavailableError(f"no access token is left and {problem}", next_step="try again in a minute")

    async def _ended(self, credential: Credential, source: bytes, state: _State) -> LoginEndedError:
        if self._watch is not None and state.told != source:
            try:
                await self._watch.login_ended(credential, source.hex())
                state.told = source
            except AgentBrokerError as error:
                _LOG.warning("the end of the login %s could not be told: %s", credential.id, error.message)
        what = "this service account's key" if credential.kind == SERVICE_ACCOUNT else "this login"
        return LoginEndedError(
            f"Google takes {what} no more",
            next_step=f"sudo agent-broker unenroll {credential.agent}, put the new one into its file, enroll again",
        )


def checked_source(kind: str, secret: Secret) -> ServiceAccountKey | UserLogin:
    """Return what is stored, decoded.

    Raises:
        IntegrityError: it is not a credential of its kind.
    """
    try:
        with secret.borrow() as stored:
            if kind == USER:
                return msgspec.json.decode(stored, type=UserLogin)
            return msgspec.json.decode(stored, type=ServiceAccountKey)
    except msgspec.DecodeError as error:
        raise _unreadable() from error


def _grant(kind: str, secret: Secret, wall_ns: int) -> dict[str, str]:
    """Return the parameters of one token request, made at this time."""
    source = checked_source(kind, secret)
    if isinstance(source, UserLogin):
        login = {"client_id": source.client_id, "client_secret": source.client_secret}
        return {"grant_type": "refresh_token", "refresh_token": source.refresh_token, **login}
    assertion = _assertion(source, wall_ns // _NS_PER_S)
    return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}


def _assertion(key: ServiceAccountKey, now_s: int) -> str:
    """Return the JWT that a service account shows to get a token (RFC 7523); its audience is Google's, always."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - megabytes that only this needs
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        private_key = load_pem_private_key(key.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable() from error
    if not isinstance(private_key, RSAPrivateKey):
        raise _unreadable()
    header = {"alg": "RS256", "typ": "JWT", "kid": key.private_key_id}
    claims = {"iss": key.client_email, "scope": SCOPE, "aud": TOKEN_URL, "iat": now_s, "exp": now_s + _ASSERTION_S}
    signed = b".".join(_base64url(msgspec.json.encode(each)) for each in (header, claims))
    signature = private_key.sign(signed, PKCS1v15(), SHA256())
    return b".".join((signed, _base64url(signature))).decode("ascii")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unreadable() -> IntegrityError:
    return IntegrityError(
        "the stored credential of Google's can't be read",
        next_step="store it again: sudo agent-broker unenroll AGENT, then enroll AGENT",
    )
