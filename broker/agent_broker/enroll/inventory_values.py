"""What looks like a credential, and of which kind. Pure; returns kinds, never values.

A value counts if it has the public form of a well-known secret, or if the variable or member that holds it is known
to hold one, or is called like one and the value is no path, number, address, reference or placeholder.
"""

import base64
import binascii
import re
from typing import Final

from agent_broker.enroll.inventory_protocol import State
from agent_broker.lineage.text import plain, plain_without_secrets
from agent_broker.monitor.settings_text import is_secret_name

PHANTOM: Final = "phantom"
_MIN_SECRET_CHARS = 8
_LOOKED_AT_CHARS = 16 * 1024

VARIABLES: Final[dict[str, tuple[str, str]]] = {
    "ANTHROPIC_API_KEY": ("anthropic-api-key", "claude"),
    "ANTHROPIC_AUTH_TOKEN": ("anthropic-auth-token", "claude"),
    "CLAUDE_CODE_OAUTH_TOKEN": ("anthropic-oauth", "claude"),
    "AWS_BEARER_TOKEN_BEDROCK": ("aws-bearer-token", "claude"),
    "OPENAI_API_KEY": ("openai-api-key", "codex"),
    "CODEX_API_KEY": ("openai-api-key", "codex"),
    "CODEX_ACCESS_TOKEN": ("openai-oauth", "codex"),
    "GEMINI_API_KEY": ("gemini-api-key", "gemini"),
    "GOOGLE_API_KEY": ("gemini-api-key", "gemini"),
    "GOOGLE_CLOUD_ACCESS_TOKEN": ("google-oauth", "gemini"),
    "COPILOT_GITHUB_TOKEN": ("github-token", "copilot"),
    "CURSOR_API_KEY": ("cursor-api-key", "cursor"),
    "GITHUB_TOKEN": ("github-token", ""),
    "GH_TOKEN": ("github-token", ""),
    "AWS_SECRET_ACCESS_KEY": ("aws-key", ""),
    "AWS_SESSION_TOKEN": ("aws-session", ""),
    "NPM_TOKEN": ("npm-token", ""),
    "HF_TOKEN": ("huggingface-token", ""),
    "VAULT_TOKEN": ("vault-token", ""),
}
"""Name: kind, and the agent whose own it is."""

_SHAPES: Final = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("anthropic-oauth", r"\bsk-ant-o[ar]t\d\d-[\w-]{12,}"),
        ("anthropic-api-key", r"\bsk-ant-[\w-]{12,}"),
        ("openai-api-key", r"\bsk-(?:proj|svcacct|None|admin)-[\w-]{12,}"),
        ("llm-key", r"\b(?:sk-or-v1-|xai-|gsk_|pplx-)[\w-]{16,}"),
        ("google-api-key", r"\bAIza[\w-]{20,}"),
        ("google-oauth", r"\bya29\.[\w.-]{12,}"),
        ("github-token", r"\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}"),
        ("gitlab-token", r"\bglpat-[\w-]{12,}"),
        ("npm-token", r"\bnpm_[A-Za-z0-9]{16,}"),
        ("slack-token", r"\bxox[abeprs]-[\w-]{10,}"),
        ("aws-key", r"\bA[KS]IA[A-Z0-9]{12,}"),
        ("huggingface-token", r"\bhf_[A-Za-z0-9]{16,}"),
        ("cloud-token", r"\bdop_v1_[a-f0-9]{16,}"),
        ("age-key", r"\bAGE-SECRET-KEY-1[A-Z0-9]{10,}"),
        ("private-key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
        ("password", r"://[^/\s:@]{1,200}:[^/\s@$]{3,300}@"),
    )
)
_PREFIX_ONLY = re.compile(r"sk-")
_FILL_IN: Final = "your|my|change|replace|example|placeholder|dummy|todo|insert"
_NO_SECRET = re.compile(
    r"[/~.].*|\$.*|[\d.,:_-]+|(?i:true|false|yes|no|on|off|null|none|auto|file|keyring|keychain)"
    r"|(?i:https?|wss?|unix|file)://.*|<.*>|\{\{.*\}\}|[*x.]+"
    rf"|(?i:{_FILL_IN})(?:[-_ .][A-Za-z]+)*[-_ ]?\d{{0,4}}"  # change-me-1, Your API key
    rf"|(?:{_FILL_IN})[a-z]*(?:[-_ .][a-z]+)*\d{{0,4}}"  # yourkey_here
    rf"|(?:{_FILL_IN.upper()})[A-Z]*(?:[-_ .][A-Z]+)*\d{{0,4}}"  # MYTOKEN
    rf"|(?:{_FILL_IN.title()})(?:[A-Z][a-z]+)*",  # YourApiKey
    re.DOTALL,
)
"""Whole values. A password that was drawn at random may begin with such a word too: the rest must be words as well."""
_AWS_SECRET = re.compile(r"(?=.*\d)(?=.*[A-Z])(?=.*[a-z])[A-Za-z0-9/+]{40}")
"""One of 64 begins like a path."""
_FIRST_AGENT = {"anthropic": "claude", "openai": "codex", "gemini": "gemini"}


