"""``agent-broker alerts``: what was detected, newest last; ``--follow`` shows each one the moment it is recorded."""

import os
import sys
from typing import Annotated

import msgspec
import typer

from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.incident_text import incident_block
from agent_broker.cli.main import INTERRUPTED
from agent_broker.cli.terminal import columns, plural, safe_json, say
from agent_broker.monitor.incident import Incident
from agent_broker.transport.control_records import Missed

app = typer.Typer(add_completion=False)
_DECODER = msgspec.json.Decoder(Incident)


@app.command()
def alerts(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then show new ones as they come.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=0, max=10_000, help="How many stored ones to show.")] = 20,
) -> None:
    """Show alerts: what was opened or asked for, by which process, started by whom."""
    printer = _print_json if json else _Blocks()
    count = 0
    with reader(application.of(context).layout) as broker, broker.alerts(limit, follow=follow) as stream:
        if follow:
            say("following alerts; press Ctrl-C to stop")
        try:
            for alert in stream:
                if isinstance(alert, Missed):
                    say(f"{plural(alert.count, 'alert')} came too fast to be shown; see agent-broker alerts --limit N")
                else:
                    printer(alert)
                    count += 1
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    if not count and not json:
        say("no alerts")


def _print_json(incident: bytes) -> None:
    sys.stdout.write(safe_json(incident) + "\n")
    sys.stdout.flush()


class _Blocks:
    """Prints incidents as blocks, each flushed at once."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._colour = self._terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def __call__(self, incident: bytes) -> None:
        sys.stdout.write(incident_block(_DECODER.decode(incident), columns(), colour=self._colour))
        sys.stdout.flush()
