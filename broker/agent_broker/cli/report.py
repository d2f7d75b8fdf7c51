"""``agent-broker report``: one alert as a page for a browser, to keep, to send, to print."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.new_file import write_new
from agent_broker.cli.terminal import printable, say
from agent_broker.errors import MisuseError

app = typer.Typer(add_completion=False)
_STDOUT = "-"


@app.command()
def report(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(metavar="ID", help="Of the alert, or its first letters.", show_default=False)],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; - is stdout.", show_default=False)
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write one alert as a self-contained page: story, lineage tree, timeline. It loads nothing and runs nothing."""
    from agent_broker.cli.report_page import report_page  # noqa: PLC0415 - a template engine for one command

    if not output:
        raise MisuseError("-o names no file", next_step="-o incident.html")
    with reader(application.of(context).layout) as broker:
        found = broker.alert(alert)
    page = report_page(found, time.time_ns())
    if output == _STDOUT:
        sys.stdout.write(page)
        return
    write_new(Path(output), page.encode("utf-8", "backslashreplace"), replace=force)
    say(f"written: {printable(output)}")
