"""What is done to an enrolled agent by others of its own user, with the phantom that they all can read."""

import json
import os
from pathlib import Path

from tests.demo.check import require
from tests.e2e.agents.acts import refuse_turn
from tests.e2e.agents.client import Client
from tests.e2e.agents.place import Place, require_well

NONCE = "a request of the attacker"


def use_by_tool(place: Place, client: Client) -> str:
    """A tool that the agent runs uses the phantom; the agent goes on."""
    loot = place.world.home / "project/loot"
    before, alerts = len(place.requests()), len(place.alerts.incidents())
    command = f"/usr/bin/python3 -I {place.tool('replay.py')} {write_target(place, client)} > {loot} 2>&1"
    place.answers(tool_cmd=command, replies={NONCE: "the key was used"})
    turn = place.turn(client, tool=command)
    require_well(turn, client, place.login.sent)
    return _result(place, loot.read_text(), before, alerts)


def use_by_stranger(place: Place, client: Client) -> str:
    """Another process of the user uses the phantom."""
    before, alerts = len(place.requests()), len(place.alerts.incidents())
    place.answers(replies={NONCE: "the key was used"})
    said = place.run("/usr/bin/python3", "-I", place.tool("replay.py"), write_target(place, client))
    return _result(place, said, before, alerts)


def taint(place: Place, client: Client) -> str:
    """The user's own code is loaded into the genuine agent."""
    result = refuse_turn(place, client, **client.tainting(place.world.shim.parent / "foreign.cjs")).told
    require((place.world.home / "project/foreign").exists(), "the foreign code to run in the agent", "it did not")
    return result


def debug(place: Place, client: Client) -> str:
    """A debugger of the user's attaches to the agent in the middle of its turn."""
    alerts = len(place.alerts.incidents())
    with place.waiting_agent(client) as live:
        asked = len(place.requests())
        program = client.executable(place.program)
        pids = [pid for pid in place.world.user_processes() if _runs(pid, program)]
        place.run("/usr/bin/python3", "-I", place.tool("seize.py"), str(min(pids, key=_started)))
    after = [each for each in place.requests()[asked:] if client.asks_model(each["target"])]
    served = after or (client.fails_when_refused and live.code == 0)
    return f"{'SERVED' if served else 'refused'}, alert {', '.join(place.kinds_since(alerts)) or 'none'}"


def _runs(pid: int, program: Path) -> bool:
    """Whether a process runs a program, or it is the script that one runs; the tool's own come and go meanwhile."""
    try:
        cwd, words = Path(f"/proc/{pid}/cwd").readlink(), Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        script = next((cwd / os.fsdecode(word) for word in words[1:] if word and not word.startswith(b"-")), None)
        return Path(f"/proc/{pid}/exe").readlink() == program or (script is not None and script.resolve() == program)
    except FileNotFoundError:
        return False


def _started(pid: int) -> int:
    """When a process was forked, in clock ticks since boot: an agent is older than its helpers, whatever their pids."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])  # starttime (proc(5))


def tamper(place: Place, client: Client) -> str:
    """The agent's own code is changed where it lies; once it is as it was, the agent is served again."""
    place.change_program(client)
    result = refuse_turn(place, client).told
    place.change_program(client)
    place.answers("as before")
    require_well(place.turn(client), client, place.login.sent)
    return result


def write_target(place: Place, client: Client) -> str:
    """Write what replay.py is to do into a file that the user can read; return its path.

    In no folder above an agent's: who starts just after a change there would be tainted.
    """
    path, header, value = client.replay_as(place.login, client.phantom(place.world.home))
    target = Path(place.tool("target.json"))
    told = {"port": place.world.port, "path": path, "header": header, "value": value, "nonce": NONCE}
    target.write_text(json.dumps(told))
    return str(target)


def _result(place: Place, said: str, before: int, alerts: int) -> str:
    used = [each for each in place.requests()[before:] if NONCE in each["marks"]]
    status = said.strip()
    require(status.isdecimal(), "an answer to the attacker's request", said[-500:])
    kinds = ", ".join(place.kinds_since(alerts)) or "none"
    return f"{'SERVED' if used else 'refused'} ({status}), alert {kinds}"
