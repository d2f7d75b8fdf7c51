"""``agent-broker account``: several keys for one agent (work, private), by folder or by ``run --as``."""

import getpass
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.application import Application
from agent_broker.cli.broker import administrator, reader
from agent_broker.cli.enrolling import confirm, recipe_of, require_answer, require_root, site_of, uid_of, user_of
from agent_broker.cli.login import enrollment_of
from agent_broker.cli.new_key import refuse_planted
from agent_broker.cli.own_login import new_login
from agent_broker.cli.terminal import cell, console, print_json, say, table
from agent_broker.enroll.account_keys import LOGIN, kind_of, secret_of, values_in
from agent_broker.enroll.accounts import (
    NewAccount,
    add_account,
    assign_folders,
    folder_named,
    remove_account,
    require_possible,
)
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment, load_registries
from agent_broker.inject.oauth_tokens import checked_tokens
from agent_broker.vault.record import PROJECT_ATTRIBUTE, REGIONS_ATTRIBUTE, Credential
from agent_broker.vault.secret import Secret

MAX_KEY_BYTES = 64 * 1024

app = typer.Typer(add_completion=False, no_args_is_help=True)

_Agent = Annotated[str, typer.Argument(metavar="AGENT", help="claude, codex, gemini.", show_default=False)]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the account: work, private ...", show_default=False)]
_User = Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")]
_Folders = Annotated[
    list[Path] | None,
    typer.Option("--dir", metavar="DIR", help="An agent started in it, or below, uses this account; repeatable."),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def account() -> None:
    """Give an enrolled agent further keys, and say which one is used where."""


@app.command("list")
def show(context: typer.Context, json: _Json = False) -> None:
    """Show the accounts of the enrolled agents: names and folders, never a key."""
    with reader(application.of(context).layout) as broker:
        enrolled = broker.agents()
    if json:
        print_json([record for each in enrolled for record in _records(each)])
        return
    if not enrolled:
        say("no agent is enrolled; next: sudo agent-broker enroll claude")
        return
    shown = table("agent", "owner", "account", "credential", "used in")
    for each in enrolled:
        for number, one in enumerate(each.accounts):
            places = ", ".join(one.folders) or ("everywhere else" if number == 0 else "with run --as only")
            cells = (each.agent, each.owner_name, one.name, one.credential, places)
            shown.add_row(*map(cell, cells))
    console().print(shown)


@app.command()
def add(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: _Agent,
    name: _Name,
    user: _User = "",
    kind: Annotated[
        str,
        typer.Option(metavar="KIND", help="api-key, oauth; claude also: auth-token, bedrock-api-key."),
    ] = "api-key",
    log_in: Annotated[bool, typer.Option("--login", help="Don't read a key: let the agent log in.")] = False,
    device: Annotated[bool, typer.Option("--device", help="codex: log in by a code, on any device.")] = False,
    folders: _Folders = None,
    json: _Json = False,
) -> None:
    """Add an account to an enrolled agent. Its key is read from standard input (a terminal is asked), or --login."""
    state = application.of(context)
    layout = state.layout
    require_root()
    recipe = recipe_of(agent, layout)
    uid, places = uid_of(user_of(user)), _named(folders)
    kind = LOGIN if log_in else kind
    new = NewAccount(recipe.agent, uid, name, kind, Secret(b""), places)
    enrollment = enrollment_of(state, agent, uid)
    require_possible(enrollment, new)  # before somebody types, or logs in, in vain
    secret = _logged_in(state, enrollment, device=device) if log_in else _entered(state, agent, kind)
    with administrator(layout) as client:
        new = replace(new, secret=secret, place=_place_of(client.credentials(), enrollment))
        problems = add_account(site_of(layout, client, lambda _: None), client, new)
    _tell({"account": name, "credential": new.credential, "folders": new.folders}, problems, json=json)


@app.command()
def assign(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context, agent: _Agent, name: _Name, user: _User = "", folders: _Folders = None, json: _Json = False
) -> None:
    """Use an account in these folders, and in no other that it had; without --dir: with run --as only."""
    layout = application.of(context).layout
    require_root()
    uid, places = uid_of(user_of(user)), _named(folders)
    with administrator(layout) as client:
        site = site_of(layout, client, lambda _: None)
        problems = assign_folders(site, recipe_of(agent, layout).agent, uid, name, places)
    _tell({"account": name, "folders": places}, problems, json=json)


@app.command()
def remove(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: _Agent,
    name: _Name,
    user: _User = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: _Json = False,
) -> None:
    """Forget an account and its key. The key is in no file: without another copy it is gone."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    uid = uid_of(user_of(user))
    with administrator(layout) as client:
        confirm(f"Delete the account {name} of {agent}, with its key?", yes=yes)
        site = site_of(layout, client, lambda _: None)
        problems = remove_account(site, client, recipe_of(agent, layout).agent, uid, name)
    _tell({"account": name, "removed": True}, problems, json=json)


def _place_of(records: tuple[Credential, ...], enrollment: Enrollment) -> dict[str, str]:
    """Return what the enrolled credential is bound to at a cloud; empty: it is at none."""
    enrolled = next((each for each in records if each.id == enrollment.accounts[0].credential), None)
    known = {} if enrolled is None else enrolled.attributes
    return {name: known[name] for name in (REGIONS_ATTRIBUTE, PROJECT_ATTRIBUTE) if name in known}


def _logged_in(state: Application, enrollment: Enrollment, *, device: bool) -> Secret:
    """Return the tokens of the agent's own login in a private room."""
    kind = kind_of(enrollment.agent, LOGIN)
    secret = new_login(state, enrollment, kind, device=device)
    checked_tokens(kind, secret)
    return secret


def _entered(state: Application, agent: str, key: str) -> Secret:
    """Return a key from standard input, if it is one and not what an enrolment left in a file."""
    secret = secret_of(agent, key, _key())
    refuse_planted(values_in(key, secret), load_registries(state.layout.registries))
    return secret


def _key() -> bytes:
    if sys.stdin.isatty():
        return getpass.getpass("key: ", stream=sys.stderr).encode()
    data = sys.stdin.buffer.read(MAX_KEY_BYTES + 1)
    if len(data) > MAX_KEY_BYTES:
        raise MisuseError(f"a key is not longer than {MAX_KEY_BYTES} bytes")
    return data


def _named(folders: list[Path] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(folder_named, folders or ())))


def _records(enrollment: Enrollment) -> list[dict[str, object]]:
    return [
        {
            "agent": enrollment.agent,
            "owner_uid": enrollment.owner_uid,
            "owner_name": enrollment.owner_name,
            "account": each.name,
            "credential": each.credential,
            "folders": each.folders,
        }
        for each in enrollment.accounts
    ]


def _tell(record: dict[str, object], problems: tuple[str, ...], *, json: bool) -> None:
    if json:
        print_json({**record, "warnings": problems})
        return
    for each in problems:
        say(f"warning: {each}")
    what = "is gone" if "removed" in record else "is ready"
    console().print(cell(f"the account {record['account']} {what}", "bold"))
