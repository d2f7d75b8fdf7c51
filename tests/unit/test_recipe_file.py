"""What a recipe may say, and that each complaint names the line, what is wrong and what is allowed."""

import os
import re

import pytest

from agent_broker.cli.enrolling import RECIPES, recipe_of, require_known, store_of
from agent_broker.config.layout import Layout
from agent_broker.enroll.recipe_file import parse_recipe
from agent_broker.errors import IntegrityError, MisuseError

KINDS = {"openai-api-key": False, "bearer": True}
GOOD = """\
name = "mine"
title = "My agent"

[program]
commands = ["mine"]
places = ["~/.local/bin/mine", "/opt/*/mine"]

[role]
argv0_names = ["mine"]
runtimes = ["loader"]

[[credential]]
name = "key"
kind = "bearer"
base_url = "https://models.example.com/api"

[[credential.place]]
file = ".config/mine/settings.toml"
format = "toml"
pointer = ["auth", "key"]
becomes = "decoy"
watch = true

[[credential.set]]
file = ".config/mine/settings.toml"
format = "toml"
pointer = ["auth", "url"]
value = "{address}/v1"

[[warn]]
variable = "MINE_KEY"
because = "beats the settings; remove it"

[[settings]]
file = ".config/mine/settings.toml"
format = "toml"

[[settings]]
file = ".mine.yml"
format = "yaml"
hot = true
"""


def test_a_good_one_is_understood():
    recipe = parse_recipe(GOOD.encode(), "mine.toml", KINDS)
    assert (recipe.name, recipe.credential[0].place[0].pointer) == ("mine", ("auth", "key"))
    assert recipe.credential[0].set[0].value == "{address}/v1"
    assert [(each.file, each.format, each.hot) for each in recipe.settings] == [
        (".config/mine/settings.toml", "toml", False),
        (".mine.yml", "yaml", True),
    ]


def test_no_recipe_has_more_settings_watched_than_can_be():
    many = "".join(f'[[settings]]\nfile = ".mine-{number}"\nformat = "json"\n' for number in range(15))
    with pytest.raises(MisuseError, match=r"^mine\.toml:\d+: settings: at most 16 files"):
        parse_recipe((GOOD + many).encode(), "mine.toml", KINDS)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "mine"', 'name = "Mine"', "mine.toml:1: name: lower-case letters, digits and - only"),
        ('commands = ["mine"]', 'comands = ["mine"]', "mine.toml:5: unknown key comands in [program]; did you"),
        ('commands = ["mine"]', 'commands = ["bin/mine"]', "mine.toml:5: commands: names without a slash"),
        ('"/opt/*/mine"', '"opt/mine"', "mine.toml:6: places: paths that begin with / or ~/"),
        ('"/opt/*/mine"', '"/opt/../mine"', "mine.toml:6: places: "),
        ('argv0_names = ["mine"]', "", "mine.toml:8: argv0_names: a native program needs"),
        ('runtimes = ["loader"]', 'runtimes = ["lua"]', "mine.toml:10: runtimes: allowed are bun, loader"),
        ('runtimes = ["loader"]', 'required_options = ["("]', "mine.toml:10: required_options: regular expressions"),
        ('kind = "bearer"', 'kind = "anthropic-oauth"', "mine.toml:14: kind: allowed are bearer, openai-api-key"),
        ('base_url = "https', 'base_url = "http', "mine.toml:15: base_url: https, a host"),
        ('base_url = "https://models.example.com/api"', "", "mine.toml:14: kind: this one has no provider of its own"),
        ('format = "toml"', 'format = "xml"', "mine.toml:19: credential[0].place[0].format: must be one of: "),
        ('file = ".config/mine', 'file = "a/../..', "mine.toml:18: file: a path relative to the home"),
        ('file = ".config/mine', 'file = "/etc/mine', "mine.toml:18: file: a path relative to the home"),
        ('pointer = ["auth", "key"]', "pointer = []", "mine.toml:20: pointer: one to 16 keys"),
        ('format = "toml"\npointer = ["auth", "key"]', 'format = "env"\npointer = ["auth", "key"]',
         "mine.toml:20: pointer: in a file of the format env it is one variable's name"),
        ('format = "toml"\npointer = ["auth", "url"]', 'format = "json"\npointer = ["auth", "url"]',
         "mine.toml:26: format: the same file is toml elsewhere"),
        ('becomes = "decoy"', 'becomes = "gone"', "mine.toml:21: credential[0].place[0].becomes: must be one of: "),
        ("watch = true", 'watch = "yes"', "mine.toml:22: credential[0].place[0].watch: expected true or false"),
        ('"{address}/v1"', '"http://{address}/v1"', "mine.toml:28: value: {phantom} alone, or {address} with a path"),
        ('"{address}/v1"', '"{address}@evil"', "mine.toml:28: value: "),
        ('"{address}/v1"', "1.5", "mine.toml:28: credential[0].set[0].value: "),
        ('variable = "MINE_KEY"', 'variable = "MINE-KEY"', "mine.toml:31: variable: the name of"),
        ('because = "beats', 'because = "\\u001b[2J', "mine.toml:32: because: printable"),
        ("[[warn]]", '[[need]]\nvalue = "a b"', "mine.toml:31: value: letters, digits"),
        ('".mine.yml"', '"../.mine.yml"', "mine.toml:39: file: a path relative to the home"),
        ('".mine.yml"', '".config/mine/settings.toml"', "mine.toml:39: file: it is among the settings already"),
        ('format = "yaml"', 'format = "ini"', "mine.toml:40: settings[1].format: must be one of: "),
        ('format = "toml"\n\n[[settings]]', 'format = "json"\n\n[[settings]]',
         "mine.toml:36: format: the same file is toml elsewhere"),
        ("hot = true", "hott = true", "mine.toml:41: unknown key hott in [settings[1]]; did you mean hot"),
        ("hot = true", "hot = 1", "mine.toml:41: settings[1].hot: expected true or false"),
        ("[program]", "[program", "mine.toml:4: not TOML: "),
        ('name = "key"', 'name = "phantom"', "mine.toml:13: name: letters, digits, . _ and - only"),
        ('name = "key"', 'name = "exported-x"', "mine.toml:13: name: letters, digits, . _ and - only"),
        ('kind = "bearer"', 'kind = "bearer"\nvariables = ["A-B"]', "mine.toml:15: variables: names of environment"),
        ('kind = "bearer"', 'kind = "bearer"\nvariables = ["A"]', "mine.toml:15: variables: where does the phantom go"),
    ],
)  # fmt: skip
def test_a_complaint_says_where_and_what(old, new, complaint):
    assert old in GOOD
    with pytest.raises(MisuseError, match="^" + re.escape(complaint)):
        parse_recipe(GOOD.replace(old, new, 1).encode(), "mine.toml", KINDS)


