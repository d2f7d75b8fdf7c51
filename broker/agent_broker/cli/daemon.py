"""``agent-broker daemon``: the broker itself."""

import typer

from agent_broker.cli import application
from agent_broker.cli.daemons import run_daemon

app = typer.Typer(add_completion=False)


@app.command()
def daemon(context: typer.Context) -> None:
    """Run the broker in the foreground: holds the vault; starts as root and becomes its own user."""
    run_daemon("daemon", application.of(context).layout)
