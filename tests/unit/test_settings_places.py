"""Which files are an agent's own settings, as an enrolment records them."""

import msgspec

from agent_broker.enroll.settings_places import settings_of
from agent_broker.identity.registry import Enrollment
from tests.fakes.control import enrollment


def test_each_agent_has_its_settings_in_the_home_and_the_operators():
    claude = {each.path: each for each in settings_of("claude", "/home/ann")}

    assert claude["/home/ann/.claude/settings.json"].format == "json"
    assert claude["/home/ann/.claude.json"].hot
    assert "/etc/claude-code/managed-settings.json" in claude
    assert [each.path for each in settings_of("codex", "/h") if each.format == "toml"] == [
        "/h/.codex/config.toml",
        "/etc/codex/config.toml",
    ]
    assert "/h/.gemini/.env" in [each.path for each in settings_of("gemini", "/h") if each.format == "env"]
    assert settings_of("another", "/h") == ()


def test_an_enrolment_without_settings_is_one_of_an_older_version():
    old = msgspec.json.decode(msgspec.json.encode(enrollment()))
    del old["settings"]

    assert msgspec.convert(old, Enrollment).settings == ()
