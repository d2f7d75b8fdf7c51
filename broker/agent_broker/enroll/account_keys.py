"""What the key of an account may be, and how it comes to the vault: from what somebody typed or piped, or a login left.

The law: nothing of what came is quoted in an error. What is not whole, or could not be used for longer than hours, is
refused before anything is stored.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from agent_broker.enroll.claude_survey import bare_oauth
from agent_broker.enroll.login_agents import LOGINS
from agent_broker.errors import MisuseError
from agent_broker.ids import CredentialId
from agent_broker.vault.record import ACCOUNT_ATTRIBUTE
from agent_broker.vault.secret import Secret

LOGIN: Final = "oauth"
"""The key is a login, which the broker refreshes."""
KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "claude": {
        "api-key": "anthropic-api-key",
        "auth-token": "anthropic-auth-token",
        LOGIN: "anthropic-oauth",
        "bedrock-api-key": "bedrock-api-key",
    },
    "codex": {"api-key": "openai-api-key", LOGIN: "openai-oauth"},
    "gemini": {"api-key": "gemini-api-key", LOGIN: "google-oauth"},
}
"""By agent: what an account's key may be, and its kind in the vault."""

SPEAKS_TWO_WAYS: Final = frozenset({"gemini"})
"""Agents that speak another protocol with a login than with a key: which one is said by their own settings, before the
broker is asked, so a folder can't choose between a login and a key."""

_CLOUDS: Final[Mapping[str, str]] = {
    "aws-keys": "Bedrock",
    "aws-profile": "Bedrock",
    "bedrock-api-key": "Bedrock",
    "google-adc": "Vertex AI",
    "vertex-api-key": "Vertex AI",
}
"""Where credentials of these names are used (enroll.claude_clouds, gemini_clouds); others: at the agent's maker."""
ACCOUNTS_AT: Final = frozenset({"", "Bedrock"})
"""Where an agent can have several accounts. At Vertex AI its settings name the one project that it asks for."""

_TOKEN: Final = re.compile(rb"[\x21-\x7e]{8,4096}")
_BARE: Final = "claude"  # the one that gives out tokens which live long enough to need no login
_NEEDS: Final = {"claude": ("accessToken",)}
_USUAL_NEEDS: Final = ("access_token", "refresh_token")


def kind_of(agent: str, key: str) -> str:
    """Return the kind in the vault of an account's key.

    Raises:
        MisuseError: the agent can't have such an account.
    """
    kinds = KINDS.get(agent)
    if kinds is None:
        raise MisuseError(f"{agent} can't have several accounts; these can: {', '.join(KINDS)}")
    if key not in kinds:
        raise MisuseError(f"an account of {agent} can't have a key of that kind; there are: {', '.join(kinds)}")
    return kinds[key]


def is_login(credential: CredentialId) -> bool:
    """Whether a credential of an agent's in KINDS is a login: its id says so."""
    return credential.rpartition("/")[2] == LOGIN


def cloud_of(credential: CredentialId) -> str:
    """Return the cloud that a credential of an agent's in KINDS is for; empty: none. Its id says so."""
    return _CLOUDS.get(credential.rpartition("/")[2], "")


def secret_of(agent: str, key: str, data: bytes) -> Secret:
    """Return a key as the vault keeps it, from what somebody typed or piped.

    Raises:
        MisuseError: no such kind of key, or not one; the message does not quote it.
    """
    kind = kind_of(agent, key)
    data = data.strip()
    if key == LOGIN and (agent != _BARE or data.startswith(b"{")):
        return Secret(json.dumps(_login(agent, kind, data)).encode())
    if not _TOKEN.fullmatch(data):
        raise MisuseError(f"what came is not one {key}: 8 to 4096 plain characters", next_step="pipe it, nothing else")
    return Secret(bare_oauth(data.decode()).encode() if key == LOGIN else data)


def attributes_of(kind: str, secret: Secret) -> dict[str, str]:
    """Return what has to be known of a key besides: of a login, the provider's name of the account, if it says one."""
    if kind not in LOGINS:
        return {}
    with secret.borrow() as stored:
        account = msgspec.json.decode(stored, type=dict[str, object]).get(ACCOUNT_ATTRIBUTE)
    return {ACCOUNT_ATTRIBUTE: account} if isinstance(account, str) and account else {}


def values_in(key: str, secret: Secret) -> tuple[str, ...]:
    """Return every text of a key by which a decoy or a phantom in its place would be known."""
    text = secret.reveal().decode("utf-8", "replace")
    if key != LOGIN:
        return (text,)
    return tuple(value for value in json.loads(text).values() if isinstance(value, str))


def _login(agent: str, kind: str, data: bytes) -> dict[str, object]:
    """Return the tokens of a login, from the agent's own file or as the vault keeps them."""
    try:
        said = msgspec.json.decode(data, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise MisuseError("what came is not a login: it is not one JSON object") from error
    inner = said.get(LOGINS[kind].member, said)
    tokens: dict[str, object] = inner if isinstance(inner, dict) else {}
    for name in _NEEDS.get(agent, _USUAL_NEEDS):
        if not isinstance(tokens.get(name), str) or not tokens[name]:
            raise MisuseError(
                f"what came is not a login: it has no {name}",
                next_step=f"pipe {LOGINS[kind].result} of a home that is logged in, or log in: account add --login",
            )
    return tokens
