"""Two users of one machine, each enrolled: neither's agent, phantom or socket gives the other anything."""

from pathlib import Path

import msgspec

from tests.demo.claude_home import make_home, new_keys
from tests.demo.machine import throw_away_user
from tests.demo.processes import broker_command, outcome
from tests.e2e.accounts.stage import TURN_S, Person, Seen, Stage, give

_SHIM_SAYS = "exec $0 claude-api-key-helper"


def two_users(stage: Stage) -> dict[str, object]:
    """Enroll a second user; let each try what is the other's."""
    home = stage.world.root / "home-of-two"
    with throw_away_user("ab-two", home, system=False) as account:
        keys = new_keys()
        make_home(home, account, keys)
        home.chmod(0o755)
        second = Person(account, home, {f"second {name}": key for name, key in keys.named().items()})
        stage.keys |= second.keys
        try:
            return _play(stage, second)
        finally:
            whose = ("--user", account.pw_name, "--home", str(home))
            broker_command(stage.world.root, "unenroll", "claude", *whose, "--yes")


def _play(stage: Stage, second: Person) -> dict[str, object]:
    first = stage.person
    theirs = stage.enroll(second)
    mine = stage.phantom_of(first)
    told: dict[str, object] = {
        "first": _plain(stage.claude()),
        "second": _plain(stage.claude(second)),
        "phantoms differ": mine != theirs,
    }
    for name, phantom, thief in (("first's by second", mine, second), ("second's by first", theirs, first)):
        told[f"{name}: program"] = _plain(stage.replay(phantom, thief))
        stage.thaw()
        told[f"{name}: agent"] = _plain(_genuine_agent(stage, phantom, thief))
        stage.thaw()
    told["own home, other's agent"] = _plain(_other_home(stage, second))
    stage.thaw()
    told["shim of first"] = _shim(stage, first, mine, theirs)
    told["shim of second"] = _shim(stage, second, mine, theirs)
    told["first afterwards"] = _plain(stage.claude())
    return told


def _genuine_agent(stage: Stage, phantom: str, thief: Person) -> Seen:
    """The thief's own genuine agent, which is given the other's phantom."""
    return stage.claude(
        thief,
        ANTHROPIC_UNIX_SOCKET=str(stage.socket),
        ANTHROPIC_BASE_URL="http://agent-broker.invalid",
        ANTHROPIC_AUTH_TOKEN=phantom,
    )


def _other_home(stage: Stage, second: Person) -> Seen:
    """The second user starts the agent with a copy of the first's settings (readable, or guessed) as HOME."""
    copy = stage.world.root / "copied-home"
    (copy / ".claude").mkdir(parents=True)
    settings = copy / ".claude/settings.json"
    settings.write_bytes((stage.person.home / ".claude/settings.json").read_bytes())
    give(second, copy, copy / ".claude", settings)
    return stage.claude(second, folder=Path("/"), HOME=str(copy))


def _shim(stage: Stage, person: Person, mine: str, theirs: str) -> str:
    """Say whose phantom the broker's socket gives this person."""
    process = stage.start("/bin/sh", "-c", _SHIM_SAYS, stage.world.shim, person=person)
    said = outcome(process, TURN_S)[0].strip()
    return {mine: "first's", theirs: "second's"}.get(said, "nobody's")


def _plain(seen: Seen) -> dict[str, object]:
    return dict(msgspec.to_builtins(seen))
