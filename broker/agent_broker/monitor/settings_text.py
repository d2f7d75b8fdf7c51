"""What of a settings file may be shown: never a secret, and nothing that a terminal would obey.

A file of a hostile user is data: names and values are escaped and cut. What is redacted, ``<redacted, N characters>``:
every value below a name that says that it is secret (``env``, ``headers``, ``auth``, ``token``, ``apiKey`` ...), an
argument behind an option of such a name, and inside other texts whatever looks like a key. Of an address that decides
where an agent sends its requests, host and port are shown, wherever it stands.
"""

import json
import re
from urllib.parse import urlsplit

_SHOWN_CHARS = 160
_SHOWN_NAME_CHARS = 60
_LOOKED_AT_NAME_CHARS = 128

_SECRET_NAME = re.compile(
    r"^(env|headers?|http_headers|env_http_headers|auth|oauth.*|query_params|cookies?)$"
    r"|token|secret|passw|passphrase|credential|private.?key|bearer|authorization|session.?key"
    r"|api.?key(?!helper|helperttl)|access.?key",
    re.IGNORECASE,
)
_ADDRESS_NAME = re.compile(r"(base.?url|api.?base|endpoint|proxy|_url|^url)$", re.IGNORECASE)
_SECRET_OPTION = re.compile(r"^--?[\w-]*(token|secret|passw|key|auth|header|credential)[\w-]*$|^-[HuU]$", re.IGNORECASE)
_SHAPES = re.compile(
    r"(?P<known>\b(?:sk|pk|rk|gsk|xai|hf|glpat|npm|dop_v1|shpat)[-_][A-Za-z0-9_-]{8,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bxox[abeprs]-[\w-]{8,}|\bA[KS]IA[A-Z0-9]{12,}"
    r"|\bAIza[\w-]{20,}|\bya29\.[\w.-]{8,}|\beyJ[\w-]{6,}\.[\w.-]{6,}|\bage-secret-key-\w+)"
    r"|(?P<named>(?<=://)[^/\s@]{1,300}(?=@)"
    r"|(?<=earer )\S{4,}|(?<=asic )\S{4,}"
    r"|(?i:(?<=token=)|(?<=secret=)|(?<=password=)|(?<=passwd=)|(?<=key=)|(?<=token: )|(?<=key: )|(?<=password: ))"
    r"[^\s&\"']{3,})"
    r"|(?P<long>[A-Za-z0-9+_=-]{32,}+)"
)

SECRET_LINE = re.compile(r"token|secret|passw|credential|key|auth|bearer|cookie", re.IGNORECASE)
"""A line that no parser understood is redacted as a whole if it holds one of these."""


def redacted(length: int) -> str:
    """Return what stands in a secret's place."""
    return f"<redacted, {length} characters>"


def is_secret_name(name: str) -> bool:
    """Whether what stands below this name is not shown."""
    return _SECRET_NAME.search(name[:_LOOKED_AT_NAME_CHARS]) is not None


def is_secret_option(text: str) -> bool:
    """Whether the argument behind this one is not shown."""
    return _SECRET_OPTION.search(text[:_LOOKED_AT_NAME_CHARS]) is not None


def shown_name(name: str) -> str:
    """Return one key of a file as something that can be shown."""
    return _escaped(_without_keys(name[:_LOOKED_AT_NAME_CHARS]), _SHOWN_NAME_CHARS)


def shown_value(value: object, names: tuple[str, ...], *, secret: bool) -> str:
    """Return a value as something that can be shown.

    Args:
        value: of a leaf: text, number, truth, or an empty list or object.
        names: the keys that lead to it.
        secret: it stands where secrets stand.
    """
    if value is None or isinstance(value, bool | list | dict):
        return json.dumps(value) if not value or value is True else redacted(len(str(value)))
    text = str(value)
    if isinstance(value, str) and names and _ADDRESS_NAME.search(names[-1]):
        return _address(text)
    if secret:
        return redacted(len(text))
    return f'"{shown_text(text)}"' if isinstance(value, str) else _escaped(text, _SHOWN_CHARS)


def shown_text(text: str) -> str:
    """Return free text without what looks like a key, escaped and cut."""
    return _escaped(_without_keys(text), _SHOWN_CHARS)


def _without_keys(text: str) -> str:
    # cut first: what is looked for is bounded by it, and so is the time
    return _SHAPES.sub(_redact, text[: 4 * _SHOWN_CHARS])


def _redact(found: re.Match[str]) -> str:
    text = found[0]
    is_name = found["long"] is not None and (text.isalpha() or not any(map(str.isalpha, text)))
    return text if is_name else redacted(len(text))


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return redacted(len(text))
    if parts.scheme not in {"http", "https", "ws", "wss", "unix", "socks5"} or not host:
        return redacted(len(text))
    return f'"{_escaped(f"{parts.scheme}://{host}" + (f":{port}" if port else ""), _SHOWN_CHARS)}"'


def _escaped(text: str, most: int) -> str:
    cut = text if len(text) <= most else text[:most] + "..."
    ascii_only = cut.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in ascii_only)
