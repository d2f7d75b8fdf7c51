"""``agent-broker monitor``: the privileged daemon; nothing of the vault is imported here."""

from typing import Annotated, Literal

import typer

from agent_broker.cli import application
from agent_broker.cli.daemons import run_daemon
from agent_broker.kernel.pins import pins_folder, release

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
    release_pins: Annotated[
        bool,
        typer.Option(
            "--release-pins",
            help="End the denial that outlives the monitor, and exit: before the product is removed (tier enforce).",
        ),
    ] = False,
) -> None:
    """Run the monitor in the foreground: watches lineage and decoys; root only."""
    layout = application.of(context).layout
    if release_pins:
        typer.echo(f"{release(pins_folder(layout.root))} monitor(s) left programs in the kernel; they are removed")
        return
    run_daemon("monitor", layout, stop=None if on_critical is None else on_critical == "stop")
