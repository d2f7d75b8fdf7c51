"""``agent-broker unenroll AGENT...``: put the user's files back, byte for byte, and forget the agent."""

from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enroll_file import FileAsking, unenroll_file
from agent_broker.cli.enrolling import (
    RECIPES,
    confirm,
    require_answer,
    require_known,
    require_root,
    showing_steps,
    site_of,
    uid_of,
    user_of,
)
from agent_broker.cli.several import Ended, ended_record, leave, names_of, one_by_one, show_ended
from agent_broker.cli.terminal import print_json
from agent_broker.config.layout import Layout
from agent_broker.enroll import gh
from agent_broker.enroll.added import only_in_vault
from agent_broker.enroll.launcher import RUN
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.report import Report
from agent_broker.enroll.undo import unenroll as undo_enrollment
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registries
from agent_broker.ids import AgentName, Uid

app = typer.Typer(add_completion=False)


@app.command()
def unenroll(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="AGENT...", help=", ".join(RECIPES), show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every enrolled agent of the user.")] = False,
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="As given to enroll, which remembers it: only checked.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PATH", help="Put this file back, which is a view.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; with --yes.")] = False,
) -> None:
    """Put agents' files back as they were, with the secrets in them, and delete them from the vault."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    if agents == [gh.TOOL]:
        file = Path(gh.HOSTS)
    if file is not None:
        unenroll_file(layout, file, owner_of(user_of(user), home), FileAsking(yes, dry_run=False, json=json))
        return
    named = names_of(agents or (), every=every, command="unenroll")
    owner = user_of(user)
    uid = uid_of(owner) if home is None else owner_of(owner, home).uid
    names = tuple(require_known(name, layout) for name in named) or _enrolled(layout, uid)
    with administrator(layout) as client:
        site = site_of(layout, client, lambda _: None)
        lost = [each for name in names for each in only_in_vault(site, AgentName(name), uid)]
        gone = f" {', '.join(lost)}, which no file had, will be deleted." if lost else ""
        confirm(f"Put the secrets of {', '.join(names)} back into the files of {owner}?{gone}", yes=yes)

        def undo(name: str) -> Report:
            with showing_steps("unenrolling") as on_step:
                return undo_enrollment(AgentName(name), uid, site_of(layout, client, on_step))

        ended = one_by_one(names, undo) if len(names) > 1 else [Ended(names[0], undo(names[0]))]
    if json:
        single = {"report": ended[0].report}
        print_json(single if len(named) == 1 else {"unenrolments": [ended_record(each) for each in ended]})
    else:
        show_ended(ended, as_planned=False)
    leave(ended)


def _enrolled(layout: Layout, uid: Uid) -> tuple[AgentName, ...]:
    registered = load_registries(layout.registries)
    found = tuple(each.agent for each in registered if each.owner_uid == uid and each.agent != RUN)
    if not found:
        raise MisuseError("no agent of this user is enrolled", next_step="agent-broker agents")
    return found
