"""The keys that profiles and .env files set, as the commands look for them: which may move, and who else reads them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from agent_broker.cli.enrolling import known_agents, recipe_of
from agent_broker.config.layout import Layout
from agent_broker.enroll.exported import Exports, ReadsEnvironment
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Recipe
from agent_broker.enroll.variables import Carried, KeyReader
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import load_registries
from agent_broker.inject.phantom import PREFIX


def with_exports(  # noqa: PLR0913 - named arguments only
    recipe: Recipe,
    layout: Layout,
    owner: Owner,
    *,
    move: bool,
    beside: Iterable[str],
    carried: Carried,
    search_path: Iterable[Path],
) -> Recipe:
    """Return a recipe that looks for the keys which profiles export, if its agent reads any, and may move them.

    Args:
        recipe: the agent's.
        layout: where enrolments are.
        owner: whose home it is.
        move: the owner agreed.
        beside: the agents that the same command enrols.
        carried: what that command has moved.
        search_path: folders of programs.
    """
    if not isinstance(recipe, ReadsEnvironment):
        return recipe
    registered = load_registries(layout.registries)
    planted = tuple(decoy.path for decoy in load_planted(layout.decoys_folder))
    decoys = planted + tuple(decoy.path for each in registered for decoy in each.decoys)
    enrolled = {str(each.agent) for each in registered if each.owner_uid == owner.uid}
    others = [name for name in known_agents(layout) if name != recipe.agent]
    readers = _readers(layout, owner, (others, enrolled, frozenset(beside)), tuple(search_path))
    return recipe.with_exports(
        Exports(
            move,
            decoys,
            str(layout.root / "etc"),
            phantom_prefix=PREFIX,
            readers=tuple(readers),
            carried=carried,
        )
    )


def _readers(
    layout: Layout, owner: Owner, who: tuple[list[str], set[str], frozenset[str]], search_path: tuple[Path, ...]
) -> Iterator[KeyReader]:
    others, enrolled, beside = who
    for name in others:
        try:
            recipe = recipe_of(name, layout)
        except AgentBrokerError:  # a recipe that can't be understood names no key
            continue
        there = name in enrolled or _is_installed(recipe, owner, search_path)
        if there and isinstance(recipe, ReadsEnvironment):
            yield KeyReader(name, recipe.own_lines, recipe.exported, name in enrolled, name in beside)


def _is_installed(recipe: Recipe, owner: Owner, search_path: tuple[Path, ...]) -> bool:
    for candidate in recipe.binary_candidates(owner, search_path):
        try:
            if candidate.is_file():
                return True
        except OSError:  # a loop of links, or a name that is none
            continue
    return False
