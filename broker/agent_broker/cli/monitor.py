"""``agent-broker monitor``: the privileged daemon; nothing of the vault is imported here."""

import typer

from agent_broker.cli import application
from agent_broker.cli.daemons import run_daemon

app = typer.Typer(add_completion=False)


@app.command()
def monitor(context: typer.Context) -> None:
    """Run the monitor in the foreground: watches lineage and decoys; root only."""
    run_daemon("monitor", application.of(context).layout)
