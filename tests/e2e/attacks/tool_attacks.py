"""Attacks on what tools are given: their commands, for bash, and how they are carried out.

Whoever attacks is a process of the user's, or what the agent's own shell starts; the agent may use the tool at its
server (the client's rules in tests/e2e/clients, whose servers and names these are). Further names in a command:
``{loot}`` is the attacker's folder, ``{code}`` a program of his, ``{programs}`` the folder of all of them.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct, structs

from tests.e2e.attacks.row import NOTHING, SECRET, USE, Row
from tests.e2e.attacks.trial import Trial
from tests.e2e.clients.row import Client, Stand

THIEF = (
    "/usr/bin/python3 {programs}/thief.py {loot} {url} > /dev/null 2>&1 & thief=$!; "
    "until test -s {loot}/port; do sleep 0.05; done; at=http://127.0.0.1:$(cat {loot}/port); "
)
"""Starts the attacker's server, ``$at``, which does with ``{url}`` what it was told; ``$thief`` is its process."""
_GONE = "; kill $thief"


class Attack(Struct, frozen=True):
    """One of them, on a tool that is named later."""

    name: str
    technique: str
    """``{name}`` is the tool's."""
    command: str
    environment: Mapping[str, str] = {}
    by_agent: bool = False
    """Run by the agent's own shell tool."""
    gets: str = NOTHING
    alert: bool = True
    mitre: str = ""
    stopped_by: str = ""


def asks(command: str, technique: str = "a process speaks to {name}'s shim itself") -> Attack:
    """Return one that speaks to the shim, or to what else answers the tool."""
    return Attack("shim", technique, command, mitre="T1555")


def renamed(command: str) -> Attack:
    """Return one that uses a copy of the tool, or the tool under another name, at its server."""
    return Attack("renamed", "a copy of {name} asks", command, mitre="T1036.005")


def setting(
    what: str,
    environment: Mapping[str, str],
    before: str = "true",
    *,
    use: str = "{use}",
    name: str = "settings",
    alert: bool = True,
) -> Attack:
    """Return one that has the genuine tool run with settings that point to the attacker's code, or to his server."""
    command = f"{before}; {use}"
    return Attack(name, f"{what}, in the genuine {{name}}", command, environment, mitre="T1574", alert=alert)


def elsewhere(command: str, *, thief: str = "", alert: bool = False) -> Attack:
    """Return one in which the agent's tool has the tool use the attacker's host.

    Args:
        command: which does it.
        thief: an address that the attacker's server, at ``$at``, passes on to what it was given; empty: it has none.
        alert: whether the broker tells of it.
    """
    text = f"{THIEF.replace('{url}', thief)}{command}{_GONE}" if thief else command
    technique = "the agent's tool runs {name} at the attacker's host"
    return Attack("elsewhere", technique, text, by_agent=True, alert=alert, mitre="T1567")


def genuine(use: str = "{use}") -> Attack:
    """Return the tool as it is meant to be used, by the attacker."""
    return Attack(
        "genuine",
        "the genuine {name}, started by the attacker, at its server",
        use,
        gets=USE,
        alert=False,
        stopped_by='a rule with session = "terminal" in place of "user"',
    )


def gives(attack: Attack, gets: str, why: str) -> Attack:
    """Return an attack that gets something, and what would keep it from that."""
    return structs.replace(attack, gets=gets, stopped_by=why)


def told_to_show(what: str, command: str, why: str, *, name: str = "shown") -> Attack:
    """Return one in which the agent's tool has the genuine tool show what a rule lets it be given."""
    return Attack(name, what, command, by_agent=True, gets=SECRET, alert=False, mitre="T1552", stopped_by=why)


def rows(client: Client, *attacks: Attack, name: str = "", what: str = "") -> tuple[Row, ...]:
    """Return the rows of attacks on a client's tool.

    Args:
        client: whose stand they are carried out at.
        attacks: in this order.
        name: of the tool in the rows' names; its own by default.
        what: the techniques call it so; by default as the names do.
    """
    called = name or client.tool
    return tuple(
        Row(
            f"{called}-{each.name}",
            each.technique.replace("{name}", what or called),
            _by_the_agents_tool(client, each) if each.by_agent else _runs(client, each),
            each.gets,
            each.alert,
            each.mitre,
            each.stopped_by,
            called,
            client.prepare,
        )
        for each in attacks
    )


def _runs(client: Client, each: Attack) -> Callable[[Trial], None]:
    def attack(trial: Trial) -> None:
        stand = trial.arena.have_tool(client)
        served = stand.served()
        settings = {name: _filled(trial, stand, value) for name, value in each.environment.items()}
        said = trial.run("/bin/bash", "-c", _filled(trial, stand, each.command), **settings)
        trial.signed = stand.served() > served
        trial.ran = bool(said) or trial.signed

    return attack


def _by_the_agents_tool(client: Client, each: Attack) -> Callable[[Trial], None]:
    def attack(trial: Trial) -> None:
        stand = trial.arena.have_tool(client)
        served = stand.served()
        told = trial.loot / "log"
        trial.answers(tool=f"(echo ran: {client.tool}; {_filled(trial, stand, each.command)}) >> {told} 2>&1")
        trial.agent()
        trial.signed = stand.served() > served

    return attack


def _filled(trial: Trial, stand: Stand, text: str) -> str:
    own = {"loot": str(trial.loot), "code": str(trial.arena.program("use")), "programs": str(trial.arena.folder)}
    for name, value in own.items():
        text = text.replace("{" + name + "}", value)
    return stand.filled(text)
