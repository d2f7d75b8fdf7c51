"""``agent-broker secret``: what ``run --with NAME`` gives to programs, kept in the vault and in no file."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator, reader
from agent_broker.cli.enrolling import SHIM, confirm, require_answer, require_root, site_of, user_of
from agent_broker.cli.new_key import refuse_planted
from agent_broker.cli.terminal import cell, console, print_json, printable, say, table, user_name
from agent_broker.enroll.launcher import enroll_launcher, forget_launcher, launched, presets
from agent_broker.enroll.owner import owner_of
from agent_broker.errors import MisuseError
from agent_broker.identity.allowed import is_interpreter
from agent_broker.identity.environment import danger
from agent_broker.identity.environment_table import PROGRAMS_RUNTIMES
from agent_broker.identity.registry import load_registries
from agent_broker.ids import CredentialId, Uid
from agent_broker.vault.launched import KIND, MAX_SECRET_BYTES, TOOL, Delivery, Launched, launched_of
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret

LAUNCHER: Final = SHIM.with_name("agent-broker-run")
_MAX_SECRETS: Final = 256

app = typer.Typer(add_completion=False, no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="As `run --with` calls it.", show_default=False)]
_User = Annotated[str, typer.Option(metavar="USER", help="Whose secret.", show_default="who called sudo")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def secret() -> None:
    """Keep secrets that `run --with NAME` gives to programs, and to nothing else."""


@app.command()
def add(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    name: _Name,
    variables: Annotated[
        list[str] | None, typer.Option("--env", metavar="VAR", help="Variable that holds it; repeatable.")
    ] = None,
    preset: Annotated[str, typer.Option(metavar="PRESET", help=", ".join(presets()))] = "",
    host: Annotated[str, typer.Option(metavar="HOST", help="Of a preset.")] = "",
    login: Annotated[str, typer.Option(metavar="USER", help="Of a preset: the user's name at the host.")] = "",
    programs: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="PROGRAM", help="Who may be given it; repeatable.", show_default="the preset's"),
    ] = None,
    user: _User = "",
    launcher: Annotated[
        Path, typer.Option(metavar="PATH", help="What gives it.", show_default="the package's own")
    ] = LAUNCHER,
    json: _Json = False,
) -> None:
    """Keep a secret, from the terminal or standard input; one of the same name is replaced."""
    layout = application.of(context).layout
    require_root()
    deliveries, wanted = _deliveries(variables or (), preset, host, login, tuple(programs or ()))
    owner = owner_of(user_of(user), None)
    record = launched(deliveries, wanted)
    warnings = [each for each in map(_warning, record.programs) if each]
    value = _entered()
    refuse_planted([value.reveal().decode("utf-8", "replace")], load_registries(layout.registries))
    with administrator(layout) as client:
        _require_room(client.credentials(), owner.uid)
        enroll_launcher(site_of(layout, client, lambda _: None), owner, launcher)
        client.put_credential(CredentialId(f"{TOOL}/{owner.uid}/{name}"), KIND, value, record.attributes())
        client.reload()
    if json:
        print_json({"name": name, "programs": record.programs, "variables": record.variables, "warnings": warnings})
        return
    for each in warnings:
        say(f"warning: {each}")
    console().print(cell(f"next: agent-broker run --with {name} -- {Path(record.programs[0]).name}", "bold"))


@app.command(name="list")
def list_(context: typer.Context, json: _Json = False) -> None:
    """Show the secrets and what they are for; never a value."""
    with reader(application.of(context).layout) as broker:
        held = [each for each in broker.credentials() if each.kind == KIND]
    if json:
        print_json([_row(each) for each in held])
        return
    if not held:
        say("there is none; next: sudo agent-broker secret add NAME --env VAR --for PROGRAM")
        return
    shown = table("name", "owner", "given as", "to")
    for each in held:
        record = launched_of(each.attributes, each.id)
        how = ", ".join(_how(way) for way in record.deliveries)
        shown.add_row(*map(cell, (_name(each), user_name(each.owner_uid), how, ", ".join(record.programs))))
    console().print(shown)


@app.command()
def remove(
    context: typer.Context,
    name: _Name,
    user: _User = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: _Json = False,
) -> None:
    """Delete a secret. It is in no file: without another copy it is gone."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    owner = owner_of(user_of(user), None)
    with administrator(layout) as client:
        wanted = CredentialId(f"{TOOL}/{owner.uid}/{name}")
        held = [each for each in client.credentials() if each.kind == KIND and each.owner_uid == owner.uid]
        if wanted not in {each.id for each in held}:
            raise MisuseError(
                f"there is no secret {printable(name)} of this user", next_step="agent-broker secret list"
            )
        confirm(f"Delete the secret {name}?", yes=yes)
        client.remove_credential(wanted)
        left = forget_launcher(site_of(layout, client, lambda _: None), owner) if len(held) == 1 else ""
        client.reload()
    if json:
        print_json({"name": name, "removed": True, "warnings": [left] if left else []})
        return
    say(f"warning: {left}" if left else f"removed: {name}")


