"""``agent-broker unenroll AGENT``: put the user's files back, byte for byte, and forget the agent."""

from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import (
    confirm,
    require_answer,
    require_known,
    require_root,
    showing_steps,
    site_of,
    uid_of,
    user_of,
)
from agent_broker.cli.plan_text import show_report
from agent_broker.cli.terminal import console, print_json
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.undo import unenroll as undo_enrollment

app = typer.Typer(add_completion=False)


@app.command()
def unenroll(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="claude", show_default=False)],
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="As given to enroll, which remembers it: only checked.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; with --yes.")] = False,
) -> None:
    """Put an agent's files back as they were, with the secrets in them, and delete them from the vault."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    name = require_known(agent, layout)
    owner = user_of(user)
    uid = uid_of(owner) if home is None else owner_of(owner, home).uid
    with administrator(layout) as client:
        confirm(f"Put the secrets of {name} back into the files of {owner}?", yes=yes)
        with showing_steps("unenrolling") as on_step:
            report = undo_enrollment(name, uid, site_of(layout, client, on_step))
    if json:
        print_json({"report": report})
    else:
        show_report(report, console())
