"""``agent-broker enroll AGENT...``: show what would be done, ask, do all of it or nothing of each agent."""

import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enroll_file import FileAsking, enroll_file, recover_files, require_no_agent
from agent_broker.cli.enroll_plans import Planned, Wanted, plan_all, renewed, require_at_rest
from agent_broker.cli.enrolling import (
    RECIPES,
    SHIM,
    confirm,
    require_answer,
    require_root,
    showing_steps,
    site_of,
    user_of,
)
from agent_broker.cli.plan_text import plan_record, show_plan, show_report
from agent_broker.cli.replanning import apply_what_holds
from agent_broker.cli.several import Ended, ended_record, leave, names_of, one_by_one, show_ended
from agent_broker.cli.terminal import cell, console, labelled, print_json, printable, say
from agent_broker.config.document import Config, Inject
from agent_broker.config.layout import Layout
from agent_broker.enroll import gh
from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.owner import Owner, everybody, owner_of
from agent_broker.enroll.plan import Plan
from agent_broker.enroll.recover import recover as recover_all
from agent_broker.enroll.report import Report
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import ONLY_ACCOUNT
from agent_broker.transport.control_client import ControlClient

app = typer.Typer(add_completion=False)

_FOR_EVERYBODY = (
    "a project's settings can lead a Claude Code of theirs elsewhere, with its phantom; to keep all of them at the "
    "broker: sudo agent-broker managed set"
)
_As = Annotated[str, typer.Option("--as", metavar="NAME", help="What the account of its key is called (see account).")]
_User = Annotated[str, typer.Option(metavar="USER", help="Whose agent.", show_default="who called sudo")]
_Home = Annotated[Path | None, typer.Option(metavar="DIR", help="Where its files are.", show_default="the user's home")]
_AllowEnv = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Variable that is no taint; repeatable.")
]
_Binary = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="The agent's executable; repeatable.", show_default="searched"),
]
_DenyDecoys = Annotated[
    bool | None,
    typer.Option("--deny-decoys/--serve-decoys", help="What others get who open a decoy.", show_default="config"),
]
_Shim = Annotated[
    Path | None, typer.Option(metavar="PATH", help="What a tool is wired to.", show_default="the package's own")
]
_File = Annotated[
    Path | None, typer.Option("--file", metavar="PATH", help="Make this file a view instead of an agent.")
]
_For = Annotated[
    list[str] | None,
    typer.Option(
        "--for", metavar="NAME|PATH", help="Who reads it: an enrolled agent or tool, or a program; repeatable."
    ),
]
_Profiles = Annotated[
    bool | None,
    typer.Option("--profiles/--no-profiles", help="Move keys that profiles and .env files set.", show_default="ask"),
]
_WhileRunning = Annotated[
    bool, typer.Option("--while-running", help="Although the agent runs: it must be restarted after.")
]


@dataclass(frozen=True)
class _Asking:
    """How a person is talked to."""

    yes: bool
    profiles: bool
    shows: bool


