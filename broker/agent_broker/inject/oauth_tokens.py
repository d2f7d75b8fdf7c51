"""The OAuth tokens of one login, as the vault stores them. Pure.

They are the JSON object of the agent's own file (``oauth_servers``). Fields that are not ours are kept as they are.
"""

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.errors import IntegrityError
from agent_broker.inject.oauth_servers import LOGIN_SERVERS, Fields, LoginServer
from agent_broker.vault.secret import Secret

_MS_PER_S: Final = 1000
_MAX_LIFETIME_S: Final = 10 * 366 * 86_400  # what is longer is as good as no end, and would not fit a date


class Answer(Struct):
    """What a token endpoint answers (RFC 6749 section 5.1); other fields are ignored."""

    access_token: str
    expires_in: int | float | None = None
    """Seconds."""
    refresh_token: str | None = None
    """None or empty: the old one stays valid."""
    id_token: str | None = None

    def __repr__(self) -> str:
        return "<Answer>"

    @property
    def lifetime_s(self) -> int | None:
        """How long the access token lives from the answer on; None: nothing says so."""
        if self.expires_in is not None:
            return min(int(self.expires_in), _MAX_LIFETIME_S)
        begun, ends = claimed_times_s(self.access_token)
        return None if begun is None or ends is None else min(ends - begun, _MAX_LIFETIME_S)


class Tokens:
    """Decoded tokens; shows none of them.

    Attributes:
        access: the access token.
        refresh: the refresh token; empty: this login can't be refreshed.
        expires_ms: end of the access token, Unix time; None: it has no known end.
        account: which of the provider's accounts they are for; empty: they don't say.
    """

    __slots__ = ("_fields", "_names", "access", "account", "expires_ms", "refresh")

    def __init__(self, secret: Secret, server: LoginServer) -> None:
        """Decode.

        Raises:
            IntegrityError: not such JSON.
        """
        try:
            with secret.borrow() as stored:
                self._fields = msgspec.json.decode(stored, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise unreadable() from error
        self._names: Fields = server.fields
        self.access = self._text(self._names.access)
        self.refresh = self._text(self._names.refresh)
        self.account = self._text("account_id")
        if not self.access:
            raise unreadable()
        self.expires_ms = self._expires_ms()

    def replaced(self, answer: Answer, now_ms: int) -> Secret:
        """Return what to store after a refresh that was answered at ``now_ms``, Unix time."""
        fields = {
            **self._fields,
            self._names.access: answer.access_token,
            self._names.refresh: answer.refresh_token or self.refresh,
        }
        if self._names.identity and answer.id_token:
            fields[self._names.identity] = answer.id_token
        if self._names.expires_ms:
            lifetime_s = answer.lifetime_s
            fields[self._names.expires_ms] = None if lifetime_s is None else now_ms + lifetime_s * _MS_PER_S
        return Secret(msgspec.json.encode(fields))

    def _expires_ms(self) -> int | None:
        if not self._names.expires_ms:
            ends_s = claimed_times_s(self.access)[1]
            return None if ends_s is None else ends_s * _MS_PER_S
        expires = self._fields.get(self._names.expires_ms)
        if not isinstance(expires, int | float | None):
            raise unreadable()
        return int(expires) if expires else None

    def _text(self, name: str) -> str:
        value = self._fields.get(name) or ""
        if not isinstance(value, str):
            raise unreadable()
        return value


class _Claims(Struct):
    """Of an access token that is a JWT (RFC 7519 section 4.1): Unix times in seconds."""

    iat: int | float | None = None
    exp: int | float | None = None


def claimed_times_s(token: str) -> tuple[int | None, int | None]:
    """Return when a JWT was issued and when it ends, Unix time; None for what it does not say, or is no JWT.

    Its signature is not looked at: nothing is trusted for it, the provider decides about its own token.
    """
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        return None, None
    try:
        text = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        claims = msgspec.json.decode(text, type=_Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None, None
    return _whole(claims.iat), _whole(claims.exp)


def checked_tokens(kind: str, secret: Secret) -> Tokens:
    """Return the tokens of a new login, which can be used and refreshed.

    Raises:
        IntegrityError: it is not the JSON that the agent's file holds, or has no refresh token.
    """
    tokens = Tokens(secret, LOGIN_SERVERS[kind])
    if not tokens.refresh:
        raise IntegrityError("the login has no refresh token: it would end within hours")
    return tokens


def decode_answer(body: bytes) -> Answer | None:
    """Return a token endpoint's answer; None if it gives no tokens."""
    try:
        answer = msgspec.json.decode(body, type=Answer)
        lifetime_s = answer.lifetime_s
    except (msgspec.DecodeError, OverflowError):
        return None
    return answer if answer.access_token and (lifetime_s is None or lifetime_s > 0) else None


def fingerprint(token: str) -> bytes:
    """Return what a token can be recognised by without keeping it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def unreadable() -> IntegrityError:
    """Return the error of tokens that are not what their kind says."""
    return IntegrityError(
        "the stored OAuth tokens can't be read", next_step="log in again: sudo agent-broker login AGENT"
    )


def _whole(number: float | None) -> int | None:
    return None if number is None else int(min(max(number, 0), 1 << 40))  # 36,000 years
