"""What Claude's files may hold, and which credential counts (needs root)."""

import json
import os
import shutil
import subprocess

import pytest

from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from tests.fakes.enroll_world import ACCESS, API_KEY, OAUTH, PRIMARY_KEY, UID, EnrollWorld

TOKEN = "gateway-token-0123456789"
SETUP_TOKEN = "sk-ant-oat01-" + "Su1" * 31 + "AA"
KEY = {"env": {"ANTHROPIC_API_KEY": API_KEY}}
BEARER = {"env": {"ANTHROPIC_AUTH_TOKEN": TOKEN}}
HELPER = {"apiKeyHelper": "/usr/local/bin/key --for me"}
SETUP = {"env": {"CLAUDE_CODE_OAUTH_TOKEN": SETUP_TOKEN}}
PRIMARY = {"primaryApiKey": PRIMARY_KEY}


@pytest.fixture
def world():
    world = EnrollWorld()
    yield world
    world.close()


def merged(*parts):
    result = {}
    for part in parts:
        for key, value in part.items():
            result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


@pytest.mark.parametrize(
    ("settings", "config", "oauth", "active"),
    [
        ((KEY, BEARER, HELPER, SETUP), PRIMARY, OAUTH, "api-key"),
        ((BEARER, HELPER, SETUP), PRIMARY, OAUTH, "auth-token"),
        ((HELPER, SETUP), PRIMARY, OAUTH, "primary-api-key"),
        ((SETUP,), PRIMARY, OAUTH, "primary-api-key"),
        ((SETUP,), {}, OAUTH, "oauth-token"),
        ((HELPER,), {}, OAUTH, "oauth"),
        ((), {}, OAUTH, "oauth"),
        ((), PRIMARY, None, "primary-api-key"),
        (({"env": {"ANTHROPIC_API_KEY": ""}},), {"primaryApiKey": ""}, OAUTH, "oauth"),
    ],
)
def test_claude_s_own_precedence(world, settings, config, oauth, active):
    world.make(world.settings, json.dumps(merged(*settings)))
    world.make(world.config, json.dumps(config))
    if oauth is not None:
        world.make(world.credentials, json.dumps(oauth))
    before = world.snapshot()
    plan = world.plan()
    assert plan.active == f"claude/{UID}/{active}"
    assert len(plan.credentials) == sum(
        map(len, [s.get("env", {}) for s in settings if any(s.get("env", {}).values())])
    ) + (bool(config.get("primaryApiKey")) + (oauth is not None))
    world.enroll()
    values = [value.encode() for value in (API_KEY, TOKEN, SETUP_TOKEN, PRIMARY_KEY, ACCESS)]
    assert not [value for value in values for facts in world.snapshot().values() if value in facts.data]
    env = json.loads(world.settings.read_text())["env"]
    assert set(env) == {"ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"}
    assert "apiKeyHelper" not in json.loads(world.settings.read_text())
    world.unenroll()
    assert world.snapshot() == before


def test_kinds_of_the_vault(world):
    world.make(world.settings, json.dumps(merged(BEARER, SETUP)))
    world.enroll()
    records = world.store.records
    assert (records[f"claude/{UID}/auth-token"].kind, records[f"claude/{UID}/auth-token"].content) == (
        "anthropic-auth-token",
        TOKEN.encode(),
    )
    setup = records[f"claude/{UID}/oauth-token"]
    assert setup.kind == "anthropic-oauth"
    assert json.loads(setup.content) == {
        "accessToken": SETUP_TOKEN,
        "refreshToken": None,
        "expiresAt": 4102444800000,
        "scopes": ["user:inference"],
    }


def test_a_helper_alone_can_not_be_moved(world):
    world.make(world.settings, json.dumps(HELPER))
    with pytest.raises(MisuseError, match="apiKeyHelper") as caught:
        world.plan()
    assert "ANTHROPIC_API_KEY" in caught.value.next_step


def test_a_helper_beside_a_login_is_said_to_be_off(world):
    world.make(world.settings, json.dumps(HELPER))
    world.make(world.credentials, json.dumps(OAUTH))
    plan = world.plan()
    assert any("apiKeyHelper" in row.holds and "off while enrolled" in row.will for row in plan.rows)
    assert any("apiKeyHelper prints" in warning for warning in plan.warnings)
    assert HELPER["apiKeyHelper"] not in repr(plan)


