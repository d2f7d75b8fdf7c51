"""From what somebody sends to what might be a decoy's value in it, and the digests by which values are known. Pure.

The law: only digests are kept, and a look-up is by digest, so its duration tells nothing of a decoy's value. The
work for one text is bounded: what is longer than MAX_TEXT_CHARS is cut, and at most MAX_PIECES of it are looked at.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator

from agent_broker.ids import Sha256

MIN_VALUE_CHARS = 16
"""Shorter texts are never a decoy's: they would be met by chance."""
MAX_TEXT_CHARS = 16 * 1024
MAX_PIECES = 64

_SEPARATORS = (re.compile(r"[\s,;\"'&]+"), re.compile(r"[\s,;\"'&=:/@]+"))
"""The second one takes keys out of URLs and of AWS's ``Credential=AKIA.../...``; a value may hold such characters
itself, so the coarser pieces are looked at as well."""
_BASIC = re.compile(r"basic\s+([A-Za-z0-9+/=_-]+)\s*", re.IGNORECASE)


def digest_of(value: str) -> Sha256:
    """Return the digest by which a value is known."""
    return Sha256(hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest())


def digests_of(values: Iterable[str]) -> tuple[Sha256, ...]:
    """Return the digests of the values that are long enough to be known by."""
    return tuple(digest_of(value) for value in values if len(value) >= MIN_VALUE_CHARS)


def pieces_of(text: str) -> tuple[str, ...]:
    """Return what in a header or an argument may be a value: the whole, its parts, and those of a Basic login."""
    text = text[:MAX_TEXT_CHARS]
    found = dict.fromkeys(_pieces(text))
    return tuple(piece for piece, _ in zip(found, range(MAX_PIECES), strict=False))


def _pieces(text: str) -> Iterator[str]:
    whole = text.strip()
    if len(whole) < MIN_VALUE_CHARS:
        return
    yield whole
    basic = _BASIC.fullmatch(whole)
    if basic is not None:
        yield from _login(basic[1])
    for separator in _SEPARATORS:
        yield from (piece for piece in separator.split(whole) if len(piece) >= MIN_VALUE_CHARS)


def _login(encoded: str) -> Iterator[str]:
    try:
        plain = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return
    user, _, password = plain.partition(":")
    yield from (each for each in (password, user) if len(each) >= MIN_VALUE_CHARS)
