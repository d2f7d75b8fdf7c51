"""Keys that an agent of a recipe reads from its environment: moved out of profiles with consent (needs root)."""

import dataclasses
import json

import pytest

from agent_broker.cli.enrolling import store_of
from agent_broker.config.layout import Layout
from agent_broker.enroll.data_recipe import DataRecipe
from agent_broker.enroll.exported import Exports, ReadsEnvironment
from agent_broker.enroll.recipe_file import parse_recipe
from agent_broker.errors import MisuseError
from tests.fakes.enroll_world import UID
from tests.fakes.scan_world import ScanWorld

KEY = "mk-" + "Ex9_" * 12
OTHER = "mk-" + "Ot3_" * 12
RECIPE = """
name = "mine"
[program]
commands = ["mine"]
[role]
argv0_names = ["mine"]
[[credential]]
name = "key"
kind = "bearer"
base_url = "https://models.example.com"
variables = ["MINE", "MINE_TOO"]
variables_first = {first}
[[credential.place]]
file = "mine.json"
format = "json"
pointer = ["auth", "key"]
watch = true
[[warn]]
variable = "MINE"
because = "beats the file"
"""
PROFILES = {
    ".bashrc": f"alias ll='ls -l'\nexport MINE='{KEY}' # work",
    ".config/fish/config.fish": f"set -gx MINE {KEY}\n",
    ".config/environment.d/10-keys.conf": f"EDITOR=vi\nMINE={KEY}\n",
    "src/app/.env": f"PORT=8080\r\nMINE='{KEY}'\r\n",
    "src/app/.envrc": f"layout python\nexport MINE={KEY}\n",
}


def mine(*, first=False, move=True):
    data = parse_recipe(RECIPE.format(first=str(first).lower()).encode(), "mine.toml", {"bearer": True})
    return DataRecipe(data, Exports(move))


def opencode():
    return DataRecipe(store_of(Layout()).shipped()["opencode"], Exports(move=True))


@pytest.fixture
def world():
    made = ScanWorld()
    made.recipe = mine()
    yield made
    made.close()


def phantom(world):
    return world.store.records[f"{world.recipe.agent}/{UID}/phantom"]


def test_every_shipped_recipe_says_which_variables_its_agent_reads():
    shipped = store_of(Layout()).shipped()
    for name in ("aider", "opencode"):
        recipe = DataRecipe(shipped[name])
        assert isinstance(recipe, ReadsEnvironment)
        assert {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"} <= set(recipe.exported)


@pytest.mark.parametrize("path", PROFILES)
def test_a_key_that_lies_nowhere_else_becomes_the_agent_s_and_goes_back(world, path):
    world.file(path, PROFILES[path], 0o640)
    before = world.snapshot()
    plan = world.plan()
    line = 1 if "fish" in path else 2
    assert plan.movable == (f"MINE in {world.home}/{path}:{line}",)
    assert not any("beats the file" in warning for warning in plan.warnings)
    world.apply(plan)
    stored = world.store.records[f"mine/{UID}/exported-MINE"]
    assert (stored.content, stored.attributes) == (KEY.encode(), {"base_url": "https://models.example.com"})
    assert phantom(world).attributes == {"credential": f"mine/{UID}/exported-MINE"}
    wired = json.loads((world.home / "mine.json").read_text())
    assert wired == {"auth": {"key": phantom(world).content.decode()}}
    assert KEY not in (world.home / path).read_text()
    world.unenroll()
    assert world.snapshot() == before
    assert world.store.records == {}


def test_without_consent_nothing_moves_and_the_way_is_named(world):
    world.recipe = mine(move=False)
    world.file(".bashrc", PROFILES[".bashrc"])
    before = world.snapshot()
    with pytest.raises(MisuseError, match=r"no credential of mine .*; but MINE in .*/\.bashrc:2") as caught:
        world.plan()
    assert "--profiles" in caught.value.next_step
    world.file("mine.json", json.dumps({"auth": {"key": OTHER}}))
    assert world.plan().movable == (f"MINE in {world.home}/.bashrc:2",)
    world.enroll()
    assert world.snapshot()[".bashrc"] == before[".bashrc"]


@pytest.mark.parametrize("first", [False, True])
def test_of_a_file_and_a_variable_the_agent_s_own_choice_is_in_use(world, first):
    world.recipe = mine(first=first)
    world.file("mine.json", json.dumps({"auth": {"key": OTHER}}))
    world.file(".bashrc", PROFILES[".bashrc"])
    before = world.snapshot()
    world.enroll()
    names = {f"mine/{UID}/key": OTHER, f"mine/{UID}/exported-MINE": KEY}
    assert {name: world.store.records[name].content.decode() for name in names} == names
    assert phantom(world).attributes["credential"] == f"mine/{UID}/{'exported-MINE' if first else 'key'}"
    assert json.loads((world.home / "mine.json").read_text())["auth"]["key"] == phantom(world).content.decode()
    world.unenroll()
    assert world.snapshot() == before


def test_two_variables_with_values_of_their_own_are_both_kept(world):
    world.file(".bashrc", f"export MINE={KEY}\nexport MINE_TOO={OTHER}\n")
    world.file(".zshrc", f"export MINE={OTHER}\n")
    before = world.snapshot()
    world.enroll()
    held = {name.rpartition("/")[2]: record.content.decode() for name, record in world.store.records.items()}
    assert held["exported-MINE"] == KEY
    assert held["exported-MINE-2"] == held["exported-MINE_TOO"] == OTHER
    world.unenroll()
    assert world.snapshot() == before


def test_a_login_in_the_phantom_s_place_beats_the_variable_and_stays(world):
    world.recipe = opencode()
    login = {"anthropic": {"type": "oauth", "refresh": "r", "access": "a", "expires": 1}}
    world.file(".local/share/opencode/auth.json", json.dumps(login))
    world.make_folder(world.home / ".config")
    world.make_folder(world.home / ".config/opencode")
    world.file(".profile", f"export ANTHROPIC_API_KEY={KEY}\n")
    with pytest.raises(MisuseError):
        world.plan()
    world.file(".local/share/opencode/auth.json", json.dumps({**login, "openai": {"type": "api", "key": OTHER}}))
    before = world.snapshot()
    world.enroll()
    assert phantom(world).attributes["credential"] == f"opencode/{UID}/openai"
    assert json.loads((world.home / ".local/share/opencode/auth.json").read_text())["anthropic"] == login["anthropic"]
    assert KEY not in (world.home / ".profile").read_text()
    world.unenroll()
    assert world.snapshot() == before


def test_three_keys_of_one_credential_have_three_names(world):
    places = "".join(
        f'[[credential.place]]\nfile = "{name}.json"\nformat = "json"\npointer = ["key"]\n' for name in ("a", "b", "c")
    )
    text = RECIPE.format(first="false").replace("[[warn]]", f"{places}[[warn]]")
    world.recipe = dataclasses.replace(mine(), data=parse_recipe(text.encode(), "mine.toml", {"bearer": True}))
    for name in ("a", "b", "c"):
        world.file(f"{name}.json", json.dumps({"key": KEY + name}))
    before = world.snapshot()
    world.enroll()
    held = sorted(record.content.decode() for name, record in world.store.records.items() if "/key" in name)
    assert held == [KEY + "a", KEY + "b", KEY + "c"]
    world.unenroll()
    assert world.snapshot() == before
