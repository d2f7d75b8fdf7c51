"""The product's nouns as types, so that one number is never taken for another."""

import re
from typing import NewType

from agent_broker.errors import MisuseError

ProcId = NewType("ProcId", int)
"""One thread group since its fork, numbered by the kernel side from 1; never re-used within an epoch."""

ExecId = NewType("ExecId", int)
"""One program image since its exec, numbered by the kernel side from 1; never re-used within an epoch."""

Epoch = NewType("Epoch", str)
"""One run of the monitor. ProcId and ExecId mean nothing outside the epoch that gave them."""

Pid = NewType("Pid", int)
"""A thread-group id in the initial pid namespace. For display and for opening a pidfd, never an identity."""

Uid = NewType("Uid", int)
"""A user id in the initial user namespace."""

AgentName = NewType("AgentName", str)
"""The name of an agent's recipe: ``claude``."""

CredentialId = NewType("CredentialId", str)
"""A credential in the vault: ``AGENT/OWNER_UID/NAME``, e.g. ``claude/1000/api-key``."""

_CREDENTIAL_ID = re.compile(r"([^/]+)/([0-9]{1,10})/(.+)")

Sha256 = NewType("Sha256", str)
"""A SHA-256 digest as 64 lower-case hexadecimal digits."""


_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NO_ACCOUNTS = frozenset({"original", "phantom"})  # other records of an enrolment are called so
ACCOUNT_NAMES = "an account's name has up to 32 lower-case letters, digits and hyphens; not original, not phantom"


def is_account_name(text: str) -> bool:
    """Tell whether an account of an agent may be called so: ``work`` in ``claude/1000/work/api-key``."""
    return _ACCOUNT.fullmatch(text) is not None and text not in _NO_ACCOUNTS


def parts_of(credential: CredentialId) -> tuple[AgentName, Uid, str]:
    """Return agent, owner and name of a credential's id.

    Raises:
        MisuseError: it is not AGENT/OWNER_UID/NAME.
    """
    match = _CREDENTIAL_ID.fullmatch(credential)
    if match is None:
        raise MisuseError("a credential's id is AGENT/OWNER_UID/NAME")
    return AgentName(match[1]), Uid(int(match[2])), match[3]
