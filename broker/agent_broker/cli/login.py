"""``agent-broker login AGENT``: a new login, or a new key, straight into the vault.

The law: what is new comes from the agent's own login in a private room (``enroll.login_process``), from the terminal
without echo, or from stdin; never from an argument, a variable or a file of the user's. It replaces the credential in
one step: until then the old one stands, and a failure leaves it.
"""

import sys
from getpass import getpass
from typing import Annotated, Final

import typer

from agent_broker.cli import application
from agent_broker.cli.application import Application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import require_root, uid_of, user_of
from agent_broker.cli.new_key import checked_key
from agent_broker.cli.own_login import new_login
from agent_broker.cli.terminal import printable, say
from agent_broker.cli.tool_login import PASSWORDS, keep_password, refuse_own_login
from agent_broker.cli.tool_renewal import RENEWED, renew
from agent_broker.enroll.login_agents import LOGINS
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment, load_registries, load_registry
from agent_broker.ids import Uid
from agent_broker.inject.answer import login_command
from agent_broker.inject.oauth_tokens import checked_tokens
from agent_broker.inject.phantom import ACCOUNT_ATTRIBUTE as NAMED_ACCOUNT
from agent_broker.inject.phantom import CREDENTIAL_ATTRIBUTE, RECORD_KIND
from agent_broker.vault.record import ACCOUNT_ATTRIBUTE, Credential
from agent_broker.vault.secret import Secret

app = typer.Typer(add_completion=False)

_MAX_KEY_BYTES: Final = 16 << 10


@app.command()
def login(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="An agent, or a tool.", show_default=False)],
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    credential: Annotated[
        str, typer.Option(metavar="NAME", help="Which of its credentials.", show_default="the one that it uses")
    ] = "",
    account: Annotated[str, typer.Option("--as", metavar="NAME", help="Account; of a tool: user there.")] = "",
    host: Annotated[str, typer.Option("--host", metavar="HOST[/PATH]", help="A tool: which server's password.")] = "",
    from_stdin: Annotated[bool, typer.Option("--from-stdin", help="Read the new key from stdin.")] = False,
    device: Annotated[bool, typer.Option("--device", help="codex: log in by a code, on any device.")] = False,
) -> None:
    """Log an agent in again, give it a new key, or a tool a server's password; straight into the vault."""
    state = application.of(context)
    require_root()
    refuse_own_login(agent, "login")
    if agent in PASSWORDS or agent in RENEWED:
        keep = keep_password if agent in PASSWORDS else renew
        keep(state, agent, uid_of(user_of(user)), host=host, name=account, from_stdin=from_stdin)
        return
    enrollment = enrollment_of(state, agent, uid_of(user_of(user)))
    with administrator(state.layout) as client:
        held = _held(client.credentials(), enrollment, credential, account)
    if held.kind in LOGINS:
        if from_stdin:
            raise MisuseError(f"{held.id} is a login, not a key", next_step=login_command(held.id))
        fresh = new_login(state, enrollment, held.kind, device=device)
    else:
        fresh = _new_key(state, held, from_stdin=from_stdin)
    attributes = _attributes(held, fresh)
    with administrator(state.layout) as client:
        stored = client.put_credential(held.id, held.kind, fresh, attributes)
    fresh.wipe()
    _tell_of_another(held, attributes)
    say(f"{held.id} is renewed (version {stored.version}); the agent goes on with it, nothing needs to be restarted")


def enrollment_of(state: Application, agent: str, owner_uid: Uid) -> Enrollment:
    """Return the enrolment of a user's agent.

    Raises:
        MisuseError: there is none.
    """
    for each in load_registry(state.layout.registry_folder):
        if (each.agent, each.owner_uid) == (agent, owner_uid):
            return each
    raise MisuseError(
        f"{printable(agent)} is not enrolled for user {owner_uid}", next_step="agent-broker agents lists who is"
    )


def _held(records: tuple[Credential, ...], enrollment: Enrollment, name: str, account: str) -> Credential:
    """The credential that is to be replaced: the named one, an account's, or that of the agent's own phantom."""
    mine = {
        each.id: each for each in records if (each.agent, each.owner_uid) == (enrollment.agent, enrollment.owner_uid)
    }
    theirs = {each.name: each.credential for each in enrollment.accounts}
    if account:
        wanted = theirs.get(account, "")
    elif name:
        wanted = f"{enrollment.agent}/{enrollment.owner_uid}/{name}"
    else:
        own = [each for each in mine.values() if each.kind == RECORD_KIND and NAMED_ACCOUNT not in each.attributes]
        wanted = own[0].attributes.get(CREDENTIAL_ATTRIBUTE, "") if len(own) == 1 else ""
    found = next((each for each in mine.values() if each.id == wanted), None)
    if found is None or found.id not in {*enrollment.credentials, *theirs.values()}:
        names = ", ".join(each.rpartition("/")[2] for each in enrollment.credentials)
        raise MisuseError(
            f"it is not clear which credential is meant: {names}; accounts: {', '.join(theirs) or 'none'}",
            next_step="add --credential NAME, or --as ACCOUNT",
        )
    return found


def _tell_of_another(held: Credential, attributes: dict[str, str]) -> None:
    """Who saw the address of the login could have finished it for an account of their own."""
    before = held.attributes.get(ACCOUNT_ATTRIBUTE, "")
    if before and before != attributes.get(ACCOUNT_ATTRIBUTE, ""):
        say(
            "warning: this login is of another of the provider's accounts than the one before; "
            f"if that is not what you meant: {login_command(held.id)}"
        )


def _attributes(held: Credential, fresh: Secret) -> dict[str, str]:
    """What is known of the credential besides: as before, but for the account, which the new login decides."""
    if held.kind not in LOGINS:
        return held.attributes
    account = checked_tokens(held.kind, fresh).account
    kept = {name: value for name, value in held.attributes.items() if name != ACCOUNT_ATTRIBUTE}
    return {**kept, ACCOUNT_ATTRIBUTE: account} if account else kept


def _new_key(state: Application, held: Credential, *, from_stdin: bool) -> Secret:
    if from_stdin:
        text = sys.stdin.buffer.read(_MAX_KEY_BYTES).decode("utf-8", "surrogateescape")
    elif sys.stdin.isatty():
        text = getpass(f"New value of {held.id} (not shown): ", stream=sys.stderr)
    else:
        raise MisuseError("nobody can be asked for the key: the input is not a terminal", next_step="add --from-stdin")
    return checked_key(text, load_registries(state.layout.registries))
