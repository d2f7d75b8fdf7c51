"""``agent-broker thaw``: undo a freeze."""

from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.target import thaw_target
from agent_broker.cli.terminal import cell, console, plural, print_json, say
from agent_broker.errors import MisuseError
from agent_broker.transport.control_records import Everything

_OUT_OF_REACH = (
    "the monitor was started since, or does not answer: if an alert says that one of them was stopped, it stands\n"
    "still until you type: sudo kill -CONT PID"
)

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
        done = broker.thaw(thaw_target(target, user) if target else Everything())
    if json:
        print_json({"thawed": done.freezes, "continued": done.continued, "out_of_reach": done.out_of_reach})
    elif done.freezes:
        went_on = f"; {plural(done.continued, 'stopped process')} told to go on" if done.continued else ""
        console().print(cell(f"thawed: {plural(done.freezes, 'freeze')}{went_on}"))
        if done.out_of_reach:
            say(_OUT_OF_REACH)
    else:
        raise MisuseError("nothing of that is frozen", next_step="agent-broker freeze --list shows what is")
