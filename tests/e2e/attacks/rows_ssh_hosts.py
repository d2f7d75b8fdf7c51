"""Attacks by hosts: the agent may use a key at one host, and is brought to the attacker's."""

from collections.abc import Callable

from msgspec import Struct

from tests.demo.check import require
from tests.demo.processes import broker_command
from tests.e2e.attacks.row import SSH, Row
from tests.e2e.attacks.trial import Trial
from tests.fakes.sshd import Sshd, running_sshd

_RULE = """[[rule]]
agent = "claude"
credential = "ssh/UID/id_ed25519"
to = "ssh://good"
"""
_QUIET = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
_LOGIN = f"ssh {_QUIET} -o IdentitiesOnly=yes -o IdentityAgent={{socket}} -i {{key}}"


class _Hosts(Struct):
    good: Sshd
    bad: Sshd


_HOSTS: dict[int, _Hosts] = {}
"""By arena; there is one in a run."""
_REFUSED = "agent refused operation"


def _hosts(trial: Trial) -> _Hosts:
    """Return the hosts; the first time they are started, and the key is limited to the good one."""
    arena, world = trial.arena, trial.world
    if id(arena) not in _HOSTS:
        line = arena.have_ssh().read_text().strip()
        good, bad = (arena.undo.enter_context(running_sshd(world.root / f"sshd-{name}")) for name in ("good", "bad"))
        for each in (good, bad):
            each.authorize(line)
        whose = ("--user", world.user.pw_name, "--home", str(world.home))
        to = ("--host", f"good={good.fingerprint}")
        broker_command(world.root, "ssh", "limit", "id_ed25519", *whose, *to, "--yes")
        arena.allow(_RULE)
        _HOSTS[id(arena)] = _Hosts(good, bad)
        arena.undo.callback(_HOSTS.clear)
    return _HOSTS[id(arena)]


def _brought(command: str) -> Callable[[Trial], None]:
    """Return the attack in which the agent's tool runs a command, after it logged in where it may."""

    def attack(trial: Trial) -> None:
        hosts = _hosts(trial)
        key = trial.arena.have_ssh().with_suffix("")
        told = trial.loot / "log"
        names = {
            "login": _LOGIN, "key": str(key), "socket": str(trial.world.root / "run/agent-broker/ssh.sock"),
            "good": str(hosts.good.port), "bad": str(hosts.bad.port), "quiet": _QUIET,
        }  # fmt: skip
        text = f"{{login}} -p {{good}} root@127.0.0.1 true; {command}"
        for name, value in names.items():
            text = text.replace("{" + name + "}", value)
        before = _logins(hosts.good)
        trial.answers(tool=f"(echo ran: ssh; {text}) >> {told} 2>&1")
        trial.agent()
        said = told.read_text()
        require(_logins(hosts.good) > before, "the agent's tool to log in where a rule lets it", said[-500:])
        is_asked = _REFUSED in said or _logins(hosts.bad) > 0
        require(is_asked, "the ssh-agent to be asked to sign for the attacker's host", said[-500:])
        trial.signed = _logins(hosts.bad) > 0

    return attack


def _logins(host: Sshd) -> int:
    return host.log().count("Accepted publickey")


_ALIAS = "{login} -o HostKeyAlias=good -p {bad} root@127.0.0.1 true"
_HOP = "{login} -A -p {good} root@127.0.0.1 'ssh {quiet} -p {bad} root@127.0.0.1 true'"

ROWS = (
    Row("ssh-elsewhere", "the agent's tool runs the genuine ssh at the attacker's host, with a key of another",
        _brought(f"{{login}} -p {{bad}} root@127.0.0.1 true; {_ALIAS}"), mitre="T1021.004", agent=SSH),
    Row("ssh-forwarded", "a host that the agent's tool may log in to uses the agent that was forwarded to it (ssh -A)",
        _brought(_HOP), mitre="T1563.001", agent=SSH),
)  # fmt: skip
