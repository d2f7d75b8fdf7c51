"""``agent-broker enroll AGENT...``: show what would be done, ask, do all of it or nothing of each agent."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import (
    RECIPES,
    HashProgress,
    confirm,
    known_agents,
    recipe_of,
    require_answer,
    require_root,
    showing_steps,
    site_of,
    user_of,
    with_exports,
)
from agent_broker.cli.plan_text import plan_record, show_plan, show_report
from agent_broker.cli.replanning import apply_what_holds
from agent_broker.cli.several import Ended, ended_record, leave, names_of, one_by_one, show_ended
from agent_broker.cli.terminal import cell, console, labelled, print_json, printable, say
from agent_broker.config.document import Config, Inject
from agent_broker.config.layout import Layout
from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.plan import Plan, make_plan
from agent_broker.enroll.recover import recover as recover_all
from agent_broker.enroll.report import Report
from agent_broker.errors import MisuseError
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import ONLY_ACCOUNT
from agent_broker.ids import ACCOUNT_NAMES, is_account_name
from agent_broker.transport.control_client import ControlClient

app = typer.Typer(add_completion=False)

_As = Annotated[str, typer.Option("--as", metavar="NAME", help="What the account of its key is called (see account).")]


_Binary = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="The agent's executable; repeatable.", show_default="searched"),
]
_DenyDecoys = Annotated[
    bool | None,
    typer.Option("--deny-decoys/--serve-decoys", help="What others get who open a decoy.", show_default="config"),
]
_Profiles = Annotated[
    bool | None,
    typer.Option("--profiles/--no-profiles", help="Move keys that profiles and .env files set.", show_default="ask"),
]


@dataclass(frozen=True)
class _Wanted:
    """What the options say."""

    names: tuple[str, ...]
    """None: every agent."""
    whose: tuple[str, Path | None]
    binaries: Sequence[Path]
    allow_env: Sequence[str]
    deny_decoys: bool | None
    """None: as configured."""
    profiles: bool
    """Move what profiles export."""
    account: str
    """What the account of its key is called."""


@dataclass(frozen=True)
class _Asking:
    """How a person is talked to."""

    yes: bool
    profiles: bool
    while_running: bool
    shows: bool


@dataclass(frozen=True)
class _Planned:
    """The plans, and why some agents have none."""

    plans: tuple[Plan, ...]
    left_out: tuple[Ended, ...] = ()


@app.command()
def enroll(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="AGENT...", help=", ".join(RECIPES), show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every agent that can be enrolled.")] = False,
    user: Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")] = "",
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its files are.", show_default="the user's home")
    ] = None,
    binary: _Binary = None,
    deny_decoys: _DenyDecoys = None,
    profiles: _Profiles = None,
    account: _As = ONLY_ACCOUNT,
    allow_env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Variable that is no taint; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; profiles stay unless --profiles.")] = False,
    while_running: Annotated[
        bool, typer.Option("--while-running", help="Although the agent runs: it must be restarted after.")
    ] = False,
    recover: Annotated[bool, typer.Option("--recover", help="Finish what a crash interrupted.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; with --dry-run, --yes or --recover.")] = False,
) -> None:
    """Move agents' secrets into the vault, leave decoys, and wire the agents to the broker."""
    state = application.of(context)
    require_root()
    if recover:
        _recover(state.layout, json=json)
        return
    require_answer(json=json, given=yes or dry_run, how="--yes or --dry-run")
    names = names_of(agents or (), every=every, command="enroll")
    if len(names) != 1 and (binary or allow_env):
        raise MisuseError("--binary and --allow-env go with one agent", next_step="name one agent")
    wanted = _Wanted(names, (user, home), binary or (), allow_env or (), deny_decoys, bool(profiles), account)
    asking = _Asking(yes=yes, profiles=profiles is None and not yes, while_running=while_running, shows=not json)
    with nullcontext() if dry_run else administrator(state.layout) as client:
        planned, ended = _run(state.layout, state.config(), wanted, asking, client)
    if json:
        print_json(_record(planned, ended, single=len(names) == 1))
    else:
        show_ended(ended, as_planned=True)
    leave((*ended, *(planned.left_out if not planned.plans else ())))


def _run(
    layout: Layout, config: Config, wanted: _Wanted, asking: _Asking, client: ControlClient | None
) -> tuple[_Planned, list[Ended]]:
    """Plan, show, ask, apply; without a client only the first two."""
    if client is None:
        return _plan_and_show(layout, config, wanted, asking), []
    make = partial(_plan_and_agree, layout, config, wanted, asking)
    return apply_what_holds(make, partial(_apply_all, layout, config.inject, client))


