"""``agent-broker credentials``: what the vault holds, never a value."""

from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.terminal import cell, console, print_json, say, table, user_name, when

app = typer.Typer(add_completion=False)


@app.command()
def credentials(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON array of credentials.")] = False,
) -> None:
    """Show what the vault holds: names and kinds, never values."""
    with reader(application.of(context).layout) as broker:
        held = broker.credentials()
    if json:
        print_json(held)
        return
    if not held:
        say("the vault is empty; next: sudo agent-broker enroll claude")
        return
    shown = table("id", "kind", "owner", "version", "changed")
    for each in held:
        shown.add_row(
            cell(each.id),
            cell(each.kind),
            cell(user_name(each.owner_uid)),
            cell(each.version),
            cell(when(each.updated_ns, to_the="minute")),
        )
    console().print(shown)
