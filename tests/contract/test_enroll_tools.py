"""What git, docker and cargo may have in a home, what moves, and that all of it comes back (needs root)."""

import base64
import json
from pathlib import Path

import pytest

from agent_broker.enroll.cargo import CargoRecipe
from agent_broker.enroll.docker import DockerRecipe
from agent_broker.enroll.git import GitRecipe
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import load_registry
from agent_broker.policy.document import load_policy
from tests.fakes.enroll_cases import Case
from tests.fakes.enroll_world import UID
from tests.fakes.transaction_world import ToolWorld


@pytest.fixture
def home():
    """Return a function that makes the home of a tool with these files."""
    made = []

    def make(recipe, files):
        made.append(ToolWorld(Case(lambda root: recipe(root / "bin/shim"), files, (), wiring="shim")))
        return made[-1]

    yield make
    for each in made:
        each.close()


def kept(world):
    """What the vault holds of the tool: place, user and secret by name."""
    return {
        each.id.rpartition("/")[2]: (
            each.attributes["destination"],
            each.attributes.get("username", ""),
            world.store.unsealed()[each.id].decode(),
        )
        for each in world.store.vault.list()
        if "destination" in each.attributes
    }


def read(world, name):
    return (world.home / name).read_text()


def login(user, password):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


GIT = (
    "https://ann:p%40ss%3Aword1@github.com\n"
    "http://bob:other%20pass1@[::1]:8080/team/site.git\r\n"
    "\n"
    "# not a login\n"
    "https://nobody@nowhere.example.com\n"
)


def test_gits_passwords_move_and_what_is_none_stays_as_it_was(home):
    world = home(GitRecipe, {".git-credentials": GIT, ".gitconfig": "[user]\n\tname = Ann\n"})

    report = world.enroll()

    assert kept(world) == {
        "github.com": ("https://github.com", "ann", "p@ss:word1"),
        "1--8080-team-site": ("http://[::1]:8080/team/site", "bob", "other pass1"),
    }
    lines = read(world, ".git-credentials").split("\n")
    assert [lines[0].rpartition("@")[2], lines[0].split(":")[1]] == ["github.com", "//ann"]
    assert lines[2:] == ["", "# not a login", "https://nobody@nowhere.example.com", ""]
    assert "ss%3Aword1" not in read(world, ".git-credentials")
    assert read(world, ".gitconfig").startswith("[user]\n\tname = Ann\n")
    assert f"helper =\n\thelper = {world.shim} git" in read(world, ".gitconfig.agent-broker")
    assert not any("still holds" in each for each in report.warnings)
    world.unenroll()
    assert world.snapshot() == world.before


def test_a_store_of_another_name_moves_too_and_other_helpers_are_told_of(home):
    settings = '[credential]\n\thelper = store --file ~/mine/passwords\n\thelper = "cache --timeout=60"\n'
    files = {".gitconfig": settings, "mine/passwords": "https://ann:secret-of-mine@a.example.com\n"}
    world = home(GitRecipe, files)

    plan = world.plan()
    world.apply(plan)

    assert kept(world)["a.example.com"][2] == "secret-of-mine"
    assert any("the helper cache is not asked" in each for each in plan.warnings)
    world.unenroll()
    assert world.snapshot() == world.before


def test_what_is_registered_is_a_tool_with_its_decoys_and_a_rule_for_the_user(home):
    world = home(GitRecipe, {".git-credentials": f"https://ann:ghp_{'Ab1' * 12}@github.com\n"})
    world.enroll()

    (tool,) = load_registry(world.site().tools_dir)
    assert tool.serving.commands == tuple(f"{world.shim} git {each}" for each in ("get", "store", "erase"))
    decoy = read(world, ".git-credentials").split(":")[2].partition("@")[0]
    assert [each.values_sha256 for each in tool.decoys] == [(digest_of(decoy),)]
    (rule,) = load_policy(world.site().policy_dir).rules
    assert (rule.session, rule.credential.text) == ("user", f"git/{UID}/*")
    assert load_registry(world.site().registry_dir) == ()