@app.command()
def enroll(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="AGENT...", help=", ".join(RECIPES), show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every agent that can be enrolled.")] = False,
    all_users: Annotated[bool, typer.Option("--all-users", help="Of every user that has one.")] = False,
    user: _User = "",
    home: _Home = None,
    binary: _Binary = None,
    deny_decoys: _DenyDecoys = None,
    profiles: _Profiles = None,
    account: _As = ONLY_ACCOUNT,
    allow_env: _AllowEnv = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; profiles stay unless --profiles.")] = False,
    while_running: _WhileRunning = False,
    shim: _Shim = None,
    file: _File = None,
    readers: _For = None,
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
    if agents == [gh.TOOL] and file is None:
        agents, file, readers = [], Path(gh.HOSTS), [str(each) for each in binary or [Path(gh.PROGRAM)]]
    if file is not None:
        require_no_agent(named=bool(agents or every or all_users))
        enroll_file(state.layout, file, owner_of(user_of(user), home), readers or (), FileAsking(yes, dry_run, json))
        return
    names = names_of(agents or (), every=every, command="enroll")
    if (len(names) != 1 or all_users) and (binary or allow_env):
        raise MisuseError("--binary and --allow-env go with one agent of one user", next_step="name one agent")
    owners = _owners(user, home, all_users=all_users)
    how = (binary or (), allow_env or (), deny_decoys, bool(profiles), account, while_running, shim or SHIM)
    wanted = Wanted(names, owners, all_users, *how)
    asking = _Asking(yes=yes, profiles=profiles is None and not yes, shows=not json)
    with nullcontext() if dry_run else administrator(state.layout) as client:
        planned, ended = _run(state.layout, state.config(), wanted, asking, client)
    if json:
        print_json(_record(planned, ended, single=len(names) == 1 and not all_users))
    else:
        show_ended(ended, as_planned=True)
    leave((*ended, *(planned.left_out if all_users or not planned.plans else ())))


def _owners(user: str, home: Path | None, *, all_users: bool) -> tuple[Owner, ...]:
    if not all_users:
        return (owner_of(user_of(user), home),)
    if user or home is not None:
        raise MisuseError("--all-users goes with neither --user nor --home")
    return tuple(everybody())


def _run(
    layout: Layout, config: Config, wanted: Wanted, asking: _Asking, client: ControlClient | None
) -> tuple[Planned, list[Ended]]:
    """Plan, show, ask, apply; without a client only the first two."""
    if client is None:
        return _plan_and_show(layout, config, wanted, asking), []
    make = partial(_plan_and_agree, layout, config, wanted, asking)
    return apply_what_holds(make, partial(_apply_all, layout, config, client))


def _plan_and_show(layout: Layout, config: Config, wanted: Wanted, asking: _Asking) -> Planned:
    planned = plan_all(layout, config, wanted)
    if asking.shows:
        _show(planned)
    return planned


def _plan_and_agree(layout: Layout, config: Config, wanted: Wanted, asking: _Asking) -> Planned:
    """Return the plans that were shown and agreed to."""
    planned = _plan_and_show(layout, config, wanted, asking)
    for plan in planned.plans:
        require_at_rest(plan, while_running=wanted.while_running)
    if asking.profiles and _agrees_to_profiles(planned.plans):
        planned = plan_all(layout, config, replace(wanted, profiles=True))
    if planned.plans:
        confirm(f"Enroll {_whom(planned.plans)}?", yes=asking.yes)
    return planned


def _whom(plans: tuple[Plan, ...]) -> str:
    agents: dict[str, list[str]] = {}
    for plan in plans:
        agents.setdefault(plan.owner.name, []).append(plan.agent)
    return "; ".join(f"{', '.join(names)} of {owner}" for owner, names in agents.items())


def _record(planned: Planned, ended: list[Ended], *, single: bool) -> dict[str, Any]:
    if single:
        (plan,) = planned.plans
        return {"plan": plan_record(plan), "report": ended[0].report if ended else None}
    done = ended or [Ended(plan.agent, None, user=planned.user_of(plan)) for plan in planned.plans]
    return {
        "enrolments": [
            {**ended_record(each), "plan": plan_record(plan)} for plan, each in zip(planned.plans, done, strict=True)
        ],
        "left_out": [ended_record(each) for each in planned.left_out],
        "absent": [ended_record(each) for each in planned.absent],
    }


def _show(planned: Planned) -> None:
    out = console()
    for plan in planned.plans:
        show_plan(plan, out)
    for each in planned.left_out:
        if each.error is not None:
            out.print(cell("\n".join(labelled("left out", f"{each.whose}: {each.error.message}", out.width))))
    if planned.all_users and any(plan.agent == "claude" for plan in planned.plans):
        out.print(cell("\n".join(labelled("next", _FOR_EVERYBODY, out.width))))
    if planned.absent and not planned.plans:
        out.print(cell("no user has an agent that is not enrolled"))


def _agrees_to_profiles(plans: tuple[Plan, ...]) -> bool:
    """Ask apart from the enrolment, since these files are not the agent's own."""
    movable = list(dict.fromkeys(each for plan in plans for each in plan.movable))
    if not movable or not sys.stdin.isatty():
        return False
    return typer.confirm(f"Also move {', '.join(map(printable, movable))} to the vault?", err=True)


def _apply_all(layout: Layout, config: Config, client: ControlClient, planned: Planned) -> list[Ended]:
    """Carry out each plan; of a single one, an error is raised as it is."""
    plans = planned.plans
    if len(plans) == 1 and not planned.all_users:
        return [Ended(plans[0].agent, _apply(layout, config.inject, plans[0], client))]
    whose = [(str(plan.agent), planned.user_of(plan)) for plan in plans]
    by_name = dict(zip(whose, plans, strict=True))
    changed: set[str] = set()
    failed: set[tuple[str, str]] = set()

    def act(name: tuple[str, str]) -> Report:
        plan, home = by_name[name], f"{by_name[name].owner.home.rstrip('/')}/"
        missing = {agent for agent, user in failed if user == name[1]}
        failed.add(name)
        if missing or any(f"{home}{each.path}" in changed for each in plan.files):
            plan = renewed(layout, config, planned, plan, missing)
        report = _apply(layout, config.inject, plan, client)
        failed.remove(name)
        changed.update(f"{home}{each.path}" for each in plan.files)
        moved = ((each.file.removeprefix(home), each.place) for each in plan.credentials)
        planned.wanted.carried.move(plan.owner.uid, moved)
        return report

    return one_by_one(by_name, act)


def _apply(layout: Layout, inject: Inject, plan: Plan, client: ControlClient) -> Report:
    with showing_steps("enrolling") as on_step:
        return apply_plan(plan, site_of(layout, client, on_step), injection_url=injection_url(inject))


def injection_url(inject: Inject) -> str:
    """Return the address of the broker's endpoint as an agent is to call it."""
    host = f"[{inject.address}]" if ":" in inject.address else inject.address
    return f"http://{host}:{inject.port}"


def _recover(layout: Layout, *, json: bool) -> None:
    with administrator(layout) as client, showing_steps("recovering") as on_step:
        site = site_of(layout, client, on_step)
        reports = (*recover_all(site), *recover_files(layout, site))
    if json:
        print_json({"reports": reports})
        return
    for report in reports:
        show_report(report, console())
    if not reports:
        say("nothing was interrupted")
