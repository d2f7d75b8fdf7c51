"""``agent-broker freeze``: end a process's or an agent's grants, and give no new ones until thawed."""

from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator, reader
from agent_broker.cli.frozen_text import frozen_table, who
from agent_broker.cli.target import freeze_target
from agent_broker.cli.terminal import cell, console, print_json, say
from agent_broker.errors import MisuseError

app = typer.Typer(add_completion=False)


@app.command()
def freeze(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="PID|AGENT", help="Who.", show_default=False)] = "",
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; shown to whoever is refused.", show_default=False)
    ] = "",
    user: Annotated[
        str, typer.Option(metavar="USER", help="Of this user only; for an agent.", show_default="every user")
    ] = "",
    show: Annotated[bool, typer.Option("--list", help="Show what is frozen, change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Stop giving anything to a process and its descendants, or to an agent."""
    layout = application.of(context).layout
    if show:
        with reader(layout) as broker:
            frozen = broker.frozen()
        if json:
            print_json(frozen)
        elif frozen:
            console().print(frozen_table(frozen))
        else:
            say("nothing is frozen")
        return
    if not target or not reason.strip():
        raise MisuseError("freeze needs to know who and why", next_step='agent-broker freeze PID|AGENT --reason "..."')
    with administrator(layout) as broker:
        made = broker.freeze(freeze_target(target, user), reason)
    if json:
        print_json(made)
    else:
        console().print(cell(f"frozen: {who(made)}; undo it with: agent-broker thaw {made.id}"))
