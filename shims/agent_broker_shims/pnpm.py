"""pnpm's token helper (pnpm.io/npmrc, ``tokenHelper``): a program without arguments that prints a header's value.

Read from pnpm 12.21. pnpm tells its helper nothing, so each registry has a helper of its own: a link to the shim,
``pnpm@UID.NAME``, by whose name the shim sends which credential is meant. Whose it is, the kernel says.

With a helper that fails pnpm goes on without a token, and shows nothing of what the helper said.
"""

import re
from collections.abc import Mapping, Sequence

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "pnpm"
_WHICH = re.compile(r"[0-9]{1,10}\.([A-Za-z0-9._-]{1,64})")


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return which registry's token is asked for.

    Raises:
        NotThisProtocolError: the link is none of ours, or it was given arguments: pnpm starts a script's shell so.
    """
    del stdin, environment
    found = _WHICH.fullmatch(arguments[0]) if len(arguments) == 1 else None
    if found is None:
        raise NotThisProtocolError("pnpm starts pnpm@UID.NAME without arguments")
    return Question("", name=found[1])


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what pnpm sends."""
    del asked, username
    return b"Bearer " + password + b"\n"


def not_found(asked: Question) -> Answer:
    """Return what makes pnpm go on without a token."""
    del asked
    return Answer(1, stderr=b"agent-broker keeps no token for this registry; see: agent-broker credentials\n")


def link_of(uid: int, name: str) -> str:
    """Return the name of a credential's link."""
    return f"{TOOL}@{uid}.{name}"
