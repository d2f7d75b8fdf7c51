"""What is stopped at each of its steps is every recipe, and every way to hold a credential that one has (needs root).

What has to be there is computed: the recipes that ``enroll`` knows, what a recipe as data declares, the variables that
a recipe moves, and the ways that the real agents are proven with. Another one of any of these fails here until it is
a case.
"""

import pytest

from agent_broker.cli.enrolling import RECIPES, SSH, TOOLS, store_of
from agent_broker.config.layout import Layout
from agent_broker.enroll.data_recipe import DataRecipe
from agent_broker.enroll.exported import Exports, ReadsEnvironment
from agent_broker.enroll.user_files import UserFiles
from tests.e2e.agents.table import WAYS
from tests.e2e.agents_generic.clients import CLIENTS
from tests.fakes.enroll_cases import CASES, Case
from tests.fakes.enroll_world import UID
from tests.fakes.transaction_ends import disk, new_world, packages, warm  # noqa: F401 - fixtures
from tests.fakes.transaction_world import TransactionWorld

SHIPPED = {name: DataRecipe(data) for name, data in store_of(Layout()).shipped().items()}
AGENTS = {**{name: make() for name, make in RECIPES.items()}, **SHIPPED}
"""By name: every agent's recipe."""
CLIENT_WAYS = [
    *dict.fromkeys((row.client, row.way) for row in WAYS),
    *((client, way) for client in CLIENTS for way in client.ways),
]


def held_in(world):
    """Return what the recipe of a world finds in its home: agent, name of the secret, file."""
    with UserFiles(world.owner) as files:
        return {(world.recipe.agent, each.name, each.file) for each in world.recipe.survey(files, world.owner).secrets}


@pytest.fixture
def in_cases(new_world):  # noqa: F811
    """What all cases of agents hold."""
    found = set()
    for name, case in CASES.items():
        if not case.wiring:
            world = new_world(name)
            try:
                found |= held_in(world)
            finally:
                world.close()
    return found


def test_every_recipe_is_a_case(tmp_path):
    names = {case.recipe(tmp_path).agent for case in CASES.values()}
    assert {*AGENTS, *TOOLS, SSH} - names == set()


def test_every_place_that_a_recipe_as_data_declares_is_in_a_case(in_cases):
    declared = {
        (name, credential.name, place.file)
        for name, recipe in SHIPPED.items()
        for credential in recipe.data.credential
        for place in credential.place
    }
    assert len(declared) > len(SHIPPED)
    assert declared - in_cases == set()


def test_every_variable_that_a_recipe_moves_is_in_a_case(in_cases):
    moved = {
        (name, variable.secret)
        for name, recipe in AGENTS.items()
        if isinstance(recipe, ReadsEnvironment)
        for variable in recipe.exported.values()
    }
    assert {name for name, _ in moved} >= set(RECIPES)
    assert moved - {(agent, secret) for agent, secret, _ in in_cases} == set()


def test_every_way_that_a_real_agent_is_proven_with_is_in_a_case(in_cases, warm, monkeypatch, disk):  # noqa: F811
    warm.replace_starting(monkeypatch)
    lacking = {}
    for client, way in CLIENT_WAYS:
        login = client.ways[way]()
        if login.refused:
            continue
        recipe = AGENTS[client.name]
        if "--profiles" in login.options:
            recipe = recipe.with_exports(Exports(move=True))
        files = {path: text if isinstance(text, str) else text(str(UID)) for path, text in login.files.items()}
        world = TransactionWorld(Case(lambda _, recipe=recipe: recipe, files, ()), at=disk)
        try:
            found = held_in(world)
        finally:
            world.close()
        assert found, (client.name, way)
        if found - in_cases:
            lacking[client.name, way] = found - in_cases
    assert lacking == {}
