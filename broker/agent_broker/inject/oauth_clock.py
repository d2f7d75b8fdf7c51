"""How long an access token is still good, whatever the machine's date does. Pure but for the clock.

The law of this module:
1. A token that was given to this process ends its lifetime after the answer by the boot clock, which nobody sets and
   which counts suspended time: the date plays no part. So a date that jumps by hours neither keeps an old token nor
   makes a new one look old, and a token that lives for a minute is not refreshed with each request.
2. A token that was stored before ends when its stored date comes, or when the time that was left at first sight has
   passed by the boot clock, whichever is earlier: a date that is set back does not lengthen it.
3. What both get wrong (the date was wrong when the process started) the provider tells with a 401, which makes the
   next request refresh (``TokenKeeper.rejected``).
"""

from email.utils import parsedate_to_datetime
from typing import Final

from agent_broker.clock import Clock
from agent_broker.inject.oauth_tokens import Tokens, fingerprint

EARLY_NS: Final = 5 * 60 * 1_000_000_000
"""Refresh this long before the access token ends, or at half its lifetime if that is later."""

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


class TokenEnd:
    """Remembers of one credential which access token it last saw, as a fingerprint, and when that ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._token = b""
        self._ends_ns: int | None = None
        """By the boot clock; None: no known end."""
        self._early_ns = EARLY_NS
        self._is_first_hand = False

    def given(self, access_token: str, lifetime_s: int | None) -> None:
        """Remember a token that the provider just gave."""
        self._token = fingerprint(access_token)
        self._is_first_hand = lifetime_s is not None
        self._ends_ns = None
        self._early_ns = EARLY_NS
        if lifetime_s is not None:
            self._ends_ns = self._clock.boot_ns() + lifetime_s * _NS_PER_S
            self._early_ns = min(EARLY_NS, lifetime_s * _NS_PER_S // 2)

    def is_due(self, tokens: Tokens) -> bool:
        """Whether the token should be refreshed now."""
        left_ns = self.left_ns(tokens)
        return left_ns is not None and left_ns < self._early_ns

    def left_ns(self, tokens: Tokens) -> int | None:
        """Return how long the access token is still valid; not positive: it is not; None: no known end."""
        if self._token != fingerprint(tokens.access):
            self._see(tokens)
        if self._ends_ns is None:
            return None
        left_ns = self._ends_ns - self._clock.boot_ns()
        if self._is_first_hand or tokens.expires_ms is None:
            return left_ns
        return min(left_ns, tokens.expires_ms * _NS_PER_MS - self._clock.wall_ns())

    def _see(self, tokens: Tokens) -> None:
        self._token = fingerprint(tokens.access)
        self._is_first_hand = False
        self._early_ns = EARLY_NS
        self._ends_ns = None
        if tokens.expires_ms is not None:
            left_ns = tokens.expires_ms * _NS_PER_MS - self._clock.wall_ns()
            self._ends_ns = self._clock.boot_ns() + left_ns


def answered_at_ms(date: str | None, clock: Clock) -> int:
    """Return when an answer was given, Unix time: by its Date header (RFC 9110, 6.6.1), or else by our own clock.

    What is stored is read again by later processes, so it is told in the time of who judges the token.
    """
    try:
        told = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return clock.wall_ns() // _NS_PER_MS
    return int(told * 1000)