def test_dockers_logins_move_and_the_rest_of_its_settings_stays(home):
    auths = {
        "https://index.docker.io/v1/": {"auth": login("ann", "hub-password")},
        "ghcr.io": {"auth": "", "identitytoken": "token-of-ghcr-io-0123456789"},
        "kept.example.com": {},
    }
    settings = {"auths": auths, "credsStore": "desktop", "detachKeys": "ctrl-q"}
    world = home(DockerRecipe, {".docker/config.json": json.dumps(settings, indent="\t")})

    plan = world.plan()
    world.apply(plan)

    assert kept(world) == {
        "index.docker.io": ("docker://index.docker.io", "ann", "hub-password"),
        "ghcr.io": ("docker://ghcr.io", "<token>", "token-of-ghcr-io-0123456789"),
    }
    now = json.loads(read(world, ".docker/config.json"))
    assert now["credHelpers"] == {"https://index.docker.io/v1/": "agent-broker", "ghcr.io": "agent-broker"}
    assert base64.b64decode(now["auths"]["https://index.docker.io/v1/"]["auth"]).startswith(b"ann:")
    assert (now["auths"]["kept.example.com"], now["detachKeys"]) == ({}, "ctrl-q")
    assert any("docker-credential-desktop keeps stay there" in each for each in plan.warnings)
    world.unenroll()
    assert world.snapshot() == world.before


def test_cargos_tokens_move_by_their_index_and_leave_the_file(home):
    files = {
        ".cargo/credentials.toml": '[registry]\ntoken = "of-crates-io-01"\n\n'
        '[registries.mine]\ntoken = "of-mine-012345"\n'
        '[registries.lost]\ntoken = "of-lost-012345"\n',
        ".cargo/config.toml": '# mine\n[registries.mine]\nindex = "sparse+https://mine.example.com/index/"\n',
    }
    world = home(CargoRecipe, files)

    plan = world.plan()
    world.apply(plan)

    assert kept(world) == {
        "github.com-rust-lang-crates.io-index": ("https://github.com/rust-lang/crates.io-index", "", "of-crates-io-01"),
        "mine.example.com-index": ("https://mine.example.com/index", "", "of-mine-012345"),
    }
    assert "of-mine" not in read(world, ".cargo/credentials.toml")
    assert 'token = "of-lost-012345"' in read(world, ".cargo/credentials.toml")
    assert read(world, ".cargo/config.toml").count(f'credential-provider = "{world.shim}"') == 2
    assert any("'lost' stays" in each for each in plan.warnings)
    world.unenroll()
    assert world.snapshot() == world.before


@pytest.mark.parametrize(
    ("recipe", "files", "why"),
    [
        (DockerRecipe, {}, "holds no login"),
        (DockerRecipe, {".docker/config.json": '{"auths": {"a": {"auth": "no base64"}}}'}, "is no login"),
        (CargoRecipe, {}, "holds no token"),
        (CargoRecipe, {".cargo/credentials.toml": "[registry\n"}, "credentials.toml"),
        (GitRecipe, {".gitconfig": "[user\n\0"}, "gitconfig"),
    ],
    ids=["docker: none", "docker: broken", "cargo: none", "cargo: broken", "git: broken"],
)
def test_a_home_without_anything_to_move_is_told_so_and_left(home, recipe, files, why):
    world = home(recipe, files)

    with pytest.raises(MisuseError) as refused:
        world.enroll()

    assert why in refused.value.message
    assert world.snapshot() == world.before


@pytest.mark.parametrize("recipe", [GitRecipe, CargoRecipe])
def test_a_shim_whose_path_a_configuration_would_read_otherwise_is_none(home, recipe):
    world = home(recipe, {".git-credentials": GIT, ".cargo/credentials.toml": '[registry]\ntoken = "x1234567"\n'})
    world.recipe = recipe(Path("/opt/a b/shim"))

    with pytest.raises(MisuseError, match="characters"):
        world.plan()
