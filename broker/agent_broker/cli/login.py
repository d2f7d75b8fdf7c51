"""``agent-broker login AGENT``: a new login, or a new key, straight into the vault.

The law: what is new comes from the agent's own login in a private room (``enroll.login_process``), from the terminal
without echo, or from stdin; never from an argument, a variable or a file of the user's. It replaces the credential in
one step: until then the old one stands, and a failure leaves it.
"""

import os
import sys
from getpass import getpass
from typing import Annotated, Final

import typer

from agent_broker.cli import application
from agent_broker.cli.application import Application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import require_root, uid_of, user_of
from agent_broker.cli.login_terminal import LentTerminal
from agent_broker.cli.new_key import checked_key
from agent_broker.cli.terminal import printable, say
from agent_broker.enroll.login_agents import LOGINS
from agent_broker.enroll.login_room import log_in, one_login
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment, load_registry
from agent_broker.ids import Uid
from agent_broker.inject.oauth_servers import OPENAI
from agent_broker.inject.oauth_tokens import checked_tokens
from agent_broker.inject.phantom import CREDENTIAL_ATTRIBUTE, RECORD_KIND
from agent_broker.vault.record import ACCOUNT_ATTRIBUTE, Credential
from agent_broker.vault.secret import Secret

app = typer.Typer(add_completion=False)

_HANDED_ON: Final = (
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
)
"""A proxy sees TLS only; variables that name certificate authorities are not handed on."""

_MAX_KEY_BYTES: Final = 16 << 10
_DEVICE: Final = "--device-auth"  # of `codex login`


@app.command()
def login(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="claude, codex, gemini.", show_default=False)],
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    credential: Annotated[
        str, typer.Option(metavar="NAME", help="Which of its credentials.", show_default="the one that it uses")
    ] = "",
    from_stdin: Annotated[bool, typer.Option("--from-stdin", help="Read the new key from stdin.")] = False,
    device: Annotated[bool, typer.Option("--device", help="codex: log in by a code, on any device.")] = False,
) -> None:
    """Log an agent in again, or give it a new key; the secret goes straight into the vault."""
    state = application.of(context)
    require_root()
    enrollment = _enrollment(state, agent, uid_of(user_of(user)))
    with administrator(state.layout) as client:
        held = _held(client.credentials(), enrollment, credential)
    if held.kind in LOGINS:
        if from_stdin:
            raise MisuseError(f"{held.id} is a login, not a key", next_step=f"sudo agent-broker login {agent}")
        fresh = _new_login(state, enrollment, held, device=device)
    else:
        fresh = _new_key(state, held, from_stdin=from_stdin)
    with administrator(state.layout) as client:
        stored = client.put_credential(held.id, held.kind, fresh, _attributes(held, fresh))
    fresh.wipe()
    say(f"{held.id} is renewed (version {stored.version}); the agent goes on with it, nothing needs to be restarted")


def _enrollment(state: Application, agent: str, owner_uid: Uid) -> Enrollment:
    for each in load_registry(state.layout.registry_folder):
        if (each.agent, each.owner_uid) == (agent, owner_uid):
            return each
    raise MisuseError(
        f"{printable(agent)} is not enrolled for user {owner_uid}", next_step="agent-broker agents lists who is"
    )


def _held(records: tuple[Credential, ...], enrollment: Enrollment, name: str) -> Credential:
    """The credential that is to be replaced: the named one, or that which the agent's phantom stands for."""
    mine = {
        each.id: each for each in records if (each.agent, each.owner_uid) == (enrollment.agent, enrollment.owner_uid)
    }
    if name:
        wanted = f"{enrollment.agent}/{enrollment.owner_uid}/{name}"
    else:
        phantoms = [each for each in mine.values() if each.kind == RECORD_KIND]
        wanted = phantoms[0].attributes.get(CREDENTIAL_ATTRIBUTE, "") if len(phantoms) == 1 else ""
    found = next((each for each in mine.values() if each.id == wanted and each.id in enrollment.credentials), None)
    if found is None:
        names = ", ".join(each.rpartition("/")[2] for each in enrollment.credentials)
        raise MisuseError(f"it is not clear which credential is meant: {names}", next_step="add --credential NAME")
    return found


def _new_login(state: Application, enrollment: Enrollment, held: Credential, *, device: bool) -> Secret:
    login_of = LOGINS[held.kind]
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    with one_login(state.layout.run_folder):
        terminal = LentTerminal()
        say(f"{enrollment.agent} logs in, in a private room: it leaves nothing there. Ctrl-C three times ends it.")
        try:
            fresh = log_in(
                enrollment,
                login_of,
                folder=state.layout.run_folder,
                terminal_fd=terminal.slave_fd,
                environment=environment,
                hand_over=terminal.hand_over,
                extra=_arguments(state, held, device=device),
            )
        finally:
            terminal.close()
    return fresh


def _attributes(held: Credential, fresh: Secret) -> dict[str, str]:
    """What is known of the credential besides: as before, but for the account, which the new login decides."""
    if held.kind not in LOGINS:
        return held.attributes
    account = checked_tokens(held.kind, fresh).account
    kept = {name: value for name, value in held.attributes.items() if name != ACCOUNT_ATTRIBUTE}
    return {**kept, ACCOUNT_ATTRIBUTE: account} if account else kept


def _arguments(state: Application, held: Credential, *, device: bool) -> tuple[str, ...]:
    """What the agent's login needs besides: Codex by a code, and at the operator's own login server if there is one."""
    if held.kind != OPENAI.kind:
        if device:
            raise MisuseError("--device is for codex only")
        return ()
    url = state.config().upstream.openai.oauth_token_url
    if url in {"", OPENAI.token_url}:
        return (_DEVICE,) if device else ()
    return (_DEVICE, "--experimental_issuer", url.removesuffix("/oauth/token"))


def _new_key(state: Application, held: Credential, *, from_stdin: bool) -> Secret:
    if from_stdin:
        text = sys.stdin.buffer.read(_MAX_KEY_BYTES).decode("utf-8", "surrogateescape")
    elif sys.stdin.isatty():
        text = getpass(f"New value of {held.id} (not shown): ", stream=sys.stderr)
    else:
        raise MisuseError("nobody can be asked for the key: the input is not a terminal", next_step="add --from-stdin")
    return checked_key(text, load_registry(state.layout.registry_folder))
