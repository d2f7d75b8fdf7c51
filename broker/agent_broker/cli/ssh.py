"""``agent-broker ssh``: the keys that the broker signs with, and what each may be used for."""

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator, reader
from agent_broker.cli.enrolling import confirm, require_answer, require_root, uid_of, user_of
from agent_broker.cli.ssh_add import add, remove
from agent_broker.cli.terminal import cell, console, print_json, printable, say, table, user_name
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.ids import CredentialId, Uid
from agent_broker.ssh.binding import Destination, Limits, fingerprint
from agent_broker.ssh.hosts import NamedHost, host_keys_of, named_host
from agent_broker.ssh.record import AGENT, KIND, KeyFacts, facts_of
from agent_broker.transport.control_client import ControlClient
from agent_broker.vault.record import Credential

SYSTEM_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")
USER_HOSTS: Final = ".ssh/known_hosts"
_LOOKUP_S: Final = 30

app = typer.Typer(add_completion=False, no_args_is_help=True)

_Key = Annotated[str, typer.Argument(metavar="KEY", help="As `ssh keys` calls it: id_ed25519.", show_default=False)]
_User = Annotated[str, typer.Option(metavar="USER", help="Whose key.", show_default="who called sudo")]
_Home = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where known_hosts is.", show_default="the user's home")
]
_Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="[USER@]HOST[:PORT]", help="Only for these; HOST=SHA256:... names its key."),
]
_AnyClient = Annotated[
    bool, typer.Option("--any-client", help="Also for clients that don't prove their host (paramiko, asyncssh).")
]
_Forwarding = Annotated[
    bool, typer.Option("--forwarding", help="Also for machines to which the agent is forwarded (ssh -A).")
]
_Sign = Annotated[
    list[str] | None, typer.Option(metavar="NAMESPACE", help="Files it may sign: git, file ...; repeatable.")
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def ssh() -> None:
    """Show the keys of the broker's ssh-agent, add and remove some, and limit what they may be used for."""


app.command()(add)
app.command()(remove)


@app.command()
def keys(context: typer.Context, json: _Json = False) -> None:
    """Show the keys: public halves and limits, never a private key."""
    with reader(application.of(context).layout) as broker:
        held = [each for each in broker.credentials() if each.kind == KIND]
    if json:
        print_json([_record(each) for each in held])
        return
    if not held:
        say("the broker holds no key of SSH; next: sudo agent-broker enroll ssh")
        return
    shown = table("key", "owner", "fingerprint", "comment", "may be used")
    for each in held:
        facts = facts_of(each.attributes, each.id)
        cells = (_name(each), user_name(each.owner_uid), fingerprint(facts.blob), facts.comment, _words(facts.limits))
        shown.add_row(*map(cell, cells))
    console().print(shown)


@app.command()
def limit(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    key: _Key,
    user: _User = "",
    home: _Home = None,
    hosts: _Hosts = None,
    any_client: _AnyClient = False,
    forwarding: _Forwarding = False,
    sign: _Sign = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: _Json = False,
) -> None:
    """Say anew what a key may be used for; without options: logins to any host that proves itself, and any file."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    if any_client and hosts:
        raise MisuseError(
            "--any-client and --host exclude each other: such a client does not say where it logs in",
            next_step="give its programs a key of their own",
        )
    owner_uid = uid_of(user_of(user))
    destinations = tuple(_destination(named_host(each), user_of(user), home) for each in hosts or ())
    limits = Limits(destinations, not any_client, forwarding, tuple(sign) if sign else None)
    with administrator(layout) as client:
        record = _find(client.credentials(), key, owner_uid)
        _show(destinations)
        confirm(f"From now on, {printable(key)} may be used: {_words(limits)}?", yes=yes)
        _store(client, record, limits)
    if json:
        print_json({"key": key, "limits": limits})
        return
    console().print(cell(f"{key} may be used: {_words(limits)}", "bold"))


def _store(client: ControlClient, record: Credential, limits: Limits) -> None:
    secret = client.get_credential(record.id)
    if secret is None:
        raise MisuseError(f"the key {record.id} is gone", next_step="agent-broker ssh keys")
    facts = facts_of(record.attributes, record.id)
    client.put_credential(record.id, KIND, secret, KeyFacts(facts.blob, facts.comment, limits).attributes())
    client.reload()


def _destination(wanted: NamedHost, user: str, home: Path | None) -> Destination:
    """Return the host with the keys that are known of it.

    Raises:
        MisuseError: none is.
    """
    shown = (wanted.fingerprint,) if wanted.fingerprint else _known_keys(wanted, user, home)
    if not shown:
        raise MisuseError(
            f"no key of {printable(wanted.name)} is known",
            next_step="log in to it once, or name its key, as its owner publishes it: --host HOST=SHA256:...",
        )
    return Destination(wanted.host, shown, wanted.user)


def _known_keys(wanted: NamedHost, user: str, home: Path | None) -> tuple[str, ...]:
    with UserFiles(owner_of(user, home)) as files:
        content = files.read(USER_HOSTS)
    texts = [b"" if content is None else content.data]
    if SYSTEM_HOSTS.is_file():
        texts.append(SYSTEM_HOSTS.read_bytes())
    found = [each for text in texts for each in host_keys_of(_looked_up(text, wanted.name))]
    return tuple(dict.fromkeys(found))


def _looked_up(text: bytes, name: str) -> bytes:
    """Return the lines about a host; ssh-keygen knows hashed names. It gets a copy that only root can change."""
    with tempfile.NamedTemporaryFile(prefix="agent-broker-") as copy:
        copy.write(text)
        copy.flush()
        command = ("ssh-keygen", "-F", name, "-f", copy.name)
        return subprocess.run(command, capture_output=True, timeout=_LOOKUP_S, check=False).stdout


def _find(held: tuple[Credential, ...], key: str, owner_uid: Uid) -> Credential:
    wanted = CredentialId(f"{AGENT}/{owner_uid}/{key}")
    for each in held:
        if each.id == wanted and each.kind == KIND:
            return each
    raise MisuseError(f"there is no key {printable(key)} of this user", next_step="agent-broker ssh keys")


def _show(destinations: tuple[Destination, ...]) -> None:
    for each in destinations:
        for shown in each.host_keys:
            say(f"{printable(each.host)} has the key {shown}")


def _words(limits: Limits) -> str:
    where = ", ".join(f"{each.user}@{each.host}" if each.user else each.host for each in limits.destinations)
    words = [
        f"logins to {where}" if where else "logins to any host" + ("" if limits.needs_binding else ", proven or not")
    ]
    if limits.allows_forwarding:
        words.append("by forwarding too")
    if limits.namespaces is not None:
        words.append(f"files of {', '.join(limits.namespaces)}")
    elif not where:
        words.append("files")
    return "; ".join(words)


def _name(record: Credential) -> str:
    return record.id.split("/", 2)[2]


def _record(record: Credential) -> dict[str, object]:
    facts = facts_of(record.attributes, record.id)
    return {
        "key": _name(record),
        "credential": record.id,
        "owner_uid": record.owner_uid,
        "fingerprint": fingerprint(facts.blob),
        "public_key": record.attributes["public_key"],
        "limits": facts.limits,
    }
