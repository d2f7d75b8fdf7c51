"""``agent-broker scan``: every agent and credential that lies in a home. Changes nothing, prints no value.

Below a home everything is looked at as its user; of root's records each caller reads what he may. Exit codes of
``--check`` are in docs/cli.md.
"""

import os
import pwd
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from agent_broker.cli import application
from agent_broker.cli.enrolling import known_agents, recipe_of
from agent_broker.cli.scan_text import show_home, show_total
from agent_broker.cli.terminal import console, print_json
from agent_broker.config.document import Config, load_config
from agent_broker.config.layout import Layout
from agent_broker.enroll.exported import ReadsEnvironment
from agent_broker.enroll.inventory import Inventory, take_inventory
from agent_broker.enroll.inventory_known import Known, load_known
from agent_broker.enroll.inventory_protocol import Readers
from agent_broker.enroll.inventory_rows import IN_PLAIN, AgentRow, CredentialRow, Judge, who_reads
from agent_broker.enroll.inventory_running import held_by_agents
from agent_broker.enroll.owner import Owner, everybody, owner_of
from agent_broker.errors import AgentBrokerError, MisuseError, RefusedError, UnavailableError
from agent_broker.ids import Uid
from agent_broker.inject.phantom import PREFIX
from agent_broker.monitor.catalogue import Catalogue, shipped_catalogue

_FOUND = 3
"""Exit code of ``--check``: a credential lies in plain."""

app = typer.Typer(add_completion=False)


class Home(Struct, frozen=True):
    """What is told of one user's home, or of the machine."""

    user: str
    uid: int
    home: str
    """Empty: what is set for everybody."""
    agents: list[AgentRow]
    credentials: list[CredentialRow]
    complete: bool
    not_looked_at: dict[str, int]
    """Reason: how many files and folders."""

    @property
    def in_plain(self) -> list[CredentialRow]:
        """The credentials that others than the broker have."""
        return [row for row in self.credentials if row.state in IN_PLAIN]


@app.command()
def scan(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    user: Annotated[str, typer.Option(metavar="USER", help="Whose home; root only.", show_default="yours")] = "",
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it is.", show_default="the user's home")
    ] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Every user with a home; root only.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 if a credential lies in plain.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List every agent and credential in a home: where, what, how old, who can read it, and what to do about it."""
    state = application.of(context)
    owners = _owners(user, home, all_users=all_users)
    config = _config(state.layout)
    known = load_known(
        state.layout.registries,
        state.layout.decoys_folder,
        state.layout.enroll_folder,
        paths_watched=config.paths.enabled,
    )
    catalogue = shipped_catalogue().with_extra(config.paths.extra, ())
    recipes = {name: _variables_of(name, state.layout) for name in known_agents(state.layout)}
    machine = _look_at_machine(state.layout, known, recipes)
    if machine is not None and not json:
        show_home(machine, console())
    homes = []
    for owner in owners:
        homes.append(_look(owner, catalogue, known, recipes))
        if not json:
            show_home(homes[-1], console())
    if json:
        print_json({"homes": homes, "machine": machine, "format": 1})
    else:
        show_total(homes, machine, console())
    if check:
        raise typer.Exit(_verdict([*homes, *([machine] if machine else [])]))


def _variables_of(agent: str, layout: Layout) -> Mapping[str, str]:
    """Return what ``enroll --profiles`` moves, see Judge; nothing of a recipe that can't be understood."""
    try:
        recipe = recipe_of(agent, layout)
    except (AgentBrokerError, PermissionError):
        return {}
    exported = recipe.exported if isinstance(recipe, ReadsEnvironment) else {}
    return {name: variable.only_in for name, variable in exported.items()}


def _verdict(homes: list[Home]) -> int:
    if any(home.in_plain for home in homes):
        return _FOUND
    return 0 if all(home.complete for home in homes) else UnavailableError.exit_code


def _owners(user: str, home: Path | None, *, all_users: bool) -> list[Owner]:
    if all_users and (user or home is not None):
        raise MisuseError("--all-users goes with neither --user nor --home")
    if os.geteuid() != 0:
        me = str(os.geteuid())
        if all_users or (user and user not in {me, _name_of(os.geteuid())}):
            raise RefusedError("root", "only root looks into the homes of others", next_step="run it with sudo")
        return [owner_of(me, home)]
    user = user or ("" if all_users else os.environ.get("SUDO_USER", ""))
    if user in {"", "root", "0"} and not all_users and (user or home is not None):
        raise MisuseError("it is not clear whose home is meant", next_step="name the user with --user")
    return [owner_of(user, home)] if user else list(everybody())


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _config(layout: Layout) -> Config:
    """Return the configuration; whoever may not read it gets the default, and looks all the more."""
    try:
        return load_config(layout.config_file)
    except PermissionError:
        return Config()


def _look_at_machine(layout: Layout, known: Known, recipes: Mapping[str, Mapping[str, str]]) -> Home | None:
    """Look at what sets variables for everybody, with the caller's own rights; None: there is nothing to tell."""
    folder = layout.root / "etc"
    if not folder.is_dir():
        return None
    root = Owner(Uid(0), 0, (0,), "everybody", str(folder))
    inventory = take_inventory(
        root,
        Catalogue({}, ()),
        knowledge=replace(known.of_home(root), variables=_names(recipes), machine=True),
        become=False,
        phantom_prefix=PREFIX,
        programs=False,
        bus="",
    )
    rows = Judge(root, known, recipes, time.time_ns()).credentials(inventory)
    if not rows and not inventory.missed:
        return None
    return Home(root.name, 0, "", [], rows, complete=not inventory.missed, not_looked_at=inventory.missed)


def _names(recipes: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    return frozenset().union(*recipes.values())


def _look(owner: Owner, catalogue: Catalogue, known: Known, recipes: Mapping[str, Mapping[str, str]]) -> Home:
    is_root = os.geteuid() == 0
    with _progress(owner) as on_entries:
        inventory = take_inventory(
            owner,
            catalogue,
            knowledge=replace(known.of_home(owner), variables=_names(recipes)),
            become=is_root,
            phantom_prefix=PREFIX,
            search_path=[] if is_root else os.environ.get("PATH", "").split(":"),
            on_entries=on_entries,
        )
    judge = Judge(owner, known, recipes, time.time_ns())
    running = list(_running(owner, inventory, judge)) if is_root else []
    return Home(
        owner.name,
        owner.uid,
        owner.home,
        judge.agents(inventory),
        judge.credentials(inventory, running),
        complete=not inventory.missed,
        not_looked_at=inventory.missed,
    )


def _running(owner: Owner, inventory: Inventory, judge: Judge) -> Iterator[CredentialRow]:
    programs = {os.fsdecode(each.resolved): each.agent for each in inventory.agents}
    for held in held_by_agents(owner.uid, programs, PREFIX):
        yield CredentialRow(
            path=f"/proc/{held.pid}/environ",
            name=held.name,
            line=0,
            holds=held.kind,
            state="plain",
            source="process",
            agents=(held.agent,),
            opened=True,
            watched=False,
            files=1,
            mtime_ns=0,
            age_days=0,
            mode="0400",
            owner_uid=owner.uid,
            readers=Readers(),
            who=who_reads(owner.uid, Readers()),
            remedies=judge.of_process(held.agent, held.pid),
        )


@contextmanager
def _progress(owner: Owner) -> Iterator[Callable[[int], None] | None]:
    out = console(to_stderr=True)
    if not out.is_terminal:
        yield None
        return
    with out.status(f"looking into {owner.home}") as status:
        yield lambda entries: status.update(f"looking into {owner.home}: {entries:,} files and folders")
