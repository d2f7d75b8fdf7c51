"""Unenroll after a while: what the user and the agent changed in the meantime stays (needs root)."""

import json
import os

import pytest

from agent_broker.errors import MisuseError
from tests.fakes.enroll_world import ACCESS, API_KEY, CONFIG, GID, OAUTH, PRIMARY_KEY, SETTINGS, UID, EnrollWorld


@pytest.fixture
def world():
    world = EnrollWorld().full()
    world.enroll()
    yield world
    world.close()


def outcome_of(report, path):
    return next(outcome.what for outcome in report.outcomes if outcome.file == str(path))


def rewrite(world, path, change):
    """As the agent does: parse, change, write anew with its own white space, rename over the old one."""
    value = json.loads(path.read_text().replace("// mine", ""))
    change(value)
    world.make(path.with_suffix(".tmp"), json.dumps(value, indent=4)).rename(path)
    return value


def test_files_that_the_agent_rewrote(world):
    rewrite(world, world.settings, lambda value: value.update(model="sonnet", theme="dark"))
    rewrite(world, world.config, lambda value: value.update(numStartups=8, tips=[1]))
    report = world.unenroll()
    settings, config = json.loads(world.settings.read_text()), json.loads(world.config.read_text())
    assert settings == {
        "model": "sonnet",
        "env": {"EDITOR": "vi", "ANTHROPIC_API_KEY": API_KEY, "PAGER": "less"},
        "permissions": {"allow": ["Bash(ls:*)"]},
        "theme": "dark",
    }
    assert list(settings["env"]) == ["EDITOR", "ANTHROPIC_API_KEY", "PAGER"]
    assert config == {**CONFIG, "numStartups": 8, "tips": [1]}
    assert list(config) == ["numStartups", "primaryApiKey", "hasCompletedOnboarding", "projects", "tips"]
    assert "changes kept" in outcome_of(report, world.settings)
    assert "as it was" in outcome_of(report, world.credentials)
    assert world.store.records == {}


def test_a_mode_that_the_user_changed_stays(world):
    world.settings.chmod(0o600)
    world.unenroll()
    assert world.settings.stat().st_mode & 0o777 == 0o600
    assert world.settings.read_text() == SETTINGS


def test_a_new_login_over_the_decoy_is_kept_and_the_old_one_is_not_lost(world):
    newer = {**OAUTH["claudeAiOauth"], "accessToken": "sk-ant-oat01-NEW", "refreshToken": "sk-ant-ort01-NEW"}
    world.make(world.credentials, json.dumps({"claudeAiOauth": newer}))
    report = world.unenroll()
    assert json.loads(world.credentials.read_text()) == {"claudeAiOauth": newer}
    (kept,) = world.claude.glob(".credentials.json.before-agent-broker-*")
    assert str(kept) in outcome_of(report, world.credentials)
    assert json.loads(kept.read_text()) == OAUTH
    facts = kept.stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (UID, GID, 0o600)


def test_a_new_key_in_the_old_one_s_place(world):
    rewrite(world, world.settings, lambda value: value["env"].update(ANTHROPIC_API_KEY="newer"))
    report = world.unenroll()
    assert json.loads(world.settings.read_text())["env"] == {
        "EDITOR": "vi",
        "PAGER": "less",
        "ANTHROPIC_API_KEY": "newer",
    }
    (kept,) = world.claude.glob("settings.json.before-agent-broker-*")
    assert kept.read_text() == SETTINGS
    assert "env.ANTHROPIC_API_KEY is newer" in outcome_of(report, world.settings)


def test_other_logins_that_were_added_to_the_decoy_file_stay(world):
    rewrite(world, world.credentials, lambda value: value.update(mcpOAuth={"server": {"accessToken": "m"}}))
    world.unenroll()
    assert json.loads(world.credentials.read_text()) == {**OAUTH, "mcpOAuth": {"server": {"accessToken": "m"}}}


def test_a_logout_is_undone(world):
    rewrite(world, world.credentials, lambda value: value.pop("claudeAiOauth"))
    world.unenroll()
    assert json.loads(world.credentials.read_text()) == OAUTH


@pytest.mark.parametrize("name", ["credentials", "settings", "config"])
def test_a_file_that_was_deleted_comes_back(world, name):
    path = getattr(world, name)
    path.unlink()
    report = world.unenroll()
    assert "deleted by its owner" in outcome_of(report, path)
    assert world.secrets_in_home() >= {PRIMARY_KEY.encode(), ACCESS.encode(), API_KEY.encode()}
    assert path.stat().st_uid == UID
    assert path.stat().st_mtime_ns == 1_600_000_000_987_654_321


