"""``agent-broker alerts``: what was detected, newest last; ``--follow`` shows each one the moment it is recorded."""

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from agent_broker.cli import application
from agent_broker.cli.alert_rows import Row, Table, lines, row_of, update_line
from agent_broker.cli.broker import reader
from agent_broker.cli.incident_text import incident_block
from agent_broker.cli.main import INTERRUPTED
from agent_broker.cli.spans import parse_since
from agent_broker.cli.terminal import columns, plural, safe_json, say
from agent_broker.errors import MisuseError
from agent_broker.monitor.incident import Incident, rank
from agent_broker.transport.control_records import AlertFilter, Missed

app = typer.Typer(add_completion=False)
_DECODER = msgspec.json.Decoder(Incident)
_REMEMBERED = 10_000  # incidents whose next revision is told in short


class Severity(StrEnum):
    """The least that is shown."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@app.command()
def alerts(  # noqa: PLR0913, PLR0917 - options, named as people type them
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then show new ones as they come.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="Only those since 2h, 7d, 2026-11-22 ...")] = "",
    severity: Annotated[Severity, typer.Option(help="Only those at least so severe.")] = Severity.INFO,
    all: Annotated[bool, typer.Option("--all", help="Acknowledged ones too.")] = False,
    long: Annotated[bool, typer.Option("--long", help="A block of lines for each.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=0, max=10_000, help="How many stored ones to show.")] = 20,
) -> None:
    """Show alerts: what was opened or asked for, by which process, started by whom."""
    if long and json:
        raise MisuseError("--long and --json exclude each other")
    since_ns = parse_since(since, time.time_ns()) if since else 0
    wanted = AlertFilter(since_ns=since_ns, min_severity=severity.value, hide_acked=not all)
    printer = _printer(follow=follow, long=long, json=json)
    count = 0
    with (
        reader(application.of(context).layout) as broker,
        broker.alerts(limit, follow=follow, wanted=wanted) as stream,
    ):
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
    if isinstance(printer, _Rows):
        printer.end()
    if not count and not json:
        say("no alerts")


def _printer(*, follow: bool, long: bool, json: bool) -> "Callable[[bytes], None]":
    if json:
        return _print_json
    if long:
        return _Blocks()
    return _Lines() if follow else _Rows()


def _print_json(incident: bytes) -> None:
    sys.stdout.write(safe_json(incident) + "\n")
    sys.stdout.flush()


def shows_colour() -> bool:
    """Tell whether stdout is a terminal whose user wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Blocks:
    """Prints incidents as blocks, each flushed at once."""

    def __init__(self) -> None:
        self._colour = shows_colour()

    def __call__(self, incident: bytes) -> None:
        sys.stdout.write(incident_block(_DECODER.decode(incident), columns(), colour=self._colour))
        sys.stdout.flush()


class _Rows:
    """Prints the table once all rows are known."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._now_ns = time.time_ns()

    def __call__(self, incident: bytes) -> None:
        self._rows.append(row_of(_DECODER.decode(incident), self._now_ns, columns()))

    def end(self) -> None:
        """Print."""
        if self._rows:
            sys.stdout.writelines(lines(self._rows, columns(), colour=shows_colour()))
            sys.stdout.flush()


class _Lines:
    """Prints each incident as a line at once; a further revision of a shown one in short, unless it grew severe."""

    def __init__(self) -> None:
        self._table = Table(columns(), colour=shows_colour())
        self._shown: OrderedDict[str, int] = OrderedDict()
        self._has_head = False

    def __call__(self, incident: bytes) -> None:
        each = _DECODER.decode(incident)
        if self._shown.get(each.id, -1) >= rank(each.severity):
            text = update_line(each, columns())
        else:
            text = self._table.line(row_of(each, time.time_ns(), columns()))
        if not self._has_head:
            text, self._has_head = self._table.head() + text, True
        sys.stdout.write(text)
        sys.stdout.flush()
        self._shown[each.id] = max(rank(each.severity), self._shown.get(each.id, -1))
        self._shown.move_to_end(each.id)
        if len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)
