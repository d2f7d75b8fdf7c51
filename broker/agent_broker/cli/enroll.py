"""``agent-broker enroll AGENT``: show what would be done, ask, do all of it or nothing."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import (
    HashProgress,
    confirm,
    recipe_of,
    require_answer,
    require_root,
    showing_steps,
    site_of,
    user_of,
)
from agent_broker.cli.plan_text import plan_record, show_plan, show_report
from agent_broker.cli.terminal import console, print_json, say
from agent_broker.config.document import Config, Inject
from agent_broker.config.layout import Layout
from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.plan import Plan, make_plan
from agent_broker.enroll.recover import recover as recover_all
from agent_broker.enroll.report import Report
from agent_broker.errors import MisuseError
from agent_broker.identity.planted import load_planted
from agent_broker.transport.control_client import ControlClient

app = typer.Typer(add_completion=False)


@app.command()
def enroll(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="claude", show_default=False)] = "",
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its files are.", show_default="the user's home")
    ] = None,
    binary: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="The agent's executable; repeatable.", show_default="searched"),
    ] = None,
    deny_decoys: Annotated[
        bool | None,
        typer.Option("--deny-decoys/--serve-decoys", help="What others get who open a decoy.", show_default="config"),
    ] = None,
    allow_env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Variable that is no taint; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    while_running: Annotated[
        bool, typer.Option("--while-running", help="Although the agent runs: it must be restarted after.")
    ] = False,
    recover: Annotated[bool, typer.Option("--recover", help="Finish what a crash interrupted.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; with --dry-run, --yes or --recover.")] = False,
) -> None:
    """Move an agent's secrets into the vault, leave decoys, and wire the agent to the broker."""
    state = application.of(context)
    require_root()
    if recover:
        _recover(state.layout, json=json)
        return
    require_answer(json=json, given=yes or dry_run, how="--yes or --dry-run")
    config = state.config()
    with nullcontext() if dry_run else administrator(state.layout) as client:
        plan = _plan(state.layout, config, agent, (user, home), (binary or (), allow_env or ()), deny_decoys)
        if not json:
            show_plan(plan, console())
        report = None
        if client is not None:
            _require_at_rest(plan, while_running=while_running)
            confirm(f"Enroll {plan.agent} of {plan.owner.name}?", yes=yes)
            report = _apply(state.layout, config.inject, plan, client)
    if json:
        print_json({"plan": plan_record(plan), "report": report})
    elif report is not None:
        show_report(report, console(), as_planned=True)


def _require_at_rest(plan: Plan, *, while_running: bool) -> None:
    if plan.running and not while_running:
        raise MisuseError(
            f"{plan.agent} runs now (pid {', '.join(map(str, plan.running))}): it holds the old secret, and may write "
            "the files that are changed",
            next_step="end it and enroll again, or add --while-running and restart it after",
        )


def _plan(  # noqa: PLR0913, PLR0917 - what the options say
    layout: Layout,
    config: Config,
    agent: str,
    whose: tuple[str, Path | None],
    lists: tuple[Sequence[Path], Sequence[str]],
    deny_decoys: bool | None,  # noqa: FBT001 - None: as configured
) -> Plan:
    if not agent:
        raise MisuseError("enroll needs to know which agent", next_step="agent-broker enroll claude")
    user, home = whose
    binaries, allow_env = lists
    recipe = recipe_of(agent, layout)
    owner = owner_of(user_of(user), home)
    with HashProgress() as progress:
        return make_plan(
            recipe,
            owner,
            registry_dir=layout.registry_folder,
            binaries=binaries,
            search_path=[Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder],
            deny_decoys=config.decoys.deny if deny_decoys is None else deny_decoys,
            allow_env=allow_env,
            progress=progress,
            planted=load_planted(layout.decoys_folder),
        )


def _apply(layout: Layout, inject: Inject, plan: Plan, client: ControlClient) -> Report:
    with showing_steps("enrolling") as on_step:
        return apply_plan(plan, site_of(layout, client, on_step), injection_url=injection_url(inject))


def injection_url(inject: Inject) -> str:
    """Return the address of the broker's endpoint as an agent is to call it."""
    host = f"[{inject.address}]" if ":" in inject.address else inject.address
    return f"http://{host}:{inject.port}"


def _recover(layout: Layout, *, json: bool) -> None:
    with administrator(layout) as client, showing_steps("recovering") as on_step:
        reports = recover_all(site_of(layout, client, on_step))
    if json:
        print_json({"reports": reports})
        return
    for report in reports:
        show_report(report, console())
    if not reports:
        say("nothing was interrupted")
