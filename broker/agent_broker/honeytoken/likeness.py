"""Values that look like a secret and are none: fresh random of the same shape, unique to each installation."""

import base64
import binascii
import json
import re
import secrets
import string

_BODY = string.ascii_letters + string.digits
_PREFIX = re.compile(
    r"sk-ant-[a-z]+[0-9]{2}-|sk-(?:proj|svcacct|admin)-|sk-|rt_|gh[pousr]_|github_pat_|glpat-|npm_|AIza|ya29\.|1//|GOCSPX-"
)
"""Of Anthropic's, OpenAI's, GitHub's, GitLab's, npm's and Google's tokens."""
_TAIL = "AA"  # tokens of 32-byte multiples in base64url without padding end in it
_OAUTH_LENGTH = 108  # characters of an access or refresh token as seen in the wild
_JWT_PARTS = 3
FAR_FUTURE_MS = 4102444800000
"""2100-01-01T00:00:00Z: an agent that holds this decoy never tries to refresh it."""


def decoy_like(value: str) -> str:
    """Return a random value with the prefix, the length and the alphabet of ``value``, and different from it.

    A value too short to differ (empty) is returned as it is.
    """
    found = _PREFIX.match(value)
    prefix = found[0] if found else ""
    tail = _TAIL if prefix.startswith("sk-ant-") and value.endswith(_TAIL) else ""
    body = value[len(prefix) : len(value) - len(tail)]
    alphabet = _alphabet(body)
    if not body or len(alphabet) < 2:  # noqa: PLR2004 - one character has no other value
        return value
    while True:
        decoy = prefix + "".join(secrets.choice(alphabet) for _ in body) + tail
        if decoy != value:
            return decoy


def login_token_like(value: str) -> str:
    """Return a decoy of an OAuth token: of a JWT one that says the same and never ends, else one like ``decoy_like``.

    Programs read a JWT's claims and can't check its signature, which here is random: no server accepts it.
    """
    parts = value.split(".")
    claims = _claims(parts[1]) if len(parts) == _JWT_PARTS else None
    if claims is None:
        return decoy_like(value)
    if "exp" in claims:
        claims["exp"] = FAR_FUTURE_MS // 1000
    signature = secrets.token_urlsafe(max(len(parts[2]), 32))[: max(len(parts[2]), 32)]
    return f"{parts[0]}.{_base64url(json.dumps(claims, separators=(',', ':')).encode())}.{signature}"


def fresh_token(prefix: str) -> str:
    """Return a decoy for a token that was not there: ``sk-ant-oat01-`` and the like, of the usual length."""
    length = _OAUTH_LENGTH - len(prefix) - len(_TAIL)
    return prefix + "".join(secrets.choice(_BODY + "-_") for _ in range(length)) + _TAIL


def _claims(part: str) -> dict[str, object] | None:
    try:
        claims = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _alphabet(body: str) -> str:
    """Return all characters of the classes that occur, and each other character that occurs."""
    classes = [string.ascii_lowercase, string.ascii_uppercase, string.digits]
    used = [letters for letters in classes if any(char in letters for char in body)]
    others = sorted({char for char in body if not any(char in letters for letters in classes)})
    return "".join(used) + "".join(others)