def test_a_file_that_is_not_json_any_more(world):
    world.settings.write_text("{ broken")
    report = world.unenroll()
    assert world.settings.read_text() == "{ broken"
    (kept,) = world.claude.glob("settings.json.before-agent-broker-*")
    assert kept.read_text() == SETTINGS
    assert str(kept) in outcome_of(report, world.settings)


def test_a_refreshed_login_comes_back_refreshed(world):
    """The provider rotates refresh tokens: the one of before enrolment may be worth nothing by now."""
    now = {**OAUTH["claudeAiOauth"], "accessToken": "A2", "refreshToken": "R2", "expiresAt": 1799999999999, "x": 1}
    world.store.records["claude/61234/oauth"].content = json.dumps(now).encode()
    report = world.unenroll()
    del now["x"]
    assert world.credentials.read_text() == json.dumps({"claudeAiOauth": now})
    assert "refreshed" in outcome_of(report, world.credentials)
    assert "as it was: content" in outcome_of(report, world.settings)


def test_a_refreshed_login_with_a_changed_file(world):
    now = {**OAUTH["claudeAiOauth"], "accessToken": "A2", "refreshToken": "R2"}
    world.store.records["claude/61234/oauth"].content = json.dumps(now).encode()
    rewrite(world, world.credentials, lambda value: value.update(other=1))
    world.unenroll()
    assert json.loads(world.credentials.read_text()) == {"claudeAiOauth": now, "other": 1}


def test_a_key_that_was_replaced_in_the_vault_comes_back_as_it_is_there(world):
    world.store.records["claude/61234/api-key"].content = b"rotated"
    world.unenroll()
    assert world.settings.read_text() == SETTINGS.replace(API_KEY, "rotated")


def test_a_made_file_that_grew(world):
    world.unenroll()
    world.settings.unlink()
    world.credentials.unlink()
    world.enroll()
    rewrite(world, world.settings, lambda value: value.update(model="opus"))
    rewrite(world, world.credentials, lambda value: value.update(mcpOAuth={"s": 1}))
    world.unenroll()
    assert json.loads(world.settings.read_text()) == {"model": "opus"}
    assert json.loads(world.credentials.read_text()) == {"mcpOAuth": {"s": 1}}


def test_a_made_file_that_became_a_login(world):
    world.unenroll()
    world.credentials.unlink()
    world.enroll()
    login = {"claudeAiOauth": {**OAUTH["claudeAiOauth"], "scopes": ["user:inference", "user:profile"]}}
    world.make(world.credentials, json.dumps(login))
    world.unenroll()
    assert json.loads(world.credentials.read_text()) == login


def test_a_made_file_that_is_gone(world):
    world.unenroll()
    world.credentials.unlink()
    before = world.snapshot()
    world.enroll()
    world.credentials.unlink()
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize(
    "spoil", [os.unlink, lambda path: os.chown(path, 0, 0), lambda path: os.link(path, f"{path}.2")]
)
def test_a_file_that_may_not_be_touched_now_stops_it_before_anything_is_changed(world, spoil):
    path = world.config
    spoil(path)
    if not path.exists():
        path.symlink_to("elsewhere")
    before = world.snapshot()
    with pytest.raises(MisuseError) as caught:
        world.unenroll()
    assert str(path) in caught.value.message
    assert world.snapshot() == before
    assert world.registered() == ["claude-61234.json"]
    assert world.store.holds(API_KEY.encode())


def test_the_decoy_is_not_opened_while_it_is_watched(world):
    """Whoever opens it raises an alert, and root's own tool must not be the first to do so."""
    opened = []

    def look(step):
        os.utime(world.credentials, ns=(1, world.credentials.stat().st_mtime_ns))  # relatime would show any read
        opened.append((step, world.credentials.stat().st_atime_ns != 1))

    os.utime(world.credentials, ns=(1, world.credentials.stat().st_mtime_ns))
    steps = []

    def at(step):
        steps.append((step, world.credentials.stat().st_atime_ns))

    world.unenroll(at)
    before_reload = [atime for step, atime in steps[: [step for step, _ in steps].index("reloaded") + 1]]
    assert before_reload == [1, 1, 1, 1]
