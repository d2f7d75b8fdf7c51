"""Accounts added to an enrolled agent, with the world of the enrolment tests: each step may fail, or be the last."""

import json

import pytest

from agent_broker.enroll.accounts import (
    MAX_ACCOUNTS,
    NewAccount,
    add_account,
    assign_folders,
    folder_named,
    remove_account,
    secret_of,
)
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.registry import load_registry
from agent_broker.ids import AgentName, Uid
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
