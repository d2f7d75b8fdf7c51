"""``agent-broker decoy``: plant credentials that open nothing, and hear of whoever takes them."""

from collections.abc import Sequence
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.decoy_plan import (
    garden_of,
    inert_garden,
    lifetime_of,
    owner_of_path,
    require_decoy_path,
)
from agent_broker.cli.decoy_text import decoy_record, plan_record, show_decoys, show_outcomes, show_plans, show_targets
from agent_broker.cli.enrolling import confirm, require_answer, require_root, showing_steps
from agent_broker.cli.terminal import console, plural, print_json, say
from agent_broker.config.layout import Layout
from agent_broker.enroll.plant import PlantPlan, plan_planting, plant
from agent_broker.enroll.plant_end import expired, refresh, remove
from agent_broker.enroll.plant_end import recover as recover_all
from agent_broker.enroll.plant_restore import PlantOutcome
from agent_broker.enroll.plant_targets import Target, find_targets
from agent_broker.errors import AgentBrokerError, MisuseError, RefusedError
from agent_broker.honeytoken.kinds import KINDS, kind_of
from agent_broker.identity.planted import PlantedDecoy, load_planted

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Plant credentials that open nothing; see who takes."
)

_Path = Annotated[str, typer.Argument(metavar="PATH", help="A file in the home.", show_default="the kind's own")]
_User = Annotated[str, typer.Option("--user", metavar="USER", help="Whose home.", show_default="who called sudo")]
_Home = Annotated[str, typer.Option("--home", metavar="DIR", help="Where it is.", show_default="the user's home")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object; where it would ask, with --yes.")]


@app.callback()
def decoy() -> None:
    """Plant credentials that open nothing, and hear of whoever takes them."""


@app.command("plant")
def plant_command(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    path: _Path = "",
    kind: Annotated[str, typer.Option(metavar="KIND", help=", ".join(each.name for each in KINDS))] = "",
    user: _User = "",
    home: _Home = "",
    deny: Annotated[bool, typer.Option("--deny", help="Refuse others the open where the tier can.")] = False,
    expires: Annotated[str, typer.Option(metavar="TIME", help="When it is due for refresh: 90d, 12h, never.")] = "90d",
    all_targets: Annotated[bool, typer.Option("--all-targets", help="Every place that targets shows.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: _Yes = False,
    json: _Json = False,
) -> None:
    """Put a decoy into a file of the user's; what the file holds stays byte for byte."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes or dry_run, how="--yes or --dry-run")
    if all_targets == bool(kind) or (all_targets and path):
        raise MisuseError("plant needs a --kind, or --all-targets alone", next_step="agent-broker decoy targets")
    owner = owner_of_path(user, home)
    garden = inert_garden(layout)
    lifetime_ns = lifetime_of(expires)
    places = [(kind_of(kind), path)] if kind else [(t.kind, "") for t in find_targets(owner, garden) if t.fits]
    route = "planted: decoy plant" + (" --all-targets" if all_targets else "")
    plans = [
        plan_planting(each, owner, garden, path=place, deny=deny, lifetime_ns=lifetime_ns, route=route)
        for each, place in places
    ]
    if not json:
        show_plans(plans, console())
    done: list[PlantOutcome] = []
    if plans and not dry_run:
        confirm(f"Plant {plural(len(plans), 'decoy')} in the home of {owner.name}?", yes=yes)
        done = _plant_all(layout, plans)
    if json:
        print_json({"plan": [plan_record(each) for each in plans], "report": None if dry_run else done})
    else:
        show_outcomes(done, console())


@app.command("list")
def list_command(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False
) -> None:
    """Show the planted decoys: where they are, never what they hold."""
    state = application.of(context).layout
    decoys = _planted(state)
    now_ns = inert_garden(state).clock.wall_ns()
    if json:
        print_json([decoy_record(each, now_ns) for each in decoys])
    elif decoys:
        show_decoys(decoys, now_ns, console())
    else:
        say("no decoy was planted; next: sudo agent-broker decoy targets")


@app.command("refresh")
def refresh_command(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="As list shows it.", show_default=False)] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every decoy.")] = False,
    only_expired: Annotated[bool, typer.Option("--expired", help="Those whose time is over.")] = False,
    yes: _Yes = False,
    json: _Json = False,
) -> None:
    """Put fresh values in the place of decoys': of the same kind, and for as long again."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    if bool(path) + all_ + only_expired != 1:
        raise MisuseError("refresh needs a PATH, --all or --expired", next_step="agent-broker decoy list")
    decoys = load_planted(layout.decoys_folder)
    if path:
        decoys = (require_decoy_path(path, decoys),)
    elif only_expired:
        decoys = expired(decoys, inert_garden(layout).clock.wall_ns())
    if decoys:
        confirm(f"Put fresh values in the place of {plural(len(decoys), 'decoy')}?", yes=yes)
    else:
        say("no decoy is due")
    done, failed = _refresh_all(layout, decoys)
    if json:
        print_json({"report": done})
    else:
        show_outcomes(done, console())
    for each in failed[1:]:
        say(each.explain())
    if failed:
        raise failed[0]


@app.command("remove")
def remove_command(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="As list shows it.", show_default=False)],
    yes: _Yes = False,
    json: _Json = False,
) -> None:
    """Take a decoy out: the file is as it was, byte for byte, unless somebody has changed it since."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    decoy = require_decoy_path(path, load_planted(layout.decoys_folder))
    confirm(f"Take the decoy out of {decoy.path}?", yes=yes)
    with administrator(layout) as client, showing_steps("removing") as on_step:
        done = remove(decoy.path, garden_of(layout, client, on_step))
    if json:
        print_json({"report": [done]})
    else:
        show_outcomes([done], console())


@app.command("targets")
def targets_command(
    context: typer.Context,
    user: _User = "",
    home: _Home = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Accepted; targets never plants.")] = True,  # noqa: ARG001
    json: _Json = False,
) -> None:
    """Show which places of a home make good ones for a decoy; opens no file, plants nothing."""
    layout = application.of(context).layout
    require_root()
    owner = owner_of_path(user, home)
    targets: tuple[Target, ...] = find_targets(owner, inert_garden(layout))
    if json:
        print_json([{"kind": t.kind.name, "path": t.path, "fits": t.fits, "why": t.why} for t in targets])
    else:
        show_targets(targets, owner, console())


@app.command("recover")
def recover_command(context: typer.Context, json: _Json = False) -> None:
    """Finish what a crash interrupted: each decoy is planted afterwards, or its file is as it was."""
    layout = application.of(context).layout
    require_root()
    with administrator(layout) as client, showing_steps("recovering") as on_step:
        done = recover_all(garden_of(layout, client, on_step))
    if json:
        print_json({"report": done})
    elif done:
        show_outcomes(done, console())
    else:
        say("nothing was interrupted")


def _plant_all(layout: Layout, plans: list[PlantPlan]) -> list[PlantOutcome]:
    done: list[PlantOutcome] = []
    with administrator(layout) as client, showing_steps("planting") as on_step:
        garden = garden_of(layout, client, on_step)
        for each in plans:
            try:
                done.append(plant(each, garden))
            except AgentBrokerError as error:
                if done:
                    say(f"planted before that: {', '.join(outcome.path for outcome in done)}")
                raise error from None
    return done


def _refresh_all(layout: Layout, decoys: Sequence[PlantedDecoy]) -> tuple[list[PlantOutcome], list[MisuseError]]:
    """Renew each; what is wrong with one file keeps no other from it."""
    done: list[PlantOutcome] = []
    failed: list[MisuseError] = []
    if not decoys:
        return done, failed
    with administrator(layout) as client, showing_steps("refreshing") as on_step:
        garden = garden_of(layout, client, on_step)
        for each in decoys:
            try:
                done.append(refresh(each, garden))
            except MisuseError as error:
                failed.append(error)
    return done, failed


def _planted(layout: Layout) -> tuple[PlantedDecoy, ...]:
    try:
        return load_planted(layout.decoys_folder)
    except PermissionError as error:
        raise RefusedError(
            "group",
            "the list of decoys is root's and the broker's group's: who could read it would know what not to touch",
            next_step="run it with sudo, or as a member of the group agent-broker",
        ) from error
