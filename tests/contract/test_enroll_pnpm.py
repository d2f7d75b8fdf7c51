"""What enrolling pnpm makes of a home and of root's links, and that all of it comes back (needs root)."""

from pathlib import Path

import pytest

from agent_broker.enroll.pnpm import PnpmRecipe
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from tests.fakes.enroll_cases import CASES
from tests.fakes.enroll_world import UID
from tests.fakes.tool_files import NPM_TOKENS
from tests.fakes.transaction_world import ToolWorld

LINKS = (f"pnpm@{UID}.registry.npmjs.org", f"pnpm@{UID}.npm.example.com-8443-team")


@pytest.fixture
def world():
    made = ToolWorld(CASES["pnpm, tokens of two registries"])
    yield made
    made.close()


def links(world):
    return {each.name: str(each.readlink()) for each in world.shim.parent.iterdir() if each.is_symlink()}


def kept(world):
    return {
        each.attributes["profile"]: (each.attributes["destination"], world.store.unsealed()[each.id].decode())
        for each in world.store.vault.list()
        if "destination" in each.attributes
    }


def test_each_registry_gets_a_helper_of_its_own_and_all_comes_back(world):
    plan = world.plan()
    world.apply(plan)

    assert kept(world) == {
        "registry.npmjs.org": ("npm://registry.npmjs.org", NPM_TOKENS[0]),
        "npm.example.com-8443-team": ("npm://npm.example.com:8443/team", NPM_TOKENS[1]),
    }
    assert links(world) == dict.fromkeys(LINKS, world.shim.name)
    now = (world.home / ".npmrc").read_bytes().decode()
    folder = world.shim.parent
    assert f"//registry.npmjs.org/:tokenHelper={folder / LINKS[0]}" in now.replace(" = ", "=").splitlines()
    assert f"//npm.example.com:8443/team/:tokenHelper={folder / LINKS[1]}" in now.replace(" = ", "=").splitlines()
    assert not any(each in now for each in NPM_TOKENS)
    assert now.startswith("; mine\r\n")
    assert "${NPM_TOKEN}" in now
    assert [each for each in plan.warnings if "stays" in each and ("basic" in each or "ci.example" in each)][1:]
    (tool,) = load_registry(world.site().tools_dir)
    assert (tool.role.home, tool.serving.commands) == (str(world.home), ())
    world.unenroll()
    assert world.snapshot() == world.before
    assert links(world) == {}


@pytest.mark.parametrize("step", ["journal: rewriting", "verified", "registered"])
def test_what_fails_leaves_no_link(world, step):
    def failing(name):
        if name == step:
            raise MisuseError("no more of it")

    with pytest.raises(MisuseError, match="no more of it"):
        world.enroll(failing)

    assert links(world) == {}
    assert world.snapshot() == world.before


def test_something_in_a_links_place_stays_and_nothing_is_enrolled(world):
    other = world.shim.parent / LINKS[0]
    other.write_text("mine")

    with pytest.raises(MisuseError, match="in the way"):
        world.enroll()

    assert other.read_text() == "mine"
    assert world.snapshot() == world.before


def test_a_script_is_not_enrolled(world):
    script = world.root / "bin/pnpm"
    script.write_text("#!/usr/bin/env node\n")
    script.chmod(0o755)

    with pytest.raises(MisuseError, match="pnpmfile"):
        PnpmRecipe(Path("/opt/shim")).executable_of(script)
