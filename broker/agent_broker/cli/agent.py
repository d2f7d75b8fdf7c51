"""``agent-broker agent``: the agents that can be enrolled, and recipes of others as data."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.enrolling import RECIPES, require_root, store_of
from agent_broker.cli.terminal import print_json, printable, say
from agent_broker.config.layout import Layout
from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.identity.registry import load_registry

app = typer.Typer(add_completion=False, no_args_is_help=True)
_NAME = typer.Argument(metavar="NAME", help="Of the agent, as its recipe says.", show_default=False)


@app.callback()
def agent() -> None:
    """Show which agents can be enrolled; add or remove the recipe of one."""


@app.command()
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check a recipe and keep a copy that only root can change; ``enroll`` knows the agent from then on."""
    require_root()
    layout = application.of(context).layout
    store = store_of(layout)
    recipe, data = store.read(file)
    if recipe.name in RECIPES or recipe.name in store.shipped():
        raise MisuseError(f"{recipe.name} is an agent that is known already", next_step="give the recipe another name")
    _require_not_enrolled(layout, recipe.name)
    replaced = recipe.name in store.added_names()
    path = store.add(recipe, data)
    if json:
        print_json({"name": recipe.name, "path": str(path), "replaced": replaced})
    else:
        said = "replaced" if replaced else "added"
        sys.stdout.write(f"{said}: {path}\nnext: sudo agent-broker enroll {recipe.name}\n")


@app.command(name="list")
def list_(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Show the agents that can be enrolled, and where the recipe of each comes from."""
    rows = _rows(application.of(context).layout)
    if json:
        print_json(rows)
        return
    for row in rows:
        problem = f": {row['problem']}" if row["problem"] else ""
        sys.stdout.write(printable(f"{row['name']:16} {row['origin']}{problem}") + "\n")


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[str, _NAME],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Delete a recipe that was added; not while the agent is enrolled."""
    require_root()
    layout = application.of(context).layout
    store = store_of(layout)
    if name not in store.added_names():
        raise MisuseError(f"no recipe of {printable(name)} was added", next_step="agent-broker agent list")
    _require_not_enrolled(layout, name)
    store.remove(name)
    if json:
        print_json({"name": name})
    else:
        say(f"removed: {name}")


def _require_not_enrolled(layout: Layout, name: str) -> None:
    """A recipe stays as it is while somebody is enrolled by it."""
    for each in load_registry(layout.registry_folder):
        if each.agent == name:
            raise MisuseError(
                f"{name} of {each.owner_name} is enrolled by that recipe",
                next_step=f"agent-broker unenroll {name} --user {each.owner_name} first",
            )


def _rows(layout: Layout) -> list[dict[str, str]]:
    store = store_of(layout)
    rows = [{"name": name, "origin": "built in", "problem": ""} for name in RECIPES]
    rows += [{"name": name, "origin": "shipped", "problem": ""} for name in store.shipped()]
    for name in store.added_names():
        problem = ""
        try:
            store.added(name)
        except AgentBrokerError as error:
            problem = error.message
        rows.append({"name": name, "origin": "added", "problem": problem})
    return rows
