"""The plans that ``enroll`` shows before it asks: one for each agent, of one user or of everybody."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_broker.cli.enrolling import HashProgress, known_agents, recipe_of, tool_recipe
from agent_broker.cli.profile_keys import with_exports
from agent_broker.cli.several import Ended
from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.enroll.file_problems import HomeChangedError, UnsafeFileError
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plan import EnrolledAlreadyError, Plan, make_plan
from agent_broker.enroll.recipe import AbsentError
from agent_broker.enroll.tool_plan import make_tool_plan
from agent_broker.enroll.variables import Carried
from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.identity.planted import load_planted
from agent_broker.ids import ACCOUNT_NAMES, is_account_name


@dataclass(frozen=True)
class Wanted:
    """What the options say."""

    names: tuple[str, ...]
    """None: every agent."""
    owners: tuple[Owner, ...]
    all_users: bool
    """Who has none of the agents is no mistake, and one user's trouble is not another's."""
    binaries: Sequence[Path]
    allow_env: Sequence[str]
    deny_decoys: bool | None
    """None: as configured."""
    profiles: bool
    """Move what profiles export."""
    account: str
    """What the account of its key is called."""
    while_running: bool
    shim: Path
    """Of tools."""
    beside: tuple[str, ...] = ()
    """All that the command enrols: what several of them read moves for each. Filled in by ``plan_all``."""
    carried: Carried = field(default_factory=Carried)
    """What is moved already."""


@dataclass(frozen=True)
class Planned:
    """The plans, and why some agents have none."""

    wanted: Wanted
    plans: tuple[Plan, ...]
    left_out: tuple[Ended, ...] = ()
    absent: tuple[Ended, ...] = ()
    """Of these users there is nothing to enroll, or it is enrolled."""
    all_users: bool = False

    def user_of(self, plan: Plan) -> str:
        """Return whose a plan is, if that is not clear."""
        return plan.owner.name if self.all_users else ""


def plan_all(layout: Layout, config: Config, wanted: Wanted) -> Planned:
    """Plan each that is named; of all agents, or all users, those that can be enrolled.

    Raises:
        MisuseError: one that is named can't be; nothing was changed.
    """
    names = wanted.names or known_agents(layout)
    wanted = replace(wanted, beside=names)
    if wanted.names and not wanted.all_users:
        (owner,) = wanted.owners
        return Planned(wanted, tuple(_plan(layout, config, wanted, name, owner) for name in names))
    plans: list[Plan] = []
    left_out, absent = [], []
    for owner in wanted.owners:
        for made in _plan_those_possible(layout, config, wanted, owner):
            if isinstance(made, Plan):
                plans.append(made)
            elif wanted.all_users and _is_absent(made.error):
                absent.append(made)
            else:
                left_out.append(made)
    return Planned(wanted, tuple(plans), tuple(left_out), tuple(absent), wanted.all_users)


def _plan_those_possible(layout: Layout, config: Config, wanted: Wanted, owner: Owner) -> list[Plan | Ended]:
    """Plan each of a user's; a key is not taken from one that turns out to have no plan, so they are planned again."""
    made = [_plan_if_possible(layout, config, wanted, name, owner) for name in wanted.beside]
    kept = [each for each in made if isinstance(each, Ended) and not _is_absent(each.error)]
    hindered = {each.agent for each in kept}
    if not kept or not wanted.profiles:
        return made
    left = tuple(name for name in wanted.beside if name not in hindered)
    return [*_plan_those_possible(layout, config, replace(wanted, beside=left), owner), *kept]


def renewed(layout: Layout, config: Config, planned: Planned, plan: Plan, failed: Collection[str]) -> Plan:
    """Return a plan made anew, after earlier ones of the same command changed files that it is about, or failed.

    Raises:
        HomeChangedError: not the same credentials would move now, or other files change.
        MisuseError: it can't be enrolled any more.
    """
    beside = (each.agent for each in planned.plans if each.owner.uid == plan.owner.uid and each.agent not in failed)
    now = _plan(layout, config, replace(planned.wanted, beside=tuple(beside)), plan.agent, plan.owner)
    files = {each.path for each in plan.files}
    same = {each.id for each in now.credentials} == {each.id for each in plan.credentials} and now.active == plan.active
    if not same or not files.issuperset(each.path for each in now.files):
        raise HomeChangedError(
            f"what {plan.agent} would have to do with it changed since the plan was made; nothing was done",
            next_step="make the plan again",
        )
    return now


def _plan_if_possible(layout: Layout, config: Config, wanted: Wanted, name: str, owner: Owner) -> Plan | Ended:
    """Return a plan, or why there is none; one user who hinders it does not hinder the others."""
    try:
        plan = _plan(layout, config, wanted, name, owner)
        if wanted.all_users:
            require_at_rest(plan, while_running=wanted.while_running)
    except AgentBrokerError as error:
        if not (wanted.all_users or isinstance(error, MisuseError)):
            raise
        return Ended(name, None, error, owner.name if wanted.all_users else "")
    return plan


def require_at_rest(plan: Plan, *, while_running: bool) -> None:
    """Require that the agent does not run, or that this is known.

    Raises:
        MisuseError: it runs.
    """
    if plan.running and not while_running:
        raise MisuseError(
            f"{plan.agent} runs now (pid {', '.join(map(str, plan.running))}): it holds the old secret, and may write "
            "the files that are changed",
            next_step="end it and enroll again, or add --while-running and restart it after",
        )


def _is_absent(error: AgentBrokerError | None) -> bool:
    if isinstance(error, UnsafeFileError):
        return error.problem == "no-folder"
    return isinstance(error, AbsentError | EnrolledAlreadyError)


def _plan(layout: Layout, config: Config, wanted: Wanted, agent: str, owner: Owner) -> Plan:
    planted = load_planted(layout.decoys_folder)
    search_path = [Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder]
    tool = tool_recipe(agent, layout, wanted.shim)
    if tool is not None:
        return make_tool_plan(
            tool,
            owner,
            shim=wanted.shim,
            tools_dir=layout.tools_folder,
            binaries=wanted.binaries,
            search_path=search_path,
            allow_env=wanted.allow_env,
            planted=planted,
        )
    recipe = with_exports(
        recipe_of(agent, layout),
        layout,
        owner,
        move=wanted.profiles,
        beside=wanted.beside,
        carried=wanted.carried,
        search_path=search_path,
    )
    if not is_account_name(wanted.account):
        raise MisuseError(ACCOUNT_NAMES)
    with HashProgress() as progress:
        plan = make_plan(
            recipe,
            owner,
            registry_dir=layout.registry_folder,
            binaries=wanted.binaries,
            search_path=search_path,
            deny_decoys=config.decoys.deny if wanted.deny_decoys is None else wanted.deny_decoys,
            allow_env=wanted.allow_env,
            progress=progress,
            planted=planted,
        )
    return replace(plan, account=wanted.account)
