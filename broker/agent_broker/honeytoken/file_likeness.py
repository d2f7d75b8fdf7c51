"""A whole file that looks like another one, and holds none of its secrets. Pure.

The law: every value that a known token's form, or the name before it, gives away as a secret is replaced by one of the
same shape, and so is every long word that mixes letters and digits, whatever it is. Of a netrc it is each password,
however short, and wherever its line breaks. Everything else stays, so that the file parses as it did. The same value
becomes the same decoy wherever it stands.
"""

import re

from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import login_token_like
from agent_broker.honeytoken.netrc import netrc_secrets

_NAMED = re.compile(
    r"(?i)(?:secret|token|passw\w*|passphrase|credential|api_?key|access_?key|auth|private_?key|login-data)"
    r"[\w.-]*[\"']?(?:\s*[=:]\s*|[ \t]+)[\"']?(?:(?:bearer|basic)\s+)?(?P<value>[^\s\"'<>${}\[\],;]{6,})"
)
_URL = re.compile(r"://[^/\s:@]{1,200}:(?P<value>[^/\s@]{3,300})@")
_LONG = re.compile(r"(?<![\w/.+~-])(?P<value>[A-Za-z0-9_.+/~-]{20,}={0,2})")
_PLACE = re.compile(r"[/.~]|.*://")
_MOST = 10_000


def decoy_of_file(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a decoy of a file, and the values in it that a thief would present somewhere.

    Raises:
        MisuseError: nothing in it looks like a secret, so nobody could tell the decoy from it.
    """
    text = data.decode("utf-8", "surrogateescape")
    spans = _spans(text)
    if not spans:
        raise MisuseError("nothing in the file looks like a secret", next_step="leave it where it is")
    made: dict[str, str] = {}
    out, last = [], 0
    for start, end in spans:
        value = text[start:end]
        made.setdefault(value, login_token_like(value))
        out += [text[last:start], made[value]]
        last = end
    out.append(text[last:])
    decoys = tuple(decoy for value, decoy in made.items() if decoy != value)
    if not decoys:
        raise MisuseError("no value in the file can be replaced by another one", next_step="leave it where it is")
    return "".join(out).encode("utf-8", "surrogateescape"), decoys


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where the secrets are, in order, none inside another."""
    known = [(each.start, each.end) for each in netrc_secrets(text)]
    named = [match.span("value") for pattern in (_NAMED, _URL) for match in pattern.finditer(text)]
    free = [each for each in sorted(named) if not any(each[0] < end and start < each[1] for start, end in known)]
    spans = sorted((*known, *_apart(free)))
    long = [match.span("value") for match in _LONG.finditer(text) if _is_random(match["value"])]
    rest = [each for each in long if not any(each[0] < end and start < each[1] for start, end in spans)]
    return sorted((*spans, *_apart(rest)))[:_MOST]


def _apart(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for start, end in found:
        if not spans or start >= spans[-1][1]:
            spans.append((start, end))
    return spans


def _is_random(word: str) -> bool:
    return bool(re.search(r"[0-9]", word) and re.search(r"[A-Za-z]", word)) and not _PLACE.match(word)
