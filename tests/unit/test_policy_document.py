import os
import re
from pathlib import Path

import pytest

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.policy.decide import Question, decide
from agent_broker.policy.document import load_policy, parse_policy
from agent_broker.policy.rule import CredentialPattern, Hours

EXAMPLE = Path(__file__).parents[2] / "docs" / "policy-example.toml"

RULE = """
[[rule]]
agent = "claude"
owner = 1000
credential = "claude/1000/*"
modes = ["inject"]
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "policy.d"
    folder.mkdir(mode=0o755)
    return folder


def test_the_example_is_a_policy():
    policy = parse_policy(EXAMPLE.read_bytes(), str(EXAMPLE))
    usual, narrow, own, agents, sessions = policy.rules
    assert (own.session, own.agent, own.owner_uid, own.credential.text) == ("terminal", "", 0, "git/0/*")
    assert (agents.agent, agents.owner_uid, agents.modes) == ("claude", 0, {"release", "mint", "sign", "view"})
    assert str(agents.to) == "https://github.com/alice/website"
    pushes = Question("claude", 0, "git/0/github.com", "release", 0, to=agents.to)
    assert decide(policy, pushes, 0).allowed
    assert not decide(policy, Question("claude", 0, "aws/0/production", "mint", 0), 0).allowed
    assert (sessions.modes, sessions.narrowed) == ({"mint"}, "arn:aws:iam::aws:policy/ReadOnlyAccess")
    assert decide(policy, Question("claude", 0, "aws/0/dev", "mint", 0), 0).narrowed == sessions.narrowed
    assert (usual.agent, usual.owner_uid, usual.modes, usual.rate_per_min) == ("claude", 1000, {"inject"}, 600)
    assert (narrow.owner_uid, narrow.hours) == (0, Hours(8 * 60, 18 * 60))
    assert decide(policy, Question("claude", 1000, "claude/1000/api-key", "inject", 0), 0).allowed
    assert not decide(policy, Question("claude", 1000, "claude/1000/api-key", "release", 0), 0).allowed


def test_a_rule_says_where_it_stands():
    first, second = parse_policy((RULE + RULE).encode(), "/etc/policy.d/10-claude.toml").rules
    assert (first.where, second.where) == ("10-claude.toml:2", "10-claude.toml:8")
    assert first.credential == CredentialPattern("claude/1000/*")


def test_no_folder_or_no_files_is_no_rules(tmp_path, folder):
    assert load_policy(tmp_path / "none").rules == ()
    assert load_policy(folder).rules == ()
    (folder / "README").write_text("not a policy")
    assert load_policy(folder).rules == ()


def test_all_toml_files_count_in_order_of_names(folder):
    for name in ("20-b.toml", "10-a.toml"):
        (folder / name).write_text(RULE)
    assert [rule.where for rule in load_policy(folder).rules] == ["10-a.toml:2", "20-b.toml:2"]


def test_an_owner_by_name_is_looked_up():
    assert parse_policy(RULE.replace("1000", '"root"', 1).encode(), "p").rules[0].owner_uid == 0


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("owner = 1000", 'owner = "no-such-user"', 4, "no user of this name"),
        ("owner = 1000", "owner = -1", 4, ""),
        ("owner = 1000", 'owner = ""', 4, ""),
        ("owner = 1000", "owner = 1000\nshell = true", 5, "unknown key shell"),
        ("owner = 1000", "owner = 1000\nrate_per_minute = 5", 5, "did you mean rate_per_min"),
        ('agent = "claude"\n', "", 2, "agent or session"),
        ('agent = "claude"', 'agent = "claude"\nsession = "user"', 2, "agent or session"),
        ('agent = "claude"', 'session = "desktop"', 3, ""),
        ('owner = 1000\ncredential = "claude/1000/*"', 'credential = "claude/*/*"', 4, "names no owner"),
        ('modes = ["inject"]\n', "", 2, "has modes"),
        ('modes = ["inject"]', 'modes = ["inject"]\nto = "github.com"', 7, "SCHEME://HOST"),
        ('"claude/1000/*"', '"*"', 5, "AGENT/OWNER_UID/NAME"),
        ('"claude/1000/*"', '"claude/1000/[a-z]*"', 5, "AGENT/OWNER_UID/NAME"),
        ('["inject"]', "[]", 6, ""),
        ('["inject"]', '["inject", "everything"]', 6, "must be one of"),
        ('["inject"]', '"inject"', 6, ""),
        ('["inject"]', '["inject"]\nrate_per_min = 0', 7, ""),
        ('["inject"]', '["inject"]\nhours = "8-18"', 7, "HH:MM-HH:MM"),
        ('["inject"]', '["inject"]\nhours = "08:00-08:00"', 7, "none"),
        ('["inject"]', '["inject"]\nhours = "08:00-24:01"', 7, "HH:MM-HH:MM"),
        ('["inject"]', '["inject"', 6, "not TOML"),
        ("[[rule]]", "[[rules]]", 2, "unknown key rules"),
        ("[[rule]]", "[rule]", 2, ""),
    ],
)
def test_what_is_not_understood_refuses_all_with_its_line(folder, old, new, line, complaint):
    assert old in RULE
    (folder / "10-good.toml").write_text(RULE)
    (folder / "20-bad.toml").write_text(RULE.replace(old, new))
    with pytest.raises(MisuseError) as caught:
        load_policy(folder)
    assert re.search(rf"20-bad\.toml:{line}: ", caught.value.message), caught.value.message
    assert complaint in caught.value.message


def test_the_line_of_the_second_rule(folder):
    (folder / "p.toml").write_text(RULE + RULE.replace("1000", '"no-such-user"', 1))
    with pytest.raises(MisuseError, match=r"p\.toml:10: owner: "):
        load_policy(folder)


@pytest.mark.parametrize(
    "loosen", [lambda path: path.chmod(0o664), lambda path: path.chmod(0o646), lambda path: os.chown(path, 1000, 0)]
)
@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_others_could_have_written_is_refused(folder, which, loosen):
    (folder / "p.toml").write_text(RULE)
    loosen(folder if which == "folder" else folder / "p.toml")
    with pytest.raises(IntegrityError, match="others than root"):
        load_policy(folder)


def test_links_are_refused(tmp_path, folder):
    (tmp_path / "elsewhere.toml").write_text(RULE)
    (folder / "p.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(MisuseError, match="can't be read"):
        load_policy(folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(IntegrityError, match="others than root"):
        load_policy(tmp_path / "link")


def test_a_dangling_link_in_place_of_the_folder_is_not_an_empty_policy(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(IntegrityError):
        load_policy(tmp_path / "link")


def test_a_file_that_is_too_long_or_no_file(folder):
    (folder / "p.toml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(MisuseError, match="longer than"):
        load_policy(folder)
    (folder / "p.toml").unlink()
    os.mkfifo(folder / "p.toml", 0o600)
    with pytest.raises(MisuseError, match="not a regular file"):
        load_policy(folder)


NARROWED = """
[[rule]]
agent = "claude"
credential = "aws/1000/dev"
session_policy = POLICY
"""
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@pytest.mark.parametrize(
    ("written", "narrowed"),
    [
        (f'"{READ_ONLY}"', READ_ONLY),
        (
            f'["{READ_ONLY}", "arn:aws:iam::123456789012:policy/a/b"]',
            f"{READ_ONLY} arn:aws:iam::123456789012:policy/a/b",
        ),
        (
            """'''{ "Version": "2012-10-17",
                  "Statement": [] }'''""",
            '{"Version":"2012-10-17","Statement":[]}',
        ),
    ],
)
def test_a_session_policy_narrows_what_is_minted_and_nothing_else_is_allowed(written, narrowed):
    (rule,) = parse_policy(NARROWED.replace("POLICY", written).encode(), "p").rules
    assert (rule.narrowed, rule.modes) == (narrowed, {"mint"})


@pytest.mark.parametrize(
    "written",
    ['"ReadOnlyAccess"', "[]", '"{"', '"{}"', '"[]"', f'"{READ_ONLY} {READ_ONLY}"', "1", f'["{READ_ONLY}\\n"]',
     "[" + f'"{READ_ONLY}",' * 11 + "]", "'''{\"Statement\": \"" + "x" * 2048 + "\"}'''"],
)  # fmt: skip
def test_what_aws_would_not_take_as_a_session_policy_refuses_all(written):
    with pytest.raises(MisuseError):
        parse_policy(NARROWED.replace("POLICY", written).encode(), "p")


@pytest.mark.parametrize("modes", ['["release"]', '["mint", "release"]'])
def test_a_key_that_is_released_can_t_be_narrowed(modes):
    text = NARROWED.replace("POLICY", f'"{READ_ONLY}"') + f"modes = {modes}\n"
    with pytest.raises(MisuseError, match="narrows what is minted"):
        parse_policy(text.encode(), "p")