def test_other_credentials_in_the_file_stay_and_are_named(world):
    world.make(world.credentials, json.dumps({**OAUTH, "mcpOAuth": {"s": {"accessToken": "mcp-secret-token"}}}))
    plan = world.plan()
    assert any("mcpOAuth" in warning and "stay" in warning for warning in plan.warnings)
    world.enroll()
    assert json.loads(world.credentials.read_text())["mcpOAuth"] == {"s": {"accessToken": "mcp-secret-token"}}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("export ANTHROPIC_API_KEY=sk-ant-x", "ANTHROPIC_API_KEY"),
        ("  ANTHROPIC_AUTH_TOKEN=x", "ANTHROPIC_AUTH_TOKEN"),
        ("declare -x BUN_OPTIONS='--preload x'", "BUN_OPTIONS"),
        ("set -gx CLAUDE_CONFIG_DIR /x", "CLAUDE_CONFIG_DIR"),
    ],
)
def test_profiles_that_defeat_the_wiring_are_named_by_line(world, line, name):
    world.full()
    world.make(world.home / ".bashrc", f"# hello\n# export LD_PRELOAD=x\n{line}\necho ANTHROPIC_API_KEY=1\n")
    world.make(world.home / "profile", "x")
    (world.home / ".profile").symlink_to("profile")
    found = [warning for warning in world.plan().warnings if ".bashrc" in warning]
    assert len(found) == 1
    assert found[0].startswith(f"{world.home}/.bashrc:3: {name} ")
    assert "sk-ant-x" not in found[0]


def test_settings_that_may_beat_the_wiring_are_named(world):
    world.full()
    world.make(world.claude / "settings.local.json", '{"env": {"ANTHROPIC_BASE_URL": "http://x"}}')
    (world.root / "managed-settings.json").write_text('{"apiKeyHelper": "x"}')
    warnings = world.plan().warnings
    assert any("settings.local.json mentions ANTHROPIC_" in warning for warning in warnings)
    assert any("managed-settings.json mentions apiKeyHelper" in warning for warning in warnings)


def test_a_base_url_of_the_user_s_is_named_and_comes_back(world):
    world.make(world.settings, json.dumps(merged(BEARER, {"env": {"ANTHROPIC_BASE_URL": "https://gateway.example"}})))
    before = world.snapshot()
    assert any("ANTHROPIC_BASE_URL" in warning for warning in world.plan().warnings)
    world.enroll()
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize("content", [b"not json", b'{"primaryApiKey": '])
def test_a_backup_that_is_not_json_is_named_and_left(world, content):
    world.full()
    backup = world.make(world.claude / "backups/.claude.json.corrupted.5", content)
    (world.claude / "backups/link").symlink_to("/etc/passwd")
    world.make_folder(world.claude / "backups/folder")
    warnings = world.plan().warnings
    assert f"{backup} is not JSON: not looked into" in warnings
    assert f"{world.claude}/backups/link is not a regular file: not looked into" in warnings
    world.enroll()
    assert backup.read_bytes() == content


def test_an_agent_that_runs_is_named(world):
    world.full()
    world.binary.unlink()
    shutil.copy(shutil.which("sleep"), world.binary)
    with subprocess.Popen([world.binary, "1000"], user=UID) as agent:
        try:
            assert any(f"runs now (pid {agent.pid})" in warning for warning in world.plan().warnings)
        finally:
            agent.kill()


def test_a_binary_of_the_user_s_own_is_named(world):
    world.full()
    assert not any("replaced by the user" in warning for warning in world.plan().warnings)
    os.chown(world.binary.parent, UID, -1)
    assert any(f"{world.binary} can be replaced by the user" in warning for warning in world.plan().warnings)


def test_the_enrolment_names_the_settings_that_others_may_not_change(world):
    world.make(world.credentials, json.dumps(OAUTH))
    world.enroll()

    (enrolled,) = load_registry(world.site().registry_dir)

    assert {str(world.home / name) for name in (".claude/settings.json", ".claude.json")} < {
        each.path for each in enrolled.settings
    }
