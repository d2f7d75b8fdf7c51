"""``agent-broker daemon``: the broker itself."""

from importlib import import_module

import typer

from agent_broker.cli import application

app = typer.Typer(add_completion=False)


@app.command()
def daemon(context: typer.Context) -> None:
    """Run the broker in the foreground: holds the vault; starts as root and becomes its own user."""
    state = application.of(context)
    import_module("agent_broker.daemon").run(state.layout, state.config())
