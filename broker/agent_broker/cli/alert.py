"""``agent-broker alert``: one alert, told whole; and what a person says about it."""

import os
import sys
import time
from typing import Annotated

import typer

from agent_broker.audit.acks import MAX_REASON_CHARS, Alert
from agent_broker.cli import application
from agent_broker.cli.alert_rows import ID_CHARS
from agent_broker.cli.alerts import shows_colour
from agent_broker.cli.broker import administrator, reader
from agent_broker.cli.spans import parse_span
from agent_broker.cli.story import shown, story_of
from agent_broker.cli.story_text import story_text
from agent_broker.cli.terminal import columns, print_json, say, when
from agent_broker.config.layout import Layout
from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.ids import Uid
from agent_broker.transport.control_client import ControlClient
from agent_broker.transport.control_records import Acknowledgement

app = typer.Typer(add_completion=False, no_args_is_help=True)
_ID = typer.Argument(metavar="ID", help="Of the alert, or its first letters.", show_default=False)


@app.callback()
def alert() -> None:
    """Show one alert whole, or acknowledge it."""


@app.command()
def show(
    context: typer.Context,
    id: Annotated[str, _ID],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell one alert: what happened, the lineage as a tree, the timeline, what to do."""
    with reader(application.of(context).layout) as broker:
        found = broker.alert(id)
    if json:
        print_json(found)
    else:
        sys.stdout.write(story_text(story_of(found), columns(), colour=shows_colour()))


@app.command()
def ack(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    id: Annotated[str, _ID],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it needs no more attention.")] = "",
    allow: Annotated[bool, typer.Option("--allow", help="Let its program open that from now on.")] = False,
    expires: Annotated[str, typer.Option(metavar="30d", help="With --allow: for how long.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object: the alert as it is then.")] = False,
) -> None:
    """Acknowledge an alert: it is shown with --all only, unless it grows more severe. Root only."""
    if expires and not allow:
        raise MisuseError("--expires goes with --allow")
    if allow and not reason.strip():
        raise MisuseError("what is allowed needs a reason", next_step='--reason "..."')
    if len(reason) > MAX_REASON_CHARS:
        raise MisuseError(f"a reason has at most {MAX_REASON_CHARS} characters")
    lasts_ns = parse_span(expires) if expires else 0
    layout = application.of(context).layout
    with administrator(layout) as broker:
        found = broker.alert(id)
        program, expires_ns = _allow(broker, layout, found, reason, lasts_ns) if allow else ("", 0)
        done = broker.acknowledge(Acknowledgement(found.id, reason.strip(), _person(), program, expires_ns))
    if json:
        print_json(done)
    else:
        sys.stdout.write(f"acknowledged: {done.id[:ID_CHARS]}\n")


def _allow(broker: ControlClient, layout: Layout, alert: Alert, reason: str, lasts_ns: int) -> tuple[str, int]:
    """Write the record, put it in force; return the program and when that ends."""
    from agent_broker.cli.allowing import allowed_program, write_allowed  # noqa: PLC0415 - for --allow only

    record = allowed_program(alert, reason.strip(), time.time_ns(), lasts_ns)
    write_allowed(layout.allowed_folder, record)
    until = f" until {when(record.expires_ns, to_the='minute')}" if record.expires_ns else ""
    say(f"allowed{until}: {shown(record.program)} (sha256 {record.sha256[:16]}...) opens {_opened(record.opens)}")
    say("every process that runs this very file may now open it without an alert, unless an agent started it")
    say(f"take it back: sudo agent-broker paths forbid {record.sha256[:16]}")
    try:
        broker.reload()
    except AgentBrokerError as error:
        say(f"it is in force when the monitor has read it: {error.message}")
    return record.program, record.expires_ns


def _opened(paths: tuple[str, ...]) -> str:
    first = shown(paths[0])
    return f"{first} and {len(paths) - 1} more" if len(paths) > 1 else first


def _person() -> Uid:
    """Return who says so: the user that called sudo, if it was sudo."""
    told = os.environ.get("SUDO_UID", "")
    return Uid(int(told)) if told.isascii() and told.isdecimal() and int(told) < 1 << 32 else Uid(os.getuid())
