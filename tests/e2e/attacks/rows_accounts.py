"""Attacks on the choice between an agent's accounts: the other one's phantom, and the other one's folder."""

from tests.e2e.attacks.row import USE, Row
from tests.e2e.attacks.trial import Trial

_TOKEN = "T1550.001"
_IN_FOLDER = 'cd "$ATTACK_FOLDER" && exec "$0" "$@"'


def _prepared(trial: Trial) -> None:
    """Tell the attack what every process of the user can find out: the other account's phantom and folder."""
    other = trial.arena.have_account()
    trial.environment |= {"ATTACK_OTHER": other.phantom, "ATTACK_FOLDER": str(other.folder)}


def _program(trial: Trial) -> None:
    _prepared(trial)
    trial.run(trial.arena.program("use"), ATTACK_TOKEN=trial.environment["ATTACK_OTHER"])


def _tool(trial: Trial) -> None:
    _prepared(trial)
    trial.answers(tool='ATTACK_TOKEN="$ATTACK_OTHER" "$ATTACK_USE"')
    trial.agent()


def _program_in_folder(trial: Trial) -> None:
    _prepared(trial)
    trial.run("/bin/sh", "-c", _IN_FOLDER, trial.arena.program("use"))


def _tool_in_folder(trial: Trial) -> None:
    _prepared(trial)
    trial.answers(tool='cd "$ATTACK_FOLDER" && exec "$ATTACK_USE"')
    trial.agent()


def _agent_in_folder(trial: Trial) -> None:
    _prepared(trial)
    trial.ran = bool(trial.run("/bin/sh", "-c", _IN_FOLDER, trial.arena.agent, "-p", trial.nonce))


ROWS = (
    Row("account-phantom", "another account's phantom, in a program", _program, mitre=_TOKEN),
    Row("account-tool", "another account's phantom, in a tool of the agent", _tool, mitre=_TOKEN),
    Row("account-folder", "a program that moves into another account's folder", _program_in_folder, mitre=_TOKEN),
    Row("account-tool-folder", "a tool that moves into another account's folder", _tool_in_folder, mitre=_TOKEN),
    Row("account-agent", "the agent, started in another account's folder", _agent_in_folder, USE, alert=False,
        stopped_by="nothing: it is the agent, started by its user"),
)  # fmt: skip
