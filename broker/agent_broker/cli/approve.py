"""``agent-broker approve AGENT``: look at a new version of an enrolled agent, ask, enroll it instead of the old one."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.approve_text import show_update, update_record
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import (
    HashProgress,
    confirm,
    recipe_of,
    require_answer,
    require_root,
    site_of,
    uid_of,
    user_of,
)
from agent_broker.cli.plan_text import show_warnings
from agent_broker.cli.terminal import cell, console, print_json
from agent_broker.config.layout import Layout
from agent_broker.enroll.update import WhoWrote, find_update
from agent_broker.enroll.update import approve as enroll_update
from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.provenance import Provenance

app = typer.Typer(add_completion=False)


@app.command()
def approve(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="claude", show_default=False)],
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    binary: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The new executable.", show_default="where the old one was")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; with --yes.")] = False,
) -> None:
    """Enroll a new version of an agent instead of the old one, after a look at where it came from."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    recipe = recipe_of(agent, layout)
    uid = uid_of(user_of(user))
    with administrator(layout) as client, HashProgress() as progress:
        site = site_of(layout, client, lambda _: None)
        found = find_update(recipe, uid, site=site, who_wrote=_monitor(layout), given=binary, progress=progress)
    with administrator(layout) as client:
        if not json:
            show_update(found, console())
        confirm(f"Is this the update that you made of {recipe.agent}, and shall it be the agent?", yes=yes)
        problems = enroll_update(found, site_of(layout, client, lambda _: None))
    if json:
        print_json({"update": update_record(found), "approved": True, "warnings": problems})
    else:
        show_warnings(problems, console())
        console().print(cell(f"{recipe.agent} of {found.owner.name} is now {found.new.enrolled.path}", "bold"))


def _monitor(layout: Layout) -> WhoWrote:
    """Return a question to the monitor, which root may ask directly."""

    async def ask(fd: int) -> Provenance:
        async with MonitorClient(layout.monitor_socket) as client:
            return await client.who_wrote(fd)

    return lambda fd: asyncio.run(ask(fd))
