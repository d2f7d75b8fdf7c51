"""``agent-broker ssh add`` and ``ssh remove``: a key for the broker's agent after ssh was enrolled, or one less.

The law: the file is read as its owner, and stays as it is: what is done with it then is its owner's to say. Its public
half must be beside it under its own name for ssh to know the key by, and is not made here.
"""

from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import (
    asked_passphrases,
    confirm,
    require_answer,
    require_root,
    site_of,
    uid_of,
    user_of,
)
from agent_broker.cli.new_key import refuse_planted
from agent_broker.cli.terminal import print_json, printable, say
from agent_broker.config.layout import Layout
from agent_broker.enroll.added import add_credential, free_id, remove_credential
from agent_broker.enroll.owner import Owner, owner_of
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registries
from agent_broker.ids import AgentName, CredentialId
from agent_broker.ssh.binding import Limits, fingerprint
from agent_broker.ssh.keys import blob_of_line, public_blob, sealed_form
from agent_broker.ssh.record import AGENT, KIND, KeyFacts, facts_of
from agent_broker.transport.control_client import ControlClient
from agent_broker.vault.secret import Secret

User = Annotated[str, typer.Option(metavar="USER", help="Whose key.", show_default="who called sudo")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key.", show_default=False)],
    user: User = "",
    home: Annotated[Path | None, typer.Option(metavar="DIR", show_default="the user's home")] = None,
    json: Json = False,
) -> None:
    """Give the broker's agent one more key; the file stays, and is yours to delete."""
    layout = application.of(context).layout
    require_root()
    owner = owner_of(user_of(user), home)
    content, comment = _read(owner, file)
    refuse_planted([content.data.decode("utf-8", "replace")], load_registries(layout.registries))
    key = asked_passphrases().open(str(file), content)
    blob = public_blob(key)
    with administrator(layout) as client:
        credential = _id_of(client, owner, file.name, blob)
        secret, facts = Secret(sealed_form(key)), KeyFacts(blob, comment, Limits())
        site = site_of(layout, client, lambda _: None)
        problems = add_credential(site, credential, KIND, secret, facts.attributes())
        client.reload()
    if json:
        print_json({"credential": credential, "fingerprint": fingerprint(blob), "warnings": problems})
        return
    say(f"{credential} is kept: {fingerprint(blob)}")
    for each in problems:
        say(f"warning: {each}")
    say(f"{printable(str(file))} still has the key: keep a copy elsewhere, then delete it, and leave {file.name}.pub")


def remove(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="As `ssh keys` calls it.", show_default=False)],
    user: User = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Delete a key from the vault. Without another copy it is gone."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    credential = CredentialId(f"{AGENT}/{uid_of(user_of(user))}/{key}")
    confirm(f"Delete the key {printable(key)}, of which the broker may have the only copy?", yes=yes)
    _remove(layout, credential)
    if json:
        print_json({"credential": credential, "removed": True})
    else:
        say(f"{credential} is deleted")


def _remove(layout: Layout, credential: CredentialId) -> None:
    with administrator(layout) as client:
        if not any(each.id == credential and each.kind == KIND for each in client.credentials()):
            raise MisuseError("there is no such key of this user", next_step="agent-broker ssh keys")
        for each in remove_credential(site_of(layout, client, lambda _: None), credential):
            say(f"warning: {each}")


def _read(owner: Owner, file: Path) -> tuple[Content, str]:
    """Return the file, and the comment of its public half if that is beside it."""
    path = Path.cwd() / file
    if not path.is_relative_to(owner.home):
        raise MisuseError(f"{printable(str(path))} is not below {owner.home}", next_step="copy it there first")
    relative = str(path.relative_to(owner.home))
    with UserFiles(owner) as files:
        content, public = files.read(relative), files.read(f"{relative}.pub")
    if content is None:
        raise MisuseError(f"there is no file {printable(str(path))}")
    if public is None:
        say(f"warning: {printable(str(file))}.pub is missing: ssh knows the key by it; make it with ssh-keygen -y")
        return content, ""
    return content, blob_of_line(public.data.decode("utf-8", "replace").strip())[1]


def _id_of(client: ControlClient, owner: Owner, name: str, blob: bytes) -> CredentialId:
    """Return the id of the key if it is there already, with the limits that it has; else a new one."""
    mine = [each for each in client.credentials() if each.kind == KIND and each.owner_uid == owner.uid]
    for each in mine:
        if facts_of(each.attributes, each.id).blob == blob:
            raise MisuseError(f"the broker has this key already: {each.id}", next_step="agent-broker ssh keys")
    return free_id(AgentName(AGENT), owner.uid, name, (each.id for each in mine))