def _plan_and_show(layout: Layout, config: Config, wanted: _Wanted, asking: _Asking) -> _Planned:
    planned = _plan_all(layout, config, wanted)
    if asking.shows:
        _show(planned)
    return planned


def _plan_and_agree(layout: Layout, config: Config, wanted: _Wanted, asking: _Asking) -> _Planned:
    """Return the plans that were shown and agreed to."""
    planned = _plan_and_show(layout, config, wanted, asking)
    for plan in planned.plans:
        _require_at_rest(plan, while_running=asking.while_running)
    if asking.profiles and _agrees_to_profiles(planned.plans):
        planned = _plan_all(layout, config, replace(wanted, profiles=True))
    if planned.plans:
        whom = ", ".join(plan.agent for plan in planned.plans)
        confirm(f"Enroll {whom} of {planned.plans[0].owner.name}?", yes=asking.yes)
    return planned


def _record(planned: _Planned, ended: list[Ended], *, single: bool) -> dict[str, Any]:
    if single:
        (plan,) = planned.plans
        return {"plan": plan_record(plan), "report": ended[0].report if ended else None}
    done = {each.agent: ended_record(each) for each in ended}
    nothing = {"report": None, "error": None}
    return {
        "enrolments": [
            {"agent": plan.agent, "plan": plan_record(plan), **done.get(plan.agent, nothing)} for plan in planned.plans
        ],
        "left_out": [ended_record(each) for each in planned.left_out],
    }


def _show(planned: _Planned) -> None:
    out = console()
    for plan in planned.plans:
        show_plan(plan, out)
    for each in planned.left_out:
        if each.error is not None:
            out.print(cell("\n".join(labelled("left out", f"{each.agent}: {each.error.message}", out.width))))


def _agrees_to_profiles(plans: tuple[Plan, ...]) -> bool:
    """Ask apart from the enrolment, since these files are not the agent's own."""
    movable = list(dict.fromkeys(each for plan in plans for each in plan.movable))
    if not movable or not sys.stdin.isatty():
        return False
    return typer.confirm(f"Also move {', '.join(map(printable, movable))} to the vault?", err=True)


def _require_at_rest(plan: Plan, *, while_running: bool) -> None:
    if plan.running and not while_running:
        raise MisuseError(
            f"{plan.agent} runs now (pid {', '.join(map(str, plan.running))}): it holds the old secret, and may write "
            "the files that are changed",
            next_step="end it and enroll again, or add --while-running and restart it after",
        )


def _plan_all(layout: Layout, config: Config, wanted: _Wanted) -> _Planned:
    """Plan each that is named; of all, those that can be enrolled.

    Raises:
        MisuseError: one that is named can't be; nothing was changed.
    """
    if wanted.names:
        return _Planned(tuple(_plan(layout, config, name, wanted) for name in wanted.names))
    plans, left_out = [], []
    for name in known_agents(layout):
        try:
            plans.append(_plan(layout, config, name, wanted))
        except MisuseError as error:
            left_out.append(Ended(name, None, error))
    return _Planned(tuple(plans), tuple(left_out))


def _plan(layout: Layout, config: Config, agent: str, wanted: _Wanted) -> Plan:
    user, home = wanted.whose
    planted = load_planted(layout.decoys_folder)
    recipe = with_exports(recipe_of(agent, layout), layout, move=wanted.profiles)
    owner = owner_of(user_of(user), home)
    if not is_account_name(wanted.account):
        raise MisuseError(ACCOUNT_NAMES)
    with HashProgress() as progress:
        plan = make_plan(
            recipe,
            owner,
            registry_dir=layout.registry_folder,
            binaries=wanted.binaries,
            search_path=[Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder],
            deny_decoys=config.decoys.deny if wanted.deny_decoys is None else wanted.deny_decoys,
            allow_env=wanted.allow_env,
            progress=progress,
            planted=planted,
        )
    return replace(plan, account=wanted.account)


def _apply_all(layout: Layout, inject: Inject, client: ControlClient, planned: _Planned) -> list[Ended]:
    """Carry out each plan; of a single one, an error is raised as it is."""
    plans = planned.plans
    if len(plans) == 1:
        return [Ended(plans[0].agent, _apply(layout, inject, plans[0], client))]
    by_name = {str(plan.agent): plan for plan in plans}
    return one_by_one(by_name, lambda name: _apply(layout, inject, by_name[name], client))


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
