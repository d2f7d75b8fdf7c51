"""``enroll --all-users``: a plan for each user who has an agent, a transaction each, and the exit code says (root)."""

import json
import os
import pwd

import pytest

from agent_broker.cli.main import main
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.registry import load_registry
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import API_KEY, SETTINGS
from tests.fakes.scan_world import ScanWorld

FIRST = 31_001
NAMES = ("ann", "bob", "cleo")


class People:
    """Three users in the user database, each with a home of their own below one folder."""

    def __init__(self, world):
        self.world = world
        self.uids = {name: FIRST + place for place, name in enumerate(NAMES)}
        self.entries = [
            pwd.struct_passwd((name, "x", uid, uid, "", str(self.home(name)), "/bin/sh"))
            for name, uid in self.uids.items()
        ]
        for name, uid in self.uids.items():
            self.home(name).mkdir(mode=0o755)
            os.chown(self.home(name), uid, uid)

    def home(self, name):
        return self.world.root / name

    def gives(self, name, path, text):
        place = self.home(name) / path
        for folder in (place.parent, place):
            if folder == place:
                folder.write_text(text)
            else:
                folder.mkdir(exist_ok=True)
            os.chown(folder, self.uids[name], self.uids[name])
        return place

    def by_uid(self, uid):
        return next((each for each in self.entries if each.pw_uid == uid), None) or _raise(KeyError(uid))

    def by_name(self, name):
        return next((each for each in self.entries if each.pw_name == name), None) or _raise(KeyError(name))


def _raise(error):
    raise error


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def people(broker, monkeypatch):
    world = ScanWorld()
    made = People(world)
    monkeypatch.setattr(pwd, "getpwall", lambda: [*made.entries, pwd.struct_passwd(("root", "x", 0, 0, "", "/", ""))])
    monkeypatch.setattr(pwd, "getpwuid", made.by_uid)
    monkeypatch.setattr(pwd, "getpwnam", made.by_name)
    monkeypatch.setattr(os, "getgrouplist", lambda _, gid: [gid])
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(world.installation))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PATH", f"{world.root}/bin")
    monkeypatch.delenv("SUDO_USER", raising=False)
    with ServedBroker(broker, world.installation) as served:
        made.layout = served.layout
        yield made
    world.close()


@pytest.fixture
def settings(people):
    """Ann and Bob use Claude; Cleo uses nothing."""
    return {name: people.gives(name, ".claude/settings.json", SETTINGS) for name in ("ann", "bob")}


def enrolled(people):
    return sorted((each.agent, each.owner_name) for each in load_registry(people.layout.registry_folder))


def test_each_user_who_has_one_is_shown_a_plan_and_enrolled(people, settings, capsys):
    assert main(["enroll", "--all", "--all-users", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "Plan: enroll claude of ann" in said
    assert "Plan: enroll claude of bob" in said
    assert "cleo" not in said
    assert said.count("sudo agent-broker managed set") == 1
    assert enrolled(people) == [("claude", "ann"), ("claude", "bob")]
    assert not any(API_KEY in file.read_text() for file in settings.values())
    assert main(["enroll", "--all", "--all-users", "--yes"]) == 0  # nothing is left to do
    assert "no user has an agent that is not enrolled" in capsys.readouterr().out


def test_one_user_s_failure_is_told_and_undoes_nobody_else_s(people, settings, broker, capsys):
    original = broker.make_phantom

    async def fail_for_ann(agent, owner_uid, *rest):
        if owner_uid == people.uids["ann"]:
            raise UnavailableError("the disk is full", next_step="make room")
        return await original(agent, owner_uid, *rest)

    broker.make_phantom = fail_for_ann
    assert main(["enroll", "claude", "--all-users", "--yes"]) == UnavailableError.exit_code
    assert "claude of ann failed: the disk is full" in " ".join(capsys.readouterr().out.split())
    assert enrolled(people) == [("claude", "bob")]
    assert settings["ann"].read_text() == SETTINGS
    assert API_KEY not in settings["bob"].read_text()


def test_a_home_that_can_t_be_enrolled_counts_and_hinders_nobody(people, settings, capsys):
    secret = people.world.root / "secret.json"
    settings["ann"].rename(secret)
    settings["ann"].symlink_to(secret)
    assert main(["enroll", "claude", "--all-users", "--yes", "--json"]) == MisuseError.exit_code
    answer = json.loads(capsys.readouterr().out)
    assert [(each["user"], each["agent"], each["report"]["summary"]) for each in answer["enrolments"]] == [
        ("bob", "claude", "enrolled")
    ]
    ((left,), absent) = answer["left_out"], answer["absent"]
    assert (left["user"], left["agent"]) == ("ann", "claude")
    assert "is a symbolic link" in left["error"]["message"]
    assert [each["user"] for each in absent] == ["cleo"]
    assert enrolled(people) == [("claude", "bob")]
    assert secret.read_text() == SETTINGS


def test_a_key_that_only_a_profile_sets_is_no_reason_to_pass_a_user_over(people, settings, capsys):
    people.gives("cleo", ".claude/settings.json", "{}")
    people.gives("cleo", ".bashrc", f"export ANTHROPIC_API_KEY={API_KEY}\n")
    assert main(["enroll", "claude", "--all-users", "--yes"]) == MisuseError.exit_code
    said = " ".join(capsys.readouterr().out.split())
    assert f"left out claude of cleo: no credential of Claude's was found in {people.home('cleo')}" in said
    assert enrolled(people) == [("claude", "ann"), ("claude", "bob")]
    assert main(["enroll", "claude", "--all-users", "--yes", "--profiles"]) == 0
    assert enrolled(people) == [("claude", "ann"), ("claude", "bob"), ("claude", "cleo")]
    assert API_KEY not in (people.home("cleo") / ".bashrc").read_text()


def test_a_dry_run_changes_nothing(people, settings, capsys):
    assert main(["enroll", "--all", "--all-users", "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(each["user"], each["report"]) for each in answer["enrolments"]] == [("ann", None), ("bob", None)]
    assert [each["plan"]["owner_uid"] for each in answer["enrolments"]] == [FIRST, FIRST + 1]
    assert enrolled(people) == []
    assert {file.read_text() for file in settings.values()} == {SETTINGS}


@pytest.mark.parametrize(
    "options", [["--user", "ann"], ["--home", "/tmp"], ["--binary", "/bin/true"], ["--allow-env", "A=b"]]
)
def test_what_means_one_user_does_not_go_with_all(people, settings, options, capsys):
    assert main(["enroll", "claude", "--all-users", "--yes", *options]) == MisuseError.exit_code
    assert enrolled(people) == []
