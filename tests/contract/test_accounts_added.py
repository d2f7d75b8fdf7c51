"""Accounts added to an enrolled agent, with the world of the enrolment tests: each step may fail, or be the last."""

import json

import pytest

from agent_broker.enroll.account_keys import attributes_of, kind_of, secret_of, values_in
from agent_broker.enroll.accounts import (
    MAX_ACCOUNTS,
    NewAccount,
    add_account,
    assign_folders,
    folder_named,
    remove_account,
    require_possible,
)
from agent_broker.enroll.roles import GEMINI
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.registry import Account, Enrollment, load_registry
from agent_broker.ids import AgentName, Uid
from agent_broker.inject.oauth_servers import LOGIN_SERVERS
from agent_broker.inject.oauth_tokens import Tokens
from agent_broker.policy.decide import Question, decide
from agent_broker.policy.document import load_policy
from agent_broker.vault.secret import Secret
from tests.fakes.enroll_world import UID, EnrollWorld

CLAUDE = AgentName("claude")
KEY = "sk-ant-api03-" + "Pr7" * 30
ID = f"claude/{UID}/private/api-key"


@pytest.fixture
def world():
    made = EnrollWorld().full()
    made.enroll()
    yield made
    made.close()


def new(name="private", folders=("/p",), uid=UID):
    return NewAccount(CLAUDE, Uid(uid), name, "api-key", Secret(KEY.encode()), folders)


def add(world, *args, **kwargs):
    return add_account(world.site(), world.store, new(*args, **kwargs))


def accounts(world):
    return {each.name: (each.credential, each.folders) for each in load_registry(world.site().registry_dir)[0].accounts}


def state(world):
    registry = [path.read_bytes() for path in world.site().registry_dir.glob("*.json")]
    policy = {path.name: path.read_bytes() for path in world.site().policy_dir.glob("*")}
    return registry, policy, set(world.store.records)


def allowed(world, credential, mode="inject"):
    question = Question(CLAUDE, Uid(UID), credential, mode, 0)
    return decide(load_policy(world.site().policy_dir), question, 0).allowed


def test_an_added_account_has_a_key_a_phantom_a_rule_and_a_place_in_the_registry(world):
    before = world.snapshot()
    add(world)

    assert accounts(world)["private"] == (ID, ("/p",))
    assert list(accounts(world)) == ["main", "private"]
    assert world.store.records[ID].content == KEY.encode()
    phantoms = {each: record.content for each, record in world.store.records.items() if each.endswith("/phantom")}
    assert set(phantoms) == {f"claude/{UID}/phantom", f"claude/{UID}/main/phantom", f"claude/{UID}/private/phantom"}
    assert len(set(phantoms.values())) == 3
    assert allowed(world, ID)
    assert not allowed(world, ID, "release")
    assert world.snapshot() == before


def test_a_removed_account_leaves_nothing_but_the_name_of_the_first(world):
    registry, policy, records = state(world)
    add(world)
    remove_account(world.site(), world.store, CLAUDE, Uid(UID), "private")

    assert state(world) == (registry, policy, records | {f"claude/{UID}/main/phantom"})
    assert not allowed(world, ID)


def test_unenroll_takes_the_accounts_with_it_and_says_so(world):
    add(world)
    report = world.unenroll()

    assert any("account private" in each and "deleted" in each for each in report.warnings)
    assert state(world) == ([], {}, set())


def test_an_edited_rule_stays_the_operators(world):
    add(world)
    rule = world.site().policy_dir / f"claude-{UID}-private.toml"
    rule.write_text(rule.read_text() + "rate_per_min = 5\n")
    (left,) = remove_account(world.site(), world.store, CLAUDE, Uid(UID), "private")

    assert "stays" in left
    assert rule.exists()
    (problem,) = add(world)
    assert "make sure that it allows" in problem
    assert "rate_per_min" in rule.read_text()


@pytest.mark.parametrize("method", ["put_credential", "make_phantom"])
def test_a_vault_that_fails_leaves_all_as_it_was(world, method, monkeypatch):
    before = state(world)

    def fail(*_args, **_kwargs):
        raise UnavailableError("the vault does not answer")

    monkeypatch.setattr(world.store, method, fail)
    with pytest.raises(UnavailableError):
        add(world)
    assert state(world) == before


def test_daemons_that_do_not_answer_leave_all_as_it_was(world):
    before = state(world)
    world.watch.alive = False
    with pytest.raises(UnavailableError):
        add(world)
    registry, policy, records = state(world)
    assert (registry, policy) == before[:2]
    assert ID not in records


