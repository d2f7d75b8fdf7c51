"""Attacks on the ssh-agent: who is not the verified ssh wants a key, or a signature of it."""

import shutil

from tests.e2e.attacks.row import SSH, USE, Row
from tests.e2e.attacks.trial import Trial

_SIGNED = ("BEGIN SSH SIGNATURE", "signed True")
_SIGN = "-Y sign -n file -f"


def _socket(trial: Trial) -> dict[str, str]:
    return {"SSH_AUTH_SOCK": str(trial.world.root / "run/agent-broker/ssh.sock")}


def _note(trial: Trial, said: str) -> None:
    trial.signed = any(each in said for each in _SIGNED)


def _sign(trial: Trial, program: str, **environment: str) -> None:
    public = trial.arena.have_ssh()
    text = trial.loot / "text"
    text.write_text(trial.nonce)
    said = trial.run(program, *_SIGN.split(), public, text, **_socket(trial), **environment)
    signature = text.with_name("text.sig")
    trial.ran = bool(said)
    _note(trial, signature.read_text() if signature.exists() else said)


def _by_itself(trial: Trial) -> None:
    public = trial.arena.have_ssh()
    _note(trial, trial.python("ssh_ask", _socket(trial)["SSH_AUTH_SOCK"], public))


def _renamed(trial: Trial) -> None:
    copied = trial.arena.folder / "ssh-keygen"
    shutil.copy("/usr/bin/ssh-keygen", copied)
    _sign(trial, str(copied))


def _preloaded(trial: Trial) -> None:
    _sign(trial, "/usr/bin/ssh-keygen", LD_PRELOAD=str(trial.arena.program("evil.so")))


def _genuine(trial: Trial) -> None:
    _sign(trial, "/usr/bin/ssh-keygen")


def _by_the_agents_tool(trial: Trial) -> None:
    public = trial.arena.have_ssh()
    told = trial.loot / "log"
    socket = _socket(trial)["SSH_AUTH_SOCK"]
    command = f"SSH_AUTH_SOCK={socket} ssh-keygen {_SIGN} {public} < /dev/null"
    trial.answers(tool=f"(echo ran: ssh-keygen; {command}) >> {told} 2>&1")
    trial.agent()
    _note(trial, told.read_text())


def _reads_the_key(trial: Trial) -> None:
    public = trial.arena.have_ssh()
    trial.ran = "PRIVATE KEY" in trial.run("cat", public.with_suffix(""))


ROWS = (
    Row("ssh-by-itself", "a process speaks to the ssh-agent itself", _by_itself, mitre="T1552.004", agent=SSH),
    Row("ssh-renamed", "a copy of ssh-keygen asks the ssh-agent", _renamed, mitre="T1036.005", agent=SSH),
    Row("ssh-preload", "LD_PRELOAD in the genuine ssh-keygen", _preloaded, mitre="T1574.006", agent=SSH),
    Row("ssh-agents-tool", "the agent's tool runs the genuine ssh-keygen; no rule lets it", _by_the_agents_tool,
        alert=False, agent=SSH),
    Row("ssh-key-file", "the private key's file is read", _reads_the_key, mitre="T1552.004", agent=SSH),
    Row("ssh-genuine", "the genuine ssh-keygen, started by the attacker", _genuine, USE, alert=False,
        stopped_by='a rule with session = "terminal" in place of "user"', agent=SSH),
)  # fmt: skip
