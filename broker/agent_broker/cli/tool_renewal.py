"""``login`` of a tool whose own files name its credentials: by a profile, or as a user of a cluster.

The law: as of ``tool_login``, but only what an enrolment moved can be renewed. Which server, role or region it is for
stays as it was; a new name would be in no file, and nothing would ask for it.
"""

import json
import sys
from collections.abc import Sequence
from getpass import getpass
from typing import Final, NamedTuple

from agent_broker.cli.application import Application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import site_of
from agent_broker.cli.terminal import printable, say
from agent_broker.cli.tool_login import MAX_PASSWORD_BYTES, checked_password
from agent_broker.enroll.added import add_credential
from agent_broker.errors import MisuseError
from agent_broker.ids import Uid
from agent_broker.vault.record import (
    DESTINATION_ATTRIBUTE,
    PROFILE_ATTRIBUTE,
    ROLE_ATTRIBUTE,
    USERNAME_ATTRIBUTE,
    Credential,
)
from agent_broker.vault.secret import Secret


class Renewed(NamedTuple):
    """What a credential of a tool is made of."""

    kind: str
    named_by: str
    """The attribute that ``--as`` names."""
    what: str
    """What that is, for people."""
    parts: tuple[tuple[str, str], ...]
    """What is asked for, for people, and what the vault's record calls it."""


RENEWED: Final = {
    "aws": Renewed(
        "aws-keys",
        PROFILE_ATTRIBUTE,
        "profile",
        (("Access key ID", "aws_access_key_id"), ("Secret access key", "aws_secret_access_key")),
    ),
    "kubectl": Renewed("kubernetes-user", USERNAME_ATTRIBUTE, "user", (("Token", "token"),)),
}
"""By the tool's name."""


def renew(  # noqa: PLR0913 - what a person says of it
    state: Application, tool: str, owner_uid: Uid, *, host: str, name: str, from_stdin: bool
) -> None:
    """Read a new value of a credential that was enrolled, and keep it in its place; says what was done.

    Raises:
        MisuseError: it is not clear which one is meant, or what was read is none.
    """
    how = RENEWED[tool]
    with administrator(state.layout) as client:
        known = client.credentials()
    mine = [each for each in known if (each.agent, each.owner_uid, each.kind) == (tool, owner_uid, how.kind)]
    held = _held(mine, tool, how, host, name)
    secret = _read(state, held, how, from_stdin=from_stdin)
    with administrator(state.layout) as client:
        site = site_of(state.layout, client, lambda _: None)
        problems = add_credential(site, held.id, held.kind, secret, held.attributes)
    secret.wipe()
    say(f"{held.id} is renewed")
    _tell_of_roles(held, mine)
    for each in problems:
        say(f"warning: {each}")


def _held(mine: Sequence[Credential], tool: str, how: Renewed, host: str, name: str) -> Credential:
    found = [
        each
        for each in mine
        if name in {"", each.attributes.get(how.named_by, "")}
        and host in {"", each.attributes.get(DESTINATION_ATTRIBUTE, "")}
    ]
    if len(found) == 1:
        return found[0]
    if not mine:
        raise MisuseError(f"nothing of {tool} was enrolled for this user", next_step=f"agent-broker enroll {tool}")
    names = ", ".join(sorted({each.attributes.get(how.named_by, "") for each in mine}))
    places = sorted(
        {each.attributes[DESTINATION_ATTRIBUTE] for each in mine if DESTINATION_ATTRIBUTE in each.attributes}
    )
    raise MisuseError(
        f"it is not clear which {how.what} is meant: {printable(names)}",
        next_step=f"add --as {how.what.upper()}" + (f" and --host {printable(' | '.join(places))}" if places else ""),
    )


def _read(state: Application, held: Credential, how: Renewed, *, from_stdin: bool) -> Secret:
    if from_stdin:
        given = sys.stdin.buffer.read(MAX_PASSWORD_BYTES + 1).removesuffix(b"\n").split(b"\n")
    elif sys.stdin.isatty():
        given = [
            getpass(f"{part} of {printable(held.id)} (not shown): ", stream=sys.stderr).encode()
            for part, _ in how.parts
        ]
    else:
        raise MisuseError("nobody can be asked: the input is not a terminal", next_step="add --from-stdin")
    if len(given) != len(how.parts) or sum(map(len, given)) >= MAX_PASSWORD_BYTES:
        raise MisuseError("expected a line each: " + ", ".join(part for part, _ in how.parts))
    values = [checked_password(each, state).reveal().decode() for each in given]
    return Secret(json.dumps(dict(zip((name for _, name in how.parts), values, strict=True))).encode())


def _tell_of_roles(held: Credential, mine: Sequence[Credential]) -> None:
    """A profile that assumes a role has a copy of its source's keys."""
    roles = [each.attributes[PROFILE_ATTRIBUTE] for each in mine if each.attributes.get(ROLE_ATTRIBUTE)]
    left = [each for each in roles if each != held.attributes.get(PROFILE_ATTRIBUTE)]
    if left:
        say(f"profiles that assume a role keep the keys that they had: {printable(', '.join(left))}")
