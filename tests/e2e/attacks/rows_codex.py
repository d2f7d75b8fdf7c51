"""Attacks on Codex: a native binary that npm's script turns into, and that runs itself under other names."""

from tests.e2e.attacks.row import CODEX, USE, Row
from tests.e2e.attacks.trial import Trial

_TURN = "exec --skip-git-repo-check"


def _genuine(trial: Trial) -> None:
    trial.ran = bool(trial.run(trial.arena.have_more().codex, *_TURN.split(), trial.nonce))


def _other_role(trial: Trial) -> None:
    script = f'exec -a codex-helper "$0" {_TURN} "$ATTACK_NONCE"'
    trial.ran = bool(trial.run("/bin/bash", "-c", script, trial.arena.have_more().codex))


def _sandbox(trial: Trial) -> None:
    settings = (
        'sandbox_mode="workspace-write"',
        "sandbox_workspace_write.network_access=true",
        f'sandbox_workspace_write.writable_roots=["{trial.loot}"]',
    )
    options = [word for each in settings for word in ("-c", each)]
    trial.run(trial.arena.have_more().codex, "sandbox", *options, "--", trial.arena.program("use"))


ROWS = (
    Row("codex", "the agent, started by the attacker", _genuine, USE, alert=False,
        stopped_by="nothing: it is the agent, started by its user", agent=CODEX),
    Row("codex-other-role", "its binary under another argv[0]", _other_role, mitre="T1036.005", agent=CODEX),
    Row("codex-sandbox", "a program that codex-linux-sandbox runs", _sandbox, agent=CODEX),
)  # fmt: skip
