"""The plans that ``enroll`` shows before it asks: one for each agent, of one user or of everybody."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent_broker.cli.enrolling import HashProgress, known_agents, recipe_of, tool_recipe, with_exports
from agent_broker.cli.several import Ended
from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.enroll.file_problems import UnsafeFileError
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plan import EnrolledAlreadyError, Plan, make_plan
from agent_broker.enroll.recipe import AbsentError
from agent_broker.enroll.tool_plan import make_tool_plan
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


@dataclass(frozen=True)
class Planned:
    """The plans, and why some agents have none."""

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
    if wanted.names and not wanted.all_users:
        (owner,) = wanted.owners
        return Planned(tuple(_plan(layout, config, wanted, name, owner) for name in wanted.names))
    plans, left_out, absent = [], [], []
    for owner in wanted.owners:
        for name in wanted.names or known_agents(layout):
            made = _plan_if_possible(layout, config, wanted, name, owner)
            if isinstance(made, Plan):
                plans.append(made)
            elif wanted.all_users and _is_absent(made.error):
                absent.append(made)
            else:
                left_out.append(made)
    return Planned(tuple(plans), tuple(left_out), tuple(absent), wanted.all_users)


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
    recipe = with_exports(recipe_of(agent, layout), layout, move=wanted.profiles)
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
