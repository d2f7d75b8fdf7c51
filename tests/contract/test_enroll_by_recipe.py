"""An agent whose recipe is data: found, wired, watched, and put back byte for byte, in every format (needs root)."""

import json
import tomllib

import pytest

from agent_broker.enroll.data_recipe import DataRecipe
from agent_broker.enroll.recipe_file import parse_recipe
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import SettingsFile, load_registry
from tests.fakes.enroll_world import UID, URL, EnrollWorld

KEY = "sk-proj-" + "kQ7_" * 18
OTHER = "sk-other-" + "Zx9-" * 12
KINDS = {"openai-api-key": False, "anthropic-api-key": False, "bearer": True}
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
[[credential.place]]
file = "{file}"
format = "{format}"
pointer = {pointer}
becomes = "{becomes}"
watch = true
[[credential.set]]
file = "{file}"
format = "{format}"
pointer = {url}
value = "{{address}}/v1"
[[credential.set]]
file = "{file}"
format = "{format}"
pointer = {mode}
value = "brokered"
[[credential]]
name = "spare"
kind = "openai-api-key"
[[credential.place]]
file = "spare.env"
format = "env"
pointer = ["SPARE"]
[[settings]]
file = "hooks.yml"
format = "yaml"
hot = true
[[warn]]
variable = "MINE_KEY"
because = "beats the file"
[[need]]
variable = "MINE_PLAIN"
value = "1"
because = "its plugins are not its own"
"""
FILES = {
    "json": f'{{ // mine\n "auth": {{"key": "{KEY}" , "user": 1}}\n}}',
    "toml": f"# mine\n[auth]\nkey = '{KEY}' # work\nuser = 1\n\n[other]\nx = [1,\n 2]",
    "env": f"# mine\r\nexport KEY='{KEY}' # work\r\nUSER_NAME=$X\r\n",
    "shell": f"# mine\nif true; then\n  X=1\nfi\nexport KEY='{KEY}'\nalias ll='ls -l'",
    "fish": f"# mine\nset -gx KEY '{KEY}' # work\nif true\n  echo x\nend\n",
    "systemd": f"# mine\nKEY={KEY}\nUSER_NAME=$X\n",
    "ini": f"; mine\n[default]\nkey = {KEY}\nregion=eu\n[other]\nx = 1\n",
}
POINTERS = {"json": ("auth",), "toml": ("auth",), "ini": ("default",)}


def recipe_for(file_format, becomes="phantom"):
    above = POINTERS.get(file_format, ())
    names = ("key", "url", "mode") if above else ("KEY", "URL", "MODE")
    pointers = [json.dumps([*above, name]) for name in names]
    text = RECIPE.format(
        file="mine.cfg", format=file_format, pointer=pointers[0], url=pointers[1], mode=pointers[2], becomes=becomes
    )
    return DataRecipe(parse_recipe(text.encode(), "mine.toml", KINDS))


@pytest.fixture
def world():
    world = EnrollWorld()
    yield world
    world.close()


@pytest.mark.parametrize("becomes", ["phantom", "decoy", "removed"])
@pytest.mark.parametrize("file_format", sorted(FILES))
def test_each_format_is_wired_and_comes_back_byte_for_byte(world, file_format, becomes):
    world.recipe = recipe_for(file_format, becomes)
    file = world.make(world.home / "mine.cfg", FILES[file_format])
    world.make(world.home / "spare.env", f"SPARE={OTHER}\n")
    before = world.snapshot()
    world.enroll()
    text = file.read_text()
    phantom = world.store.records[f"mine/{UID}/phantom"].content.decode()
    assert (phantom in text) == (becomes == "phantom")
    assert f"{URL}/v1" in text
    assert "brokered" in text
    assert "mine" in text
    assert not [
        name for name, facts in world.snapshot().items() if KEY.encode() in facts.data or OTHER.encode() in facts.data
    ]
    world.unenroll()
    assert world.snapshot() == before
    assert world.store.records == {}


@pytest.mark.parametrize("file_format", sorted(FILES))
def test_what_the_owner_added_meanwhile_stays(world, file_format):
    added = {"json": None, "toml": "[mine]\nown = 1\n", "ini": "[mine]\nown = 1\n", "fish": "set -gx OWN 1\n"}
    line = added.get(file_format, "OWN=1\n")
    world.recipe = recipe_for(file_format)
    file = world.make(world.home / "mine.cfg", FILES[file_format])
    world.enroll()
    text = file.read_text()
    more = (
        text.replace('"auth"', '"own": 1, "auth"')
        if line is None
        else f"{text}{'' if text.endswith(chr(10)) else chr(10)}{line}"
    )
    world.make(file, more)
    world.unenroll()
    back = file.read_text()
    assert KEY in back
    assert "agent-broker" not in back
    assert "brokered" not in back
    held = FILES[file_format].replace("\r\n", "\n").rstrip("\n")
    assert back.replace('"own": 1, ', "").replace("\r\n", "\n").removesuffix(line or "").rstrip("\n") == held


def test_the_credential_keeps_its_kind_and_its_host(world):
    world.recipe = recipe_for("toml")
    world.make(world.home / "mine.cfg", FILES["toml"])
    world.make(world.home / "spare.env", f"SPARE={OTHER}\n")
    world.enroll()
    records = world.store.records
    key, spare = records[f"mine/{UID}/key"], records[f"mine/{UID}/spare"]
    assert (key.kind, key.attributes, key.content.decode()) == (
        "bearer",
        {"base_url": "https://models.example.com"},
        KEY,
    )
    assert (spare.kind, spare.content.decode()) == ("openai-api-key", OTHER)
    assert records[f"mine/{UID}/phantom"].attributes["credential"] == f"mine/{UID}/key"
    (enrollment,) = load_registry(world.site().registry_dir)
    assert enrollment.role.argv0_names == ("mine",)
    assert [decoy.path for decoy in enrollment.decoys] == [str(world.home / "mine.cfg")]


def test_its_settings_are_in_the_registry_to_be_watched(world):
    world.recipe = recipe_for("toml")
    world.make(world.home / "mine.cfg", FILES["toml"])
    world.enroll()
    (enrollment,) = load_registry(world.site().registry_dir)
    assert enrollment.settings == (SettingsFile(f"{world.home}/hooks.yml", "yaml", hot=True),)


def test_the_decoy_s_value_is_known(world):
    world.recipe = recipe_for("toml", "decoy")
    file = world.make(world.home / "mine.cfg", FILES["toml"])
    world.enroll()
    value = tomllib.loads(file.read_text())["auth"]["key"]
    assert (len(value), value != KEY) == (len(KEY), True)
    (enrollment,) = load_registry(world.site().registry_dir)
    assert enrollment.decoys[0].values_sha256 == (digest_of(value),)


@pytest.mark.parametrize(
    ("file_format", "text", "why"),
    [
        ("shell", f"if true; then\nexport KEY={KEY}\nfi\n", r"mine\.cfg.*KEY: line 2: inside of a block"),
        ("env", f"KEY=$OLD{KEY}\n", r"mine\.cfg.*KEY: line 1: not a plain literal"),
        ("env", f"KEY={KEY}\nKEY={OTHER}\n", r"mine\.cfg.*KEY: line 2: it is set in line 1 as well"),
        ("toml", "[auth\n", r"mine\.cfg: not TOML: .* \(at line 1, column 6\)"),
        ("ini", f"[default]\nkey = {KEY}\n  more\n", r"mine\.cfg.*line 3: its value goes on"),
        ("json", '{"auth": {"key": 5}}', r"mine\.cfg: auth\.key is not a string"),
        ("toml", "[auth]\nuser = 1\n", r"no credential of mine was found; looked into: .*mine\.cfg \(auth\.key\)"),
    ],
)
def test_what_can_t_be_moved_safely_is_refused_and_untouched(world, file_format, text, why):
    world.recipe = recipe_for(file_format)
    world.make(world.home / "mine.cfg", text)
    before = world.snapshot()
    with pytest.raises(MisuseError, match=why) as caught:
        world.enroll()
    assert world.snapshot() == before
    assert world.journals() == []
    assert KEY not in str(caught.value)


def test_what_would_defeat_it_is_said(world):
    world.recipe = recipe_for("toml")
    world.make(world.home / "mine.cfg", FILES["toml"].replace("user = 1", "url = 'https://old.example.com'"))
    world.make(world.home / "spare.env", f"SPARE={OTHER}\n")
    world.make(world.home / ".bashrc", "export MINE_KEY=x\n")
    said = "\n".join(world.plan().warnings)
    assert ".bashrc:1: MINE_KEY beats the file" in said
    assert "sets auth.url already" in said
    assert "in use while enrolled: key; only kept: spare" in said
    assert "until your shell's profile has: export MINE_PLAIN=1 (its plugins" in said
    world.make(world.home / ".bashrc", "export MINE_PLAIN=1\n")
    assert "MINE_PLAIN" not in "\n".join(world.plan().warnings)
