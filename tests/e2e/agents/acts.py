"""What is done with an agent that works: it streams, runs a tool, is updated, and daemons are restarted under it."""

import os
import secrets
import select
import subprocess
import time
from collections.abc import Callable

from msgspec import Struct

from tests.demo.check import require
from tests.demo.world import start_broker, start_monitor, wait_until_healthy
from tests.e2e.agents.client import Client
from tests.e2e.agents.place import PATIENCE_S, Place, finished, require_well
from tests.e2e.agents.row import REFUSED, WORKS

_PIECE = "one-piece-of-it "
_PIECES = 6
_PROBLEM_CHARS = 2000


def stream(place: Place, client: Client) -> str:
    """The provider holds back the end of its answer until the agent has shown the beginning."""
    go_on = place.world.root / "provider/go-on"
    place.answers(_PIECE, events=_PIECES, hold_after=client.hold_after, hold_for=str(go_on))
    process = place.start(client, client.streaming(place.program, "go on"))
    began = _read_until(process, _PIECE)
    go_on.touch()
    rest = finished(process)
    require(process.returncode == 0, "the agent to end well", rest[-_PROBLEM_CHARS:])
    go_on.unlink()
    return "piece by piece" if began else "only as a whole"


def run_tool(place: Place, client: Client) -> str:
    """What the tool printed is in the agent's next request, which is answered with another word."""
    first, second, word = (secrets.token_hex(6) for _ in range(3))
    stay = f"; /usr/bin/python3 -I {place.tool('until_read.py')}" if client.loses_output else ""
    place.answers("no tool ran", tool_cmd=f"printf %s%s {first} {second}{stay}", replies={first + second: word})
    turn = place.turn(client)
    require_well(turn, client, place.login.sent)
    return WORKS if word in turn.said else "what the tool printed did not reach the model"


def start_by_command(place: Place, client: Client) -> str:
    """By ``agent-broker run``, from a shell whose variables would lead it elsewhere."""
    place.answers("started by the command")
    require_well(place.turn_by_command(client), client, place.login.sent)
    return WORKS


def use_another_account(place: Place, client: Client) -> str:
    """With a key of another account at Bedrock in its project's folder; elsewhere the enrolled one stays."""
    key, name = f"ABSK{secrets.token_urlsafe(60)}", "project"
    whose = ("--user", place.world.user.pw_name)
    folder = ("--dir", str(place.world.home / name))
    place.broker("account", "add", client.name, name, "--kind", "bedrock-api-key", *folder, *whose, told=key)
    place.answers("by another account")
    require_well(place.turn(client), client, {"authorization": f"Bearer {key}"})
    place.broker("account", "remove", client.name, name, "--yes", *whose)
    place.answers("by the enrolled one")
    require_well(place.turn(client), client, place.login.sent)
    return WORKS


def restart_broker(place: Place, client: Client) -> str:
    """Between two requests of one turn."""

    def restart() -> None:
        require(place.world.daemon.stop() == 0, "the broker to end when told to", "an exit code")
        start_broker(place.world)

    return _restart(place, client, restart)


def restart_monitor(place: Place, client: Client) -> str:
    """Between two requests of one turn: what ran before the monitor came is unknown to it."""

    def restart() -> None:
        require(place.world.monitor.stop() == 0, "the monitor to end when told to", "an exit code")
        start_monitor(place.world)
        wait_until_healthy(place.world)

    result = _restart(place, client, restart)
    place.answers("started anew")
    require_well(place.turn(client), client, place.login.sent)
    return f"{result}; started anew: {WORKS}"


def _restart(place: Place, client: Client, restart: Callable[[], None]) -> str:
    before = len(place.requests())
    with place.waiting_agent(client) as live:
        asked = len(place.requests())
        restart()
        place.alerts.follow_again()
    after = [each for each in place.requests()[asked:] if client.asks_model(each["target"])]
    require(asked > before, "a request before the restart", "none")
    served = live.code == 0 and after and all(each["auth"] == place.login.sent for each in after)
    return WORKS if served else REFUSED


def update(place: Place, client: Client) -> str:
    """Another version comes into its place, by its own user: nothing is given to it until root approves."""
    place.update(client)
    refused = refuse_turn(place, client)
    return f"{refused.told}; approved: {approve(place, client)}"


def approve(place: Place, client: Client) -> str:
    """Root approves what came into its place, and it takes a turn."""
    place.broker("approve", client.name, "--user", place.world.user.pw_name, "--yes")
    place.answers("the next version works")
    require_well(place.turn(client), client, place.login.sent)
    return WORKS


class Refusal(Struct, frozen=True):
    """A turn in which the agent was not to be served."""

    told: str
    """Whether it was, and the alerts."""
    said: str
    """By the agent."""


def refuse_turn(place: Place, client: Client, **environment: str) -> Refusal:
    """Let it take a turn in which the provider must not see a real credential."""
    before = len(place.alerts.incidents())
    turn = place.turn(client, **environment)
    real = place.login.secrets.values()
    used = [each for each in turn.requests if any(value in str(each["auth"]) for value in real)]
    kinds = ", ".join(place.kinds_since(before)) or "none"
    require(turn.said.strip(), "the agent to say why", "nothing")
    asked = [each for each in turn.requests if client.asks_model(each["target"])]
    served = bool(used) or (turn.code == 0 if client.fails_when_refused else bool(asked))
    return Refusal(f"{'SERVED' if served else REFUSED}, alert {kinds}", turn.said)


def _read_until(process: "subprocess.Popen[str]", word: str) -> bool:
    """Read what a program prints until a word comes; False: it ended, or it did not come in PATIENCE_S."""
    end_s = time.monotonic() + PATIENCE_S
    if process.stdout is None:
        return False
    seen = b""
    while word.encode() not in seen:
        readable, _, _ = select.select([process.stdout], [], [], max(0, end_s - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 1 << 16) if readable else b""
        if not piece:
            return False
        seen += piece
    return True
