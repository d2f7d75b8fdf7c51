"""The OAuth tokens of one login, as the vault stores them. Pure.

The JSON is what Claude Code keeps under ``claudeAiOauth``: ``accessToken``, ``refreshToken``, ``expiresAt`` (Unix
time in milliseconds), ``scopes`` and more. Fields that are not ours are kept as they are.
"""

import hashlib
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.errors import IntegrityError
from agent_broker.vault.secret import Secret

LOG_IN_AGAIN: Final = "log in again with the agent, then: sudo agent-broker enroll claude"

_MS_PER_S: Final = 1000


class Refreshed(Struct):
    """What a token endpoint answers (RFC 6749 section 5.1); other fields are ignored."""

    access_token: str
    expires_in: int
    """Seconds."""
    refresh_token: str = ""
    """Empty: the old one stays valid."""

    def __repr__(self) -> str:
        return "<Refreshed>"


class Tokens:
    """Decoded tokens; shows none of them.

    Attributes:
        access: the access token.
        refresh: the refresh token; empty: this login can't be refreshed.
        expires_ms: end of the access token, Unix time; None: it has no known end.
    """

    __slots__ = ("_fields", "access", "expires_ms", "refresh")

    def __init__(self, secret: Secret) -> None:
        """Decode.

        Raises:
            IntegrityError: not such JSON.
        """
        try:
            with secret.borrow() as stored:
                self._fields = msgspec.json.decode(stored, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise _unreadable() from error
        self.access = self._text("accessToken")
        self.refresh = self._text("refreshToken")
        expires = self._fields.get("expiresAt")
        if not self.access or not isinstance(expires, int | float | None):
            raise _unreadable()
        self.expires_ms = int(expires) if expires else None

    def replaced(self, answer: Refreshed, now_ms: int) -> Secret:
        """Return what to store after a refresh."""
        fields = {
            **self._fields,
            "accessToken": answer.access_token,
            "refreshToken": answer.refresh_token or self.refresh,
            "expiresAt": now_ms + answer.expires_in * _MS_PER_S,
        }
        return Secret(msgspec.json.encode(fields))

    def left_ms(self, now_ms: int) -> int | None:
        """Return how long the access token is still valid; not positive: it is not; None: no known end."""
        return None if self.expires_ms is None else self.expires_ms - now_ms

    def _text(self, name: str) -> str:
        value = self._fields.get(name) or ""
        if not isinstance(value, str):
            raise _unreadable()
        return value


def decode_answer(body: bytes) -> Refreshed | None:
    """Return a token endpoint's answer; None if it gives no tokens."""
    try:
        answer = msgspec.json.decode(body, type=Refreshed)
    except msgspec.DecodeError:
        return None
    return answer if answer.access_token and answer.expires_in > 0 else None


def fingerprint(token: str) -> bytes:
    """Return what a token can be recognised by without keeping it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _unreadable() -> IntegrityError:
    return IntegrityError("the stored OAuth tokens can't be read", next_step=LOG_IN_AGAIN)
