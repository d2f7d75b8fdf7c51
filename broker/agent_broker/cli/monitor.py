"""``agent-broker monitor``: the privileged daemon; nothing of the vault is imported here."""

from typing import Annotated, Literal

import typer

from agent_broker.cli import application
from agent_broker.cli.daemons import run_daemon

app = typer.Typer(add_completion=False)


@app.command()
def monitor(
    context: typer.Context,
    on_critical: Annotated[
        Literal["stop", "freeze"] | None,
        typer.Option(
            help="stop: also send SIGSTOP to the offender of a critical incident; freeze: don't.",
            show_default="[freeze] stop of the configuration",
        ),
    ] = None,
) -> None:
    """Run the monitor in the foreground: watches lineage and decoys; root only."""
    run_daemon("monitor", application.of(context).layout, stop=None if on_critical is None else on_critical == "stop")