@pytest.mark.parametrize("name", ["", "original", "phantom", "Work", "a/b", "..", "a" * 33, "main", "x\n"])
def test_a_name_that_cannot_be(world, name):
    before = state(world)
    with pytest.raises(MisuseError):
        add(world, name)
    assert state(world) == before


def test_an_agent_that_is_not_enrolled_gets_no_account(world):
    with pytest.raises(MisuseError, match="not enrolled"):
        add(world, uid=UID + 1)


def test_two_accounts_do_not_share_a_folder_and_there_are_not_endless_many(world):
    add(world)
    with pytest.raises(MisuseError, match="private's already"):
        add(world, "other", ("/p",))
    for number in range(MAX_ACCOUNTS - 2):
        add(world, f"n{number}", ())
    with pytest.raises(MisuseError, match="at most"):
        add(world, "one-more", ())


def test_folders_are_assigned_anew(world):
    add(world)
    assign_folders(world.site(), CLAUDE, Uid(UID), "main", ("/m",))
    assign_folders(world.site(), CLAUDE, Uid(UID), "private", ("/q", "/r"))
    assert [folders for _, folders in accounts(world).values()] == [("/m",), ("/q", "/r")]
    with pytest.raises(MisuseError, match="main's already"):
        assign_folders(world.site(), CLAUDE, Uid(UID), "private", ("/m",))
    with pytest.raises(MisuseError, match="no account of that name"):
        assign_folders(world.site(), CLAUDE, Uid(UID), "other", ())


def test_the_enrolled_account_goes_by_unenroll_only(world):
    with pytest.raises(MisuseError, match="enrolled account"):
        remove_account(world.site(), world.store, CLAUDE, Uid(UID), "main")


def test_a_login_is_taken_as_claude_keeps_it_or_as_a_bare_token():
    login = {"accessToken": "sk-ant-oat01-x", "refreshToken": "sk-ant-ort01-x", "expiresAt": 1}
    for text in (json.dumps(login), json.dumps({"claudeAiOauth": login, "mcpOAuth": {}})):
        assert json.loads(secret_of("claude", "oauth", text.encode()).reveal()) == login
    assert json.loads(secret_of("claude", "oauth", b"sk-ant-oat01-long-lived\n").reveal())["refreshToken"] is None
    assert secret_of("claude", "api-key", f" {KEY}\n".encode()).reveal() == KEY.encode()


TOKENS = {"id_token": "i.i.i", "access_token": "a.a.a", "refresh_token": "rt_1", "account_id": "acc-1"}
GOOGLE = {"access_token": "ya29.x", "refresh_token": "1//x", "expiry_date": 1, "token_type": "Bearer"}


@pytest.mark.parametrize(
    ("agent", "file", "kept", "attributes"),
    [
        ("codex", {"auth_mode": "chatgpt", "tokens": TOKENS}, TOKENS, {"account_id": "acc-1"}),
        ("codex", {**TOKENS, "account_id": ""}, {**TOKENS, "account_id": ""}, {}),
        ("gemini", GOOGLE, GOOGLE, {}),
    ],
)
def test_a_login_of_the_others_is_taken_as_their_files_hold_it(agent, file, kept, attributes):
    secret = secret_of(agent, "oauth", json.dumps(file).encode())
    assert json.loads(secret.reveal()) == kept
    kind = kind_of(agent, "oauth")
    assert attributes_of(kind, secret) == attributes
    assert set(values_in("oauth", secret)) == {each for each in kept.values() if isinstance(each, str)}
    assert Tokens(secret, LOGIN_SERVERS[kind]).refresh == kept["refresh_token"]


@pytest.mark.parametrize("agent", ["codex", "gemini"])
@pytest.mark.parametrize("missing", ["access_token", "refresh_token"])
def test_a_login_that_would_end_within_hours_is_none(agent, missing):
    file = {name: value for name, value in TOKENS.items() if name != missing}
    for data in (json.dumps(file).encode(), json.dumps({"tokens": [file]}).encode(), b"genuine-bare-token"):
        with pytest.raises(MisuseError, match="not a login") as caught:
            secret_of(agent, "oauth", data)
        assert "genuine" not in caught.value.explain()


def test_an_agent_without_a_table_has_one_account():
    with pytest.raises(MisuseError, match="these can: claude, codex, gemini"):
        secret_of("aider", "api-key", KEY.encode())


