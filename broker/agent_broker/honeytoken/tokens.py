"""Random values with the form of real ones, checksums included: what a scanner, or a thief, takes for genuine.

Every value is drawn anew, from 100 random bits or more: it is unique to its place and to this installation, and
whoever presents it can only have read it there.
"""

import secrets
import string
import zlib

from agent_broker.honeytoken.likeness import fresh_token

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BASE64URL = BASE62 + "-_"
_AWS_ID = string.ascii_uppercase + "234567"
_CHECKSUM_CHARS = 6
_CHECKED_BODY_CHARS = 30
_WORDS = ("deploy", "backup", "billing", "staging", "legacy", "release", "ops", "infra")


def random_text(alphabet: str, length: int) -> str:
    """Return that many random characters of an alphabet."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


def base62_checksum(body: str) -> str:
    """Return the CRC32 of a text as six base62 digits: how GitHub and npm end their tokens.

    The source is GitHub's "Behind GitHub's new authentication token formats" (2021); npm took the same form over.
    """
    number = zlib.crc32(body.encode())
    digits = ""
    while number:
        number, digit = divmod(number, len(BASE62))
        digits = BASE62[digit] + digits
    return digits.rjust(_CHECKSUM_CHARS, "0")


def checked_token(prefix: str) -> str:
    """Return a prefix, 30 random characters and their checksum: 36 characters behind the prefix."""
    body = random_text(BASE62, _CHECKED_BODY_CHARS)
    return f"{prefix}{body}{base62_checksum(body)}"


def github_token() -> str:
    """Return a classic personal access token."""
    return checked_token("ghp_")


def npm_token() -> str:
    """Return a granular npm token."""
    return checked_token("npm_")


def anthropic_api_key() -> str:
    """Return an API key of Anthropic's."""
    return fresh_token("sk-ant-api03-")


def openai_api_key() -> str:
    """Return a project key of OpenAI's: both halves around the marker that all of them have."""
    return f"sk-proj-{random_text(_BASE64URL, 74)}T3BlbkFJ{random_text(_BASE64URL, 74)}"


def google_access_token() -> str:
    """Return an OAuth access token of Google's."""
    return f"ya29.a0{random_text(_BASE64URL, 200)}"


def google_refresh_token() -> str:
    """Return an OAuth refresh token of Google's."""
    return f"1//0{random_text(string.digits, 1)}{random_text(_BASE64URL, 96)}"


def google_client() -> tuple[str, str]:
    """Return the id and the secret of an OAuth client."""
    number = random_text("123456789", 1) + random_text(string.digits, 11)
    name = random_text(string.ascii_lowercase + string.digits, 32)
    return f"{number}-{name}.apps.googleusercontent.com", f"GOCSPX-{random_text(_BASE64URL, 28)}"


def aws_key() -> tuple[str, str]:
    """Return the id and the secret of a long-lived access key."""
    return f"AKIA{random_text(_AWS_ID, 16)}", random_text(BASE62 + "+/", 40)


def password() -> str:
    """Return a generated password that needs no quoting anywhere."""
    return random_text(BASE62, 24)


def place_name() -> str:
    """Return a name that no entry of the user's has: a word and 24 random bits."""
    return f"{secrets.choice(_WORDS)}-{secrets.token_hex(3)}"


def host_name(service: str) -> str:
    """Return a host that no name server knows: ``.internal`` is kept for private use (ICANN, 2024)."""
    return f"{service}.{place_name()}.internal"
