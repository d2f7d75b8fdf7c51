"""``agent-broker monitor``: the privileged daemon; nothing of the vault is imported here."""

from importlib import import_module

import typer

from agent_broker.cli import application

app = typer.Typer(add_completion=False)


@app.command()
def monitor(context: typer.Context) -> None:
    """Run the monitor in the foreground: watches lineage and decoys; root only."""
    state = application.of(context)
    import_module("agent_broker.monitor_main").run(state.layout, state.config())
