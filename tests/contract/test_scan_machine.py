"""``scan`` of what a machine sets for everybody, and of the variables of shells that are not edited (needs root)."""

import json
import os
import re

import pytest

from agent_broker.cli.main import main
from agent_broker.honeytoken import tokens
from tests.fakes.enroll_world import GID, UID
from tests.fakes.scan_world import ScanWorld, places

KEY = tokens.anthropic_api_key()
PLAIN = "Kq7" * 8
MACHINE = {
    "environment": f'PATH="/usr/bin"\nANTHROPIC_API_KEY={KEY}\n',
    "profile.d/keys.sh": f"export EDITOR=vi\nexport OPENAI_API_KEY='{PLAIN}'\n",
    "profile.d/keys.csh": f"setenv GEMINI_API_KEY {PLAIN}\n",
    "security/pam_env.conf": f"#X_TOKEN DEFAULT={PLAIN}\nEDITOR DEFAULT=vi\nGH_TOKEN DEFAULT= OVERRIDE={PLAIN}\n",
    "csh.login": f"setenv CURSOR_API_KEY {PLAIN}\n",
    "environment.d/90-x.conf": f"NPM_TOKEN={PLAIN}\n",
    "fish/conf.d/x.fish": f"set -gx HF_TOKEN {PLAIN}\n",
    "systemd/user.conf.d/x.conf": f'[Manager]\nDefaultEnvironment="ANTHROPIC_API_KEY={KEY}"\n',
    "claude-code/managed-settings.json": json.dumps({"env": {"ANTHROPIC_AUTH_TOKEN": PLAIN}}),
}
EXPECTED = {
    "environment": ("ANTHROPIC_API_KEY", 2, "anthropic-api-key"),
    "profile.d/keys.sh": ("OPENAI_API_KEY", 2, "openai-api-key"),
    "profile.d/keys.csh": ("GEMINI_API_KEY", 1, "gemini-api-key"),
    "security/pam_env.conf": ("GH_TOKEN", 3, "github-token"),
    "csh.login": ("CURSOR_API_KEY", 1, "cursor-api-key"),
    "environment.d/90-x.conf": ("NPM_TOKEN", 1, "npm-token"),
    "fish/conf.d/x.fish": ("HF_TOKEN", 1, "huggingface-token"),
    "systemd/user.conf.d/x.conf": ("DefaultEnvironment", 2, "anthropic-api-key"),
    "claude-code/managed-settings.json": ("env.ANTHROPIC_AUTH_TOKEN", 1, "anthropic-auth-token"),
}


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("SUDO_USER", raising=False)
    made = ScanWorld()
    made.etc = made.installation / "etc"
    yield made
    made.close()


def set_for_everybody(world, files=MACHINE):
    for path, text in files.items():
        place = world.etc / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def machine(said):
    report = json.loads(said)
    assert report["homes"][0]["credentials"] == []
    return report["machine"]


def test_every_place_is_found_with_its_line_and_the_way_out(world, capsys):
    set_for_everybody(world)
    assert world.scan("--json", "--check") == 3
    said = capsys.readouterr().out
    assert KEY not in said
    assert PLAIN not in said
    rows = {row["path"].removeprefix(f"{world.etc}/"): row for row in machine(said)["credentials"]}
    assert {path: (row["name"], row["line"], row["holds"]) for path, row in rows.items()} == EXPECTED
    assert {(row["source"], row["state"], row["who"]) for row in rows.values()} == {
        ("machine", "plain", "everybody on this machine")
    }
    assert rows["environment"]["remedies"] == [f'sudo "${{EDITOR:-vi}}" +2 {world.etc}/environment']


def test_a_user_sees_it_as_well(world):
    set_for_everybody(world)
    for folder in (world.installation, *world.etc.rglob("*")):
        folder.chmod(0o755)
    done = world.scan_as_user("--json")
    assert done.returncode == 0, done.stderr
    assert len(machine(done.stdout)["credentials"]) == len(EXPECTED)


def test_a_person_is_told_apart_from_the_home(world, capsys):
    set_for_everybody(world, {"environment": MACHINE["environment"]})
    world.scan()
    said = capsys.readouterr().out
    assert said.startswith("set for everybody on this machine\n")
    assert f"{world.etc}/environment:2" in re.sub(r"\s+", "", said)
    assert "1 credential in plain" in said
    assert "1 of them set for everybody" in re.sub(r"\s+", " ", said)


def test_nothing_set_is_nothing_told(world, capsys):
    set_for_everybody(world, {"environment": "PATH=/usr/bin\n", "profile.d/x.sh": "umask 022\n"})
    assert world.scan("--json", "--check") == 0
    assert machine(capsys.readouterr().out) is None


def test_what_the_machine_s_folder_is_replaced_by_is_not_followed(world, capsys):
    """An ``etc`` that is not root's, links out of it, a FIFO in it: nothing hangs and nothing else is read."""
    secret = world.root / "secret"
    secret.write_text(MACHINE["environment"])
    set_for_everybody(world, {"profile.d/x.sh": "umask 022\n"})
    (world.etc / "environment").symlink_to(secret)
    (world.etc / "profile").symlink_to("profile.d/../../../secret")
    os.mkfifo(world.etc / "csh.login")
    assert world.scan("--json") == 0
    assert machine(capsys.readouterr().out) is None
    os.chown(world.etc, UID, GID)
    world.scan("--json")
    assert machine(capsys.readouterr().out)["not_looked_at"] == {
        "the home can't be looked at: it does not belong to the user": 1
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (".pam_environment", "GH_TOKEN DEFAULT={}"),
        (".pam_environment", 'GH_TOKEN OVERRIDE="{}"'),
        (".pam_environment", "GH_TOKEN={}"),
        (".cshrc", "setenv GH_TOKEN {}"),
        (".tcshrc", 'setenv GH_TOKEN "{}"'),
        (".login", "  setenv GH_TOKEN '{}'"),
    ],
)
def test_files_of_other_shells_and_of_pam_are_read(world, capsys, path, line):
    world.file(path, f"# mine\n{line.format(PLAIN)}\n")
    world.scan("--json")
    ((where, name),) = (seen := places(json.loads(capsys.readouterr().out)))
    assert (where, name) == (path, "GH_TOKEN")
    row = seen[where, name]
    assert (row["line"], row["holds"], row["state"]) == (2, "github-token", "plain")


def test_a_variable_that_only_a_recipe_knows_counts_and_its_agent_moves_it(world, capsys):
    recipe = """\
name = "mine"
[program]
commands = ["mine"]
[role]
argv0_names = ["mine"]
[[credential]]
name = "key"
kind = "openai-api-key"
variables = ["MINE"]
[[credential.place]]
file = "mine.env"
format = "env"
pointer = ["MINE"]
"""
    file = world.root / "mine.toml"
    file.write_text(recipe)
    world.file(".bashrc", f"export MINE={PLAIN}\n")
    world.scan("--json")
    assert places(json.loads(capsys.readouterr().out)) == {}
    assert main(["--root", str(world.installation), "agent", "add", str(file)]) == 0
    capsys.readouterr()
    world.scan("--json")
    assert list(places(json.loads(capsys.readouterr().out))) == [(".bashrc", "MINE")]
