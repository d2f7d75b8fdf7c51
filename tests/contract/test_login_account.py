"""Logins and keys of an agent's further accounts: by ``login --as``, and a first one by ``account add --login``."""

import json

import msgspec
import pytest

from agent_broker.identity.registry import Account, load_registry, save_enrollment
from agent_broker.inject.phantom import ACCOUNT_ATTRIBUTE, CREDENTIAL_ATTRIBUTE, RECORD_KIND
from agent_broker.vault.record import Credential
from tests.fakes.login_stage import CLAUDE_FILE, CLAUDE_LOGIN, UID, LoginStage

WRITE = f"leave({CLAUDE_FILE!r}, {{'claudeAiOauth': {CLAUDE_LOGIN!r}}})"
OWN, ACCOUNTS = f"claude/{UID}/oauth", f"claude/{UID}/private/oauth"
CODEX_LOGIN = {"id_token": "i.i.i", "access_token": "a.a.a", "refresh_token": "rt_1", "account_id": "theirs"}
LEAVE_CODEX = f"leave('.codex/auth.json', {{'auth_mode': 'chatgpt', 'tokens': {CODEX_LOGIN!r}}})"


@pytest.fixture
def stage():
    with LoginStage() as made:
        yield made


def registry(stage):
    return stage.root / "var/lib/agent-broker/registry/agents"


def with_account(stage, agent="claude"):
    """Give the enrolled agent a second account, with a phantom of its own, as ``account add`` does."""
    (enrollment,) = load_registry(registry(stage))
    own = enrollment.credentials[0]
    second = f"{agent}/{UID}/private/oauth"
    accounts = (Account("main", own), Account("private", second))
    save_enrollment(registry(stage), msgspec.structs.replace(enrollment, accounts=accounts))
    vault = stage.world.vault
    kind = vault[own][0].kind
    vault[second] = Credential(second, kind, agent, UID, 1, 1, 1, {"account_id": "mine"}), b'{"old": "second"}'
    for name, credential in (("main", own), ("private", second)):
        phantom, said = f"{agent}/{UID}/{name}/phantom", {CREDENTIAL_ATTRIBUTE: credential, ACCOUNT_ATTRIBUTE: name}
        vault[phantom] = Credential(phantom, RECORD_KIND, agent, UID, 1, 1, 1, said), b"p"


def secrets_of(stage):
    return {name: stage.world.vault[name][1] for name in (OWN, ACCOUNTS)}


def test_the_account_that_is_named_gets_the_login_and_the_other_keeps_its_own(stage):
    stage.stand_in(WRITE)
    with_account(stage)
    terminal = stage.run("--as", "private")
    assert terminal.end() == 0, terminal.text
    held = secrets_of(stage)
    assert (json.loads(held[ACCOUNTS]), held[OWN]) == (CLAUDE_LOGIN, b'{"old": "login"}')


def test_without_a_name_it_is_the_enrolled_one_however_many_there_are(stage):
    stage.stand_in(WRITE)
    with_account(stage)
    terminal = stage.run()
    assert terminal.end() == 0, terminal.text
    held = secrets_of(stage)
    assert (json.loads(held[OWN]), held[ACCOUNTS]) == (CLAUDE_LOGIN, b'{"old": "second"}')


def test_an_account_that_is_not_known_is_told_the_known_ones(stage):
    stage.stand_in(WRITE)
    with_account(stage)
    terminal = stage.run("--as", "other")
    assert terminal.end() == 2
    assert "accounts: main, private" in terminal.text
    assert secrets_of(stage)[ACCOUNTS] == b'{"old": "second"}'


def test_a_login_of_another_of_the_providers_accounts_is_told(stage):
    """Whoever saw the address of the login could have finished it for themselves."""
    stage.stand_in(LEAVE_CODEX, agent="codex")
    with_account(stage, "codex")
    terminal = stage.run("--as", "private", agent="codex")
    assert terminal.end() == 0, terminal.text
    assert "127.0.0.1:1455" in terminal.text
    assert "--device" in terminal.text
    assert "is of another of the provider's accounts" in " ".join(terminal.text.split())
    assert "login codex --as private" in " ".join(terminal.text.split())
    kept, secret = stage.world.vault[f"codex/{UID}/private/oauth"]
    assert (kept.attributes["account_id"], json.loads(secret)) == ("theirs", CODEX_LOGIN)


def test_a_first_login_of_an_account_goes_from_the_room_into_the_vault(stage):
    stage.stand_in(LEAVE_CODEX, agent="codex")
    (enrollment,) = load_registry(registry(stage))
    accounts = (Account("main", enrollment.credentials[0]),)
    save_enrollment(registry(stage), msgspec.structs.replace(enrollment, accounts=accounts))
    (stage.root / "etc/agent-broker/policy.d").mkdir(parents=True)
    (stage.root / "var/lib/agent-broker/enroll").mkdir(mode=0o700)
    terminal = stage.command("account", "add", "codex", "private", "--login", "--user", str(UID))
    assert terminal.end() == 0, terminal.text
    kept, secret = stage.world.vault[f"codex/{UID}/private/oauth"]
    assert (kept.kind, kept.attributes, json.loads(secret)) == ("openai-oauth", {"account_id": "theirs"}, CODEX_LOGIN)
    (enrollment,) = load_registry(registry(stage))
    assert [each.name for each in enrollment.accounts] == ["main", "private"]
    assert "rt_1" not in terminal.text


def test_an_account_that_cannot_be_is_told_before_anybody_logs_in(stage):
    stage.stand_in("print('it was started')", LEAVE_CODEX, agent="codex")
    with_account(stage, "codex")
    terminal = stage.command("account", "add", "codex", "private", "--login", "--user", str(UID))
    assert terminal.end() == 2
    assert "has an account private already" in terminal.text
    assert "it was started" not in terminal.text
