"""``login`` and ``logout`` of a tool: a server's password, straight into the vault.

The law: a password comes from the terminal without echo, or from stdin; never from an argument, a variable or a file of
the user's. It replaces the one for the same place and user in one step.
"""

import sys
from collections.abc import Callable, Iterable
from getpass import getpass
from pathlib import Path
from typing import Final, NamedTuple

import typer

from agent_broker.cli.application import Application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import site_of
from agent_broker.cli.new_key import refuse_planted
from agent_broker.cli.terminal import printable, say
from agent_broker.enroll.added import add_credential, free_id, linked, remove_credential
from agent_broker.enroll.ports import Site
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registries
from agent_broker.ids import AgentName, CredentialId, Uid, parts_of
from agent_broker.policy.destination import Destination
from agent_broker.transport.control_client import ControlClient
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, PROFILE_ATTRIBUTE, USERNAME_ATTRIBUTE, Credential
from agent_broker.vault.secret import Secret
from agent_broker_shims import pnpm

MAX_PASSWORD_BYTES: Final = 16 << 10


class Place(NamedTuple):
    """What a tool's passwords are, and what they are for."""

    kind: str
    scheme: str
    """Of a host that is named without one."""
    has_user: bool = True
    """Whether a password is somebody's at that server."""
    then: str = ""
    """What the person has to do once for a new server; ``{host}`` stands for it, ``{link}`` for its link."""
    link_of: Callable[[int, str], str] | None = None
    """Says, of user and credential, the name of the link that the tool runs for it (enroll.helper_links)."""


PASSWORDS: Final = {
    "git": Place("git-password", "https"),
    "docker": Place(
        "docker-password",
        "docker",
        then='docker asks for it once ~/.docker/config.json has: "credHelpers": {{"{host}": "agent-broker"}}',
    ),
    "cargo": Place("cargo-token", "https", has_user=False),
    "pnpm": Place(
        "pnpm-token",
        "npm",
        has_user=False,
        then="pnpm asks for it once ~/.npmrc has the line: //{host}/:tokenHelper={link}",
        link_of=pnpm.link_of,
    ),
    "keyring": Place(
        "keyring-password",
        "https",
        then="pip and uv ask for it once their settings have the address with the user's name: https://USER@{host}",
    ),
}
"""By the tool's name."""

_OWN_LOGIN: Final = {"gh": {"login": "gh auth login, or gh auth refresh", "logout": "gh auth logout"}}


def keep_password(  # noqa: PLR0913 - what a person says of it
    state: Application, tool: str, owner_uid: Uid, *, host: str, name: str, from_stdin: bool
) -> None:
    """Read a password for a server and keep it; says what was done.

    Raises:
        MisuseError: it is not clear which server or whose password is meant, or what was read is none.
    """
    place, to = _place(tool, host)
    with administrator(state.layout) as client:
        mine = _mine(client, tool, owner_uid)
        links = _links(site_of(state.layout, client, lambda _: None), place, tool, owner_uid)
    held = _held(mine, to, name)
    attributes = _attributes(held, place, to, name)
    wanted = str(to).partition("://")[2]
    taken = (*(each.id for each in mine), *links)
    credential = held.id if held else free_id(AgentName(tool), owner_uid, wanted, taken)
    link = _link_beside(links.values(), place, credential)
    if link:
        attributes[PROFILE_ATTRIBUTE] = parts_of(credential)[2]
    secret = _password(state, to, from_stdin=from_stdin)
    with administrator(state.layout) as client:
        site = site_of(state.layout, client, lambda _: None)
        problems = add_credential(site, credential, held.kind if held else place.kind, secret, attributes, link)
    secret.wipe()
    say(f"{credential} is " + ("renewed" if held else f"kept: it is for {to}"))
    for each in problems:
        say(f"warning: {each}")
    if held is None and place.then:
        say(place.then.format(host=wanted, link=link))


def _attributes(held: Credential | None, place: Place, to: Destination, name: str) -> dict[str, str]:
    known = held.attributes if held else {}
    if not place.has_user:
        return {**known, DESTINATION_ATTRIBUTE: str(to)}
    user = name or known.get(USERNAME_ATTRIBUTE, "") or _asked_user(to)
    return {**known, DESTINATION_ATTRIBUTE: str(to), USERNAME_ATTRIBUTE: user}


