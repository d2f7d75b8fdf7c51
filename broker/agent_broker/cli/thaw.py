"""``agent-broker thaw``: undo a freeze."""

from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.target import thaw_target
from agent_broker.cli.terminal import cell, console, plural, print_json
from agent_broker.errors import MisuseError
from agent_broker.transport.control_records import Everything

app = typer.Typer(add_completion=False)


@app.command()
def thaw(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="NUMBER|AGENT", help="A freeze, or an agent.", show_default=False)
    ] = "",
    user: Annotated[
        str, typer.Option(metavar="USER", help="Of this user only; for an agent.", show_default="every user")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that is frozen.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Undo a freeze, all of an agent, or all; who was frozen may ask again."""
    if bool(target) == everything:
        raise MisuseError(
            "thaw needs the number of a freeze, an agent, or --all", next_step="agent-broker freeze --list shows them"
        )
    with administrator(application.of(context).layout) as broker:
        removed = broker.thaw(thaw_target(target, user) if target else Everything())
    if json:
        print_json({"thawed": removed})
    elif removed:
        console().print(cell(f"thawed: {plural(removed, 'freeze')}"))
    else:
        raise MisuseError("nothing of that is frozen", next_step="agent-broker freeze --list shows what is")