def kind_of_value(name: str, value: str, phantom_prefix: str, variables: frozenset[str] = frozenset()) -> str:
    """Return the kind of credential that a variable or member holds; PHANTOM; empty: it holds none.

    ``variables``: names that hold one, besides those that are known, or look like it.
    """
    value = value[:_LOOKED_AT_CHARS].strip()
    if phantom_prefix and phantom_prefix in value:
        return PHANTOM
    shape = shape_of(value)
    if name in VARIABLES and _may_be_secret(value):
        return VARIABLES[name][0] if shape in {"", "password"} else shape
    if shape:
        return shape
    if (name in variables or is_secret_name(name)) and _may_be_secret(value):
        return "password" if re.search("passw", name, re.IGNORECASE) else "secret"
    return ""


def shape_of(text: str) -> str:
    """Return the kind of the first well-known secret in a text; empty: none is in it."""
    for kind, pattern in _SHAPES:
        if pattern.search(text):
            return kind
    raw = text.encode("utf-8", "surrogateescape")
    return "secret" if _PREFIX_ONLY.search(text) and plain_without_secrets(raw) != plain(raw) else ""


def agents_of(name: str, kind: str) -> tuple[str, ...]:
    """Return the agent whose credential it is, by its variable, or else by its kind; none if it is nobody's own."""
    agent = VARIABLES[name][1] if name in VARIABLES else _FIRST_AGENT.get(kind.partition("-")[0], "")
    return (agent,) if agent else ()


_NAMED = re.compile(
    r"(?i)(?:secret|token|passw\w*|passphrase|credential|api_?key|access_?key|\bauth\w*|_auth\w*|private_key)"
    r"[\w.-]*[\"']?\s*(?:[=:>]|\s)\s*[\"']?(?P<value>[^\s\"'<>${}\[\]]{8,})"
)
_COLONS = re.compile(r"^[^#\s:][^\s:]*(?::[^:\s]*){3}:\S+$", re.MULTILINE)  # .pgpass: host:port:database:user:password
_ONE_WORD = re.compile(r"\s*[^\s=:/<>]{16,}\s*")
_ENCRYPTED_MAGIC = (
    b"\x03\xd9\xa2\x9a",  # KeePass
    b"age-encryption.org/v1",
    b"-----BEGIN AGE ENCRYPTED FILE",
    b"-----BEGIN PGP MESSAGE",
    b"Salted__",  # openssl enc
    b"$ANSIBLE_VAULT;",
)
_PGP_FIRST = frozenset(b"\x84\x85\x8c\xc1\xc3")  # RFC 9580: (public-key or symmetric) encrypted session key packets


def state_of_content(data: bytes, name: str, phantom_prefix: str) -> State:
    """Return the state (inventory_protocol.State) of a file that lies where credentials lie."""
    if data.startswith(_ENCRYPTED_MAGIC) or (name.endswith(".gpg") and data[:1] and data[0] in _PGP_FIRST):
        return "encrypted"
    text = data.decode("utf-8", "surrogateescape")
    if "PRIVATE KEY-----" in text or "(private-key" in text or "(protected-private-key" in text:
        return "encrypted" if _is_encrypted_key(text) else "plain"
    if phantom_prefix and phantom_prefix in text:
        return "phantom"
    if b"\0" in data:
        return "plain"  # a database or the like: by its place
    if shape_of(text) or _COLONS.search(text) or _ONE_WORD.fullmatch(text):
        return "plain"
    named = (found["value"] for found in _NAMED.finditer(text))
    return "plain" if any(_may_be_secret(value) for value in named) else "unrecognised"


def _may_be_secret(value: str) -> bool:
    return len(value) >= _MIN_SECRET_CHARS and bool(_AWS_SECRET.fullmatch(value) or not _NO_SECRET.fullmatch(value))


def _is_encrypted_key(text: str) -> bool:
    """Whether a private key (PEM, OpenSSH's own form, GnuPG's) needs a passphrase."""
    if "ENCRYPTED" in text or "(protected-private-key" in text:
        return True
    body = re.search(r"BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]{40,})", text)
    if body is None:
        return False
    try:
        head = base64.b64decode("".join(body[1].split())[:64])
    except (binascii.Error, ValueError):
        return False
    # PROTOCOL.key of OpenSSH: magic with NUL (15 bytes), length (4), name of the cipher
    return head.startswith(b"openssh-key-v1\0") and head[19:23] != b"none"
