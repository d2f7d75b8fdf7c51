"""The rule that lets an enrolled agent use its credential: one file in ``policy.d``, by injection only."""

from pathlib import Path

from agent_broker.disk import replace_file, sync_folder
from agent_broker.enroll.file_state import sha256_of
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid

_MODE = 0o644  # root's, readable by the broker


def policy_path(policy_dir: Path, agent: AgentName, owner_uid: Uid, account: str = "") -> Path:
    """Return where an agent's rule is, or that of a further account of it."""
    return policy_dir / (f"{agent}-{owner_uid}-{account}.toml" if account else f"{agent}-{owner_uid}.toml")


def policy_text(agent: AgentName, owner_uid: Uid, credential: CredentialId, made_by: str) -> bytes:
    """Return the rule; ``made_by`` is the command, for its comment."""
    return (
        f"# Written by: agent-broker {made_by}. Deleted by unenroll, unless edited.\n"
        "[[rule]]\n"
        f'agent = "{agent}"\n'
        f"owner = {owner_uid}\n"
        f'credential = "{credential}"\n'
        'modes = ["inject"]\n'
    ).encode()


def write_policy(path: Path, text: bytes) -> None:
    """Write a rule durably.

    Raises:
        UnavailableError: the disk refused.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace_file(path, text, mode=_MODE)


def remove_policy(path: Path, sha256: Sha256 | None) -> str:
    """Remove a rule durably if it is the one with this digest; return a sentence if one stays, else nothing.

    An edited rule is the operator's: it stays, and denies nothing and allows nothing once the agent is not enrolled.
    """
    if not path.exists():
        return ""
    if sha256 is None or sha256_of(path.read_bytes()) != sha256:
        return f"{path} stays: it is not as enroll wrote it"
    path.unlink()
    sync_folder(path.parent)
    return ""