def _deliveries(
    variables: tuple[str, ...] | list[str], preset: str, host: str, login: str, programs: tuple[str, ...]
) -> tuple[tuple[Delivery, ...], tuple[str, ...]]:
    """Return how it is given, and to which programs."""
    known = presets()
    if preset and preset not in known:
        raise MisuseError(f"there is no preset {printable(preset)}", next_step=f"there are: {', '.join(known)}")
    made = [Delivery(variable=each) for each in variables]
    made += [known[preset].delivery(host, login)] if preset else []
    for each in made:
        each.require_well_formed()
        if each.variable and (why := danger(each.variable, PROGRAMS_RUNTIMES)):
            raise MisuseError(f"{each.variable} is no variable for a secret: {why}")
    if not made:
        raise MisuseError("it is not said how programs take it", next_step="--env VAR, or --preset NAME")
    found = programs or (_installed(known[preset].programs) if preset else ())
    if not found:
        raise MisuseError("it is not said which programs may be given it", next_step="--for PROGRAM")
    return tuple(made), found


def _installed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of a preset's programs that are there."""
    import shutil  # noqa: PLC0415 - of this branch alone

    from agent_broker.enroll.launcher import SEARCHED  # noqa: PLC0415 - as above

    return tuple(each for each in names if shutil.which(each, path=SEARCHED)) or names[:1]


def _warning(path: str) -> str:
    if not is_interpreter(path):
        return ""
    return f"{path} runs whatever it is given: whoever may use this secret can read it"


def _entered() -> Secret:
    if sys.stdin.isatty():
        data = getpass.getpass("secret: ", stream=sys.stderr).encode()
    else:
        data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 2).removesuffix(b"\n")
    if not data or len(data) > MAX_SECRET_BYTES or b"\0" in data:
        raise MisuseError(f"a secret has 1 to {MAX_SECRET_BYTES} bytes, and no NUL")
    return Secret(data)


def _require_room(held: tuple[Credential, ...], uid: Uid) -> None:
    if sum(each.kind == KIND and each.owner_uid == uid for each in held) >= _MAX_SECRETS:
        raise MisuseError(f"a user has at most {_MAX_SECRETS} secrets", next_step="agent-broker secret remove NAME")


def _how(way: Delivery) -> str:
    return (way.variable or way.option) + (" (file)" if way.file else "")


def _name(record: Credential) -> str:
    return record.id.split("/", 2)[2]


def _row(record: Credential) -> dict[str, object]:
    found: Launched = launched_of(record.attributes, record.id)
    return {
        "name": _name(record),
        "credential": record.id,
        "owner_uid": record.owner_uid,
        "given": [_how(each) for each in found.deliveries],
        "programs": found.programs,
    }
