"""The rule that enroll writes is one that the broker reads, and no more than it says."""

from pathlib import Path

from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.policy_file import policy_path, policy_text, remove_policy, write_policy
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.policy.document import load_policy

CLAUDE = AgentName("claude")
OWNER = Owner(Uid(1000), 1000, (1000,), "u", "/home/u")
TEXT = policy_text(CLAUDE, OWNER.uid, CredentialId("claude/1000/api-key"), "enroll claude")


def written(folder: Path) -> Path:
    path = policy_path(folder / "policy.d", CLAUDE, OWNER.uid)
    write_policy(path, TEXT)
    return path


def test_the_broker_reads_it_as_meant(tmp_path):
    path = written(tmp_path)
    (rule,) = load_policy(path.parent).rules
    assert (rule.agent, rule.owner_uid, rule.modes) == ("claude", 1000, {"inject"})
    assert rule.credential.matches(CredentialId("claude/1000/api-key"))
    assert not rule.credential.matches(CredentialId("claude/1000/oauth"))
    assert path.stat().st_mode & 0o777 == 0o644


def test_ours_is_removed(tmp_path):
    path = written(tmp_path)
    assert remove_policy(path, sha256_of(TEXT)) == ""
    assert not path.exists()
    assert remove_policy(path, sha256_of(TEXT)) == ""


def test_the_operator_s_stays(tmp_path):
    path = written(tmp_path)
    path.write_bytes(TEXT + b"rate_per_min = 5\n")
    assert "stays" in remove_policy(path, sha256_of(TEXT))
    assert "stays" in remove_policy(path, None)
    assert path.exists()
