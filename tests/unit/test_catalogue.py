"""The catalogue that ships, and what is refused in one."""

import os
import pwd

import pytest

from agent_broker.errors import MisuseError
from agent_broker.identity.allowed import is_interpreter
from agent_broker.monitor.catalogue import (
    home_of_user,
    ignored_places,
    load_catalogue,
    places_of,
    shipped_catalogue,
    wanted_of,
)

PROMISED = {
    "~/.ssh/id_*", "~/.aws/credentials", "~/.docker/config.json", "~/.kube/config", "~/.config/gcloud/**",
    "~/.netrc", "~/.git-credentials", "~/.config/gh/hosts.yml", "~/.npmrc", "~/.pypirc",
    "~/.claude/.credentials.json", "~/.codex/auth.json", "~/.gemini/oauth_creds.json",
    "~/.gnupg/private-keys-v1.d/*.key", "~/.cargo/credentials.toml", "~/.bash_history",
}  # fmt: skip


def test_the_shipped_catalogue_holds_what_is_promised():
    catalogue = shipped_catalogue()
    patterns = [each.pattern for each in catalogue.path]

    assert len(patterns) == len(set(patterns)) >= 40
    assert set(patterns) >= PROMISED
    assert all(each.holds for each in catalogue.path)


def test_every_program_of_the_catalogue_is_used():
    catalogue = shipped_catalogue()
    used = {name for each in catalogue.path for name in (*each.programs, *each.without_agent)}

    assert used == set(catalogue.program)


def test_no_interpreter_may_open_anything_below_an_agent():
    catalogue = shipped_catalogue()
    names = {name for each in catalogue.path for name in each.programs}

    files = [file for name in names for file in catalogue.program[name].files]
    assert [each for each in files if is_interpreter(each.replace("*", "3"))] == []


GOOD = """
[program.ssh]
packages = ["openssh-client"]
files = ["/usr/bin/ssh"]

[[path]]
pattern = "~/.ssh/id_*"
holds = "ssh-private-key"
programs = ["ssh"]
"""


def refused(tmp_path, text):
    path = tmp_path / "catalogue.toml"
    path.write_text(text)
    with pytest.raises(MisuseError) as raised:
        load_catalogue(path)
    return raised.value.message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("~/.ssh/id_*", "~/../x", "catalogue.toml:7: must have no empty component"),
        ('programs = ["ssh"]', 'programs = ["sssh"]', "catalogue.toml:9: no program is called sssh"),
        ("holds =", "hold =", "catalogue.toml:8: unknown key hold"),
        ('files = ["/usr/bin/ssh"]', "", "catalogue.toml:2: needs packages, and files or scripts"),
        ('"/usr/bin/ssh"', '"ssh"', "catalogue.toml:2: files and scripts are absolute paths"),
        ('packages = ["openssh-client"]', "packages = 1", "catalogue.toml:1: program: expected an array"),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path, old, new, says):
    assert GOOD.count(old) == 1
    assert refused(tmp_path, GOOD.replace(old, new)).startswith(says)


def test_places_are_in_the_homes_and_the_operators_patterns_come_last(tmp_path):
    path = tmp_path / "catalogue.toml"
    path.write_text(GOOD)
    catalogue = load_catalogue(path).with_extra(["/etc/key", "~/x"], ["~/gone"])

    places = places_of(catalogue, {1000: "/home/ann", 1001: "/home/bob"})

    assert [each.pattern for each in places] == [
        "/home/ann/.ssh/id_*", "/home/bob/.ssh/id_*", "/etc/key", "/home/ann/x", "/home/bob/x",
    ]  # fmt: skip
    assert {each.mark.owner_uid for each in wanted_of(places, deny=True)} == {0, 1000, 1001}
    assert all(each.mark.deny and each.mark.role == "credential" for each in wanted_of(places, deny=True))
    assert [each.pattern for each in ignored_places(["~/y"], {1000: "/home/ann"})] == ["/home/ann/y"]


def test_an_entry_that_is_ignored_as_written_is_gone():
    catalogue = shipped_catalogue()

    left = catalogue.with_extra((), ("~/.netrc",))

    assert {each.pattern for each in catalogue.path} - {each.pattern for each in left.path} == {"~/.netrc"}


def test_a_home_is_what_the_password_database_says(tmp_path, monkeypatch):
    homes = {1: str(tmp_path), 2: "/", 3: "relative", 4: f"{tmp_path}/*"}

    def getpwuid(uid):
        if uid not in homes:
            raise KeyError(uid)
        return pwd.struct_passwd(("x", "x", uid, uid, "", homes[uid], "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)

    assert [home_of_user(uid) for uid in (1, 2, 3, 4, 5)] == [os.path.realpath(tmp_path), "", "", "", ""]