def _links(site: Site, place: Place, tool: str, owner_uid: Uid) -> dict[CredentialId, str]:
    """Return the tool's links by the credentials that they were made for, whether there still are such."""
    if place.link_of is None:
        return {}
    before = place.link_of(owner_uid, "")
    paths = linked(site, AgentName(tool), owner_uid)
    return {CredentialId(f"{tool}/{owner_uid}/{Path(each).name.removeprefix(before)}"): each for each in paths}


def _link_beside(links: Iterable[str], place: Place, credential: CredentialId) -> str:
    """Return the path of a credential's link: beside those that enrolment made; empty: the tool runs none."""
    first = next(iter(links), "")
    if place.link_of is None or not first:
        return ""
    _, owner_uid, name = parts_of(credential)
    return str(Path(first).with_name(place.link_of(owner_uid, name)))


def forget_password(state: Application, tool: str, owner_uid: Uid, *, host: str, name: str) -> CredentialId:
    """Delete a server's password; return what it was called.

    Raises:
        MisuseError: there is none, or it is not clear which one is meant.
    """
    _, to = _place(tool, host)
    with administrator(state.layout) as client:
        held = _held(_mine(client, tool, owner_uid), to, name)
        if held is None:
            raise MisuseError(f"{tool} has no credential for {to}", next_step="agent-broker credentials")
        for each in remove_credential(site_of(state.layout, client, lambda _: None), held.id):
            say(f"warning: {each}")
    return held.id


def refuse_own_login(tool: str, command: str) -> None:
    """Let pass a tool whose logins the broker renews, or deletes.

    Args:
        tool: its name.
        command: ``login`` or ``logout``.

    Raises:
        MisuseError: it does so itself, by its own command.
    """
    if tool in _OWN_LOGIN:
        raise MisuseError(
            f"{tool} keeps its logins itself, in a file that is a view: what it writes goes into the vault",
            next_step=f"as its user: {_OWN_LOGIN[tool][command]}",
        )


def _place(tool: str, host: str) -> tuple[Place, Destination]:
    if tool not in PASSWORDS:
        raise MisuseError(f"the credentials of {printable(tool)} are no passwords of a server")
    if not host:
        raise MisuseError("which server's password is meant?", next_step="add --host HOST, or --host HOST/PATH")
    place = PASSWORDS[tool]
    to = Destination.parse(host if "://" in host else f"{place.scheme}://{host}")
    if place.link_of is not None:  # pnpm's lines have no scheme
        to = Destination.parse(f"{place.scheme}://{str(to).partition('://')[2]}")
    return place, to


def _mine(client: ControlClient, tool: str, owner_uid: Uid) -> list[Credential]:
    known = client.credentials()
    return [each for each in known if (each.agent, each.owner_uid) == (tool, owner_uid)]


def _held(mine: list[Credential], to: Destination, name: str) -> Credential | None:
    there = [each for each in mine if each.attributes.get(DESTINATION_ATTRIBUTE) == str(to)]
    if name:
        there = [each for each in there if each.attributes.get(USERNAME_ATTRIBUTE, "") in {"", name}]
    if len(there) > 1:
        users = ", ".join(each.attributes.get(USERNAME_ATTRIBUTE, "") for each in there)
        raise MisuseError(f"{to} has passwords of {printable(users)}", next_step="add --as USER")
    return there[0] if there else None


def _asked_user(to: Destination) -> str:
    if not sys.stdin.isatty():
        raise MisuseError(f"whose password at {to}?", next_step="add --as USER: the user's name there")
    return str(typer.prompt(f"User name at {to}", err=True)).strip()


def _password(state: Application, to: Destination, *, from_stdin: bool) -> Secret:
    if from_stdin:
        data = sys.stdin.buffer.read(MAX_PASSWORD_BYTES + 1)
    elif sys.stdin.isatty():
        data = getpass(f"Password or token for {to} (not shown): ", stream=sys.stderr).encode()
    else:
        raise MisuseError("nobody can be asked: the input is not a terminal", next_step="add --from-stdin")
    return checked_password(data, state)


def checked_password(data: bytes, state: Application) -> Secret:
    """Return a password without the line end behind it.

    Raises:
        MisuseError: it is none, or what an enrolment left in a file. It is not quoted.
    """
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise MisuseError("a password is text: UTF-8") from error
    if not text or not text.isprintable() or len(data) > MAX_PASSWORD_BYTES:
        raise MisuseError(f"a password is one line, of at most {MAX_PASSWORD_BYTES} bytes")
    refuse_planted([text], load_registries(state.layout.registries))
    return Secret(text.encode())