@pytest.mark.parametrize(
    ("kind", "data"),
    [("api-key", b""), ("api-key", b"genuine key"), ("api-key", b"genuine\xff\xff"), ("oauth", b'{"genuine": 1}'),
     ("oauth", b'{"accessToken": 1, "x": "genuine"}'), ("oauth", b"{genuine"), ("password", b"genuine-genuine")],
)  # fmt: skip
def test_what_is_not_a_key_is_not_quoted(kind, data):
    with pytest.raises(MisuseError) as caught:
        secret_of("claude", kind, data)
    assert "genuine" not in caught.value.explain()


def test_a_folder_is_named_as_the_kernel_names_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert folder_named(tmp_path / "real/../real") == str(tmp_path / "real")
    for bad, why in (("link", "symbolic link"), ("none", "no folder")):
        with pytest.raises(MisuseError, match=why):
            folder_named(tmp_path / bad)


def gemini_of(enrolled):
    own = f"gemini/{UID}/{enrolled}"
    return Enrollment("gemini", UID, "me", (), GEMINI, (), (own,), 0, accounts=(Account("main", own),))


@pytest.mark.parametrize(
    ("enrolled", "added"), [("api-key", "oauth"), ("stored-api-key", "oauth"), ("oauth", "api-key")]
)
def test_a_folder_cannot_choose_between_geminis_two_protocols(enrolled, added):
    def account(key, folders=()):
        return NewAccount(AgentName("gemini"), Uid(UID), "private", key, Secret(b""), folders)

    enrollment = gemini_of(enrolled)
    require_possible(enrollment, account(added))
    require_possible(enrollment, account("oauth" if enrolled == "oauth" else "api-key", ("/p",)))
    with pytest.raises(MisuseError, match="can't choose between them") as caught:
        require_possible(enrollment, account(added, ("/p",)))
    assert "run --as" in caught.value.next_step


def enrolled_with(name, agent="claude"):
    """An enrolment whose credential is of another name; what else there is of it does not matter here."""
    own = f"{agent}/{UID}/{name}"
    return Enrollment(AgentName(agent), UID, "me", (), GEMINI, (), (own,), 0, accounts=(Account("main", own),))


@pytest.mark.parametrize("name", ["aws-keys", "aws-profile", "bedrock-api-key"])
def test_at_bedrock_an_account_has_a_bedrock_key_and_no_other(name):
    enrollment = enrolled_with(name)
    require_possible(enrollment, NewAccount(CLAUDE, Uid(UID), "private", "bedrock-api-key", Secret(b"")))
    for key in ("api-key", "auth-token", "oauth"):
        with pytest.raises(MisuseError, match="at Bedrock, where an account has a key of the kind bedrock-api-key"):
            require_possible(enrollment, NewAccount(CLAUDE, Uid(UID), "private", key, Secret(b"")))


def test_a_bedrock_key_is_no_account_of_an_agent_at_its_maker():
    with pytest.raises(MisuseError, match="enrolled at its maker") as refusal:
        require_possible(
            enrolled_with("api-key"), NewAccount(CLAUDE, Uid(UID), "private", "bedrock-api-key", Secret(b""))
        )
    assert "unenroll claude" in refusal.value.next_step


@pytest.mark.parametrize(
    ("agent", "name"), [("claude", "google-adc"), ("gemini", "google-adc"), ("gemini", "vertex-api-key")]
)
def test_at_vertex_there_is_one_account(agent, name):
    with pytest.raises(MisuseError, match="at Vertex AI, where it can't have several accounts"):
        require_possible(
            enrolled_with(name, agent), NewAccount(AgentName(agent), Uid(UID), "private", "api-key", Secret(b""))
        )


def test_an_account_at_bedrock_is_bound_to_the_region_of_the_enrolled_key():
    made = EnrollWorld().full()
    settings = made.home / ".claude/settings.json"
    made.make(settings, json.dumps({"env": {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-central-1",
                                            "AWS_BEARER_TOKEN_BEDROCK": "ABSK" + "x1" * 40}}))  # fmt: skip
    try:
        made.enroll()
        place = made.store.records[f"claude/{UID}/bedrock-api-key"].attributes
        key = Secret(b"ABSK" + b"y2" * 40)
        add_account(
            made.site(), made.store, NewAccount(CLAUDE, Uid(UID), "private", "bedrock-api-key", key, place=place)
        )
        added = made.store.records[f"claude/{UID}/private/bedrock-api-key"]
    finally:
        made.close()
    assert (added.kind, added.attributes) == ("bedrock-api-key", {"regions": "eu-central-1"})
