"""``agent`` as a command: recipes are added, listed and removed, and stay as they are while somebody is enrolled."""

import json
from pathlib import Path

import msgspec
import pytest

from agent_broker.cli.enrolling import store_of
from agent_broker.cli.main import main
from agent_broker.config.layout import Layout
from agent_broker.enroll.recipe_file import parse_recipe
from agent_broker.identity.registry import Enrollment, RoleRule, save_enrollment
from tests.unit.test_recipe_file import GOOD


@pytest.fixture
def layout(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(tmp_path))
    return Layout(tmp_path)


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "my-agent.toml"
    file.write_text(GOOD)
    return file


def agent(*words):
    return main(["agent", *map(str, words)])


def enrolled(layout, name):
    layout.registry_folder.mkdir(parents=True)
    record = Enrollment(name, 1500, "me", (), RoleRule(("mine",)), (), (), 0)
    save_enrollment(layout.registry_folder, record)


def test_added_listed_and_removed(layout, recipe, capsys):
    assert agent("add", recipe) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: sudo agent-broker enroll mine"
    assert agent("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name": "mine", "origin": "added", "problem": ""} in rows
    assert {row["name"]: row["origin"] for row in rows}.items() >= {"claude": "built in", "opencode": "shipped"}.items()
    assert agent("add", recipe, "--json") == 0
    assert json.loads(capsys.readouterr().out)["replaced"]
    assert agent("remove", "mine") == 0
    assert list(layout.recipes_folder.iterdir()) == []
    assert agent("remove", "mine") == 2


def test_a_mistake_is_named_with_its_line_and_nothing_is_kept(layout, recipe, capsys):
    recipe.write_text(GOOD.replace('kind = "bearer"', 'kind = "beaver"'))
    assert agent("add", recipe) == 2
    assert f"{recipe}:14: kind: allowed are anthropic-api-key, anthropic-auth-token, bearer" in capsys.readouterr().err
    assert not layout.recipes_folder.exists()


@pytest.mark.parametrize("name", ["claude", "opencode"])
def test_a_known_agent_keeps_its_recipe(layout, recipe, capsys, name):
    recipe.write_text(GOOD.replace('name = "mine"', f'name = "{name}"', 1))
    assert agent("add", recipe) == 2
    assert "is known already" in capsys.readouterr().err


def test_a_recipe_stays_while_somebody_is_enrolled_by_it(layout, recipe, capsys):
    assert agent("add", recipe) == 0
    enrolled(layout, "mine")
    assert agent("remove", "mine") == 2
    assert agent("add", recipe) == 2
    assert "unenroll mine --user me" in capsys.readouterr().err
    assert (layout.recipes_folder / "mine.toml").read_text() == GOOD


def test_a_broken_recipe_is_shown_with_its_problem(layout, recipe, capsys):
    assert agent("add", recipe) == 0
    (layout.recipes_folder / "mine.toml").write_text("name = [")
    capsys.readouterr()
    assert agent("list") == 0
    assert "mine.toml:1: not TOML" in capsys.readouterr().out
    assert agent("remove", "mine") == 0


def test_the_shape_of_a_recipe_is_the_documented_one():
    """Every key of the page's examples is one that a recipe may have, and each example is a recipe."""
    page = (Path(__file__).parents[2] / "docs/agents/recipes.md").read_text()
    examples = [each.partition("```")[0] for each in page.split("```toml\n")[1:]]
    kinds = store_of(Layout())._kinds
    whole, unproven = (parse_recipe(each.encode(), "recipes.md", kinds) for each in examples)
    assert msgspec.to_builtins(whole)["need"][0]["variable"] == "MY_AGENT_NO_PLUGINS"
    assert unproven.name == "cursor"