def test_a_variable_belongs_to_one_credential():
    one = GOOD.replace('becomes = "decoy"', 'becomes = "phantom"').replace(
        'kind = "bearer"', 'kind = "bearer"\nvariables = ["A"]'
    )
    recipe = parse_recipe(one.encode(), "mine.toml", KINDS)
    assert recipe.credential[0].variables == ("A",)
    credential = one[one.index("[[credential]]") : one.index("[[credential.set]]")].replace('"key"', '"spare"', 1)
    with pytest.raises(MisuseError, match=r"^mine.toml:34: variables: another credential has one of them already"):
        parse_recipe(one.replace("[[warn]]", f"{credential}[[warn]]").encode(), "mine.toml", KINDS)


def test_what_ships_is_understood_and_shadows_nothing():
    shipped = store_of(Layout()).shipped()
    assert {"opencode", "aider"} <= shipped.keys()
    assert not shipped.keys() & RECIPES.keys()


@pytest.fixture
def layout(tmp_path):
    tmp_path.chmod(0o755)
    return Layout(tmp_path)


def added(layout, text=GOOD, name="mine"):
    file = layout.root / f"{name}.toml"
    file.write_text(text)
    store = store_of(layout)
    recipe, data = store.read(file)
    return store, store.add(recipe, data)


def test_what_root_added_is_an_agent_like_any_other(layout):
    store, path = added(layout)
    (layout.root / "mine.toml").unlink()
    assert recipe_of("mine", layout).agent == "mine"
    assert path.stat().st_mode & 0o777 == 0o644
    assert store.remove("mine")
    assert not store.remove("mine")
    with pytest.raises(MisuseError, match="known agents: claude, "):
        recipe_of("mine", layout)


def test_a_copy_that_others_could_have_written_is_refused(layout):
    _, path = added(layout)
    path.chmod(0o666)
    with pytest.raises(IntegrityError, match="could have been written by others"):
        recipe_of("mine", layout)
    path.chmod(0o644)
    os.chown(path, 1500, 1500)
    with pytest.raises(IntegrityError, match="could have been written by others"):
        recipe_of("mine", layout)


def test_a_broken_copy_stands_in_nobody_s_way(layout):
    _, path = added(layout)
    path.write_text("name = 1")
    assert require_known("mine", layout) == "mine"
    with pytest.raises(MisuseError, match=r"mine\.toml:1: name: expected a string"):
        recipe_of("mine", layout)
    assert recipe_of("claude", layout).agent == "claude"


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "", "mine/"])
def test_a_name_is_no_path(layout, name):
    added(layout)
    with pytest.raises(MisuseError, match="can't be enrolled"):
        recipe_of(name, layout)
    assert not store_of(layout).remove(name)


def test_only_a_plain_file_of_bounded_size_is_read(layout):
    store = store_of(layout)
    link, fifo, large = (layout.root / name for name in ("link", "fifo", "large"))
    link.symlink_to("/etc/passwd")
    os.mkfifo(fifo)
    large.write_text("#" * 70_000)
    for path, why in ((link, "can't be read"), (fifo, "not a regular file"), (large, "longer than")):
        with pytest.raises(MisuseError, match=why):
            store.read(path)
