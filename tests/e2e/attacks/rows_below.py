"""Attacks from below the agent, by what it runs; and by a process beside it that replays what the agent has."""

import json
from collections.abc import Callable

from tests.demo.claude_home import CREDENTIALS
from tests.demo.processes import outcome
from tests.demo.run_claude import TURN_S
from tests.e2e.attacks.row import USE, Row
from tests.e2e.attacks.trial import Trial

_TOKEN = "T1550.001"
_PROC = "T1003.007"


def _bash_tool(what: str) -> Callable[[Trial], None]:
    def attack(trial: Trial) -> None:
        trial.answers(tool=f"{trial.arena.program('tool.sh')} {what}")
        trial.agent()

    return attack


def _bash_tool_exec(trial: Trial) -> None:
    trial.answers(tool='exec -a claude "$ATTACK_USE"')
    trial.agent()


def _hook(what: str) -> Callable[[Trial], None]:
    def attack(trial: Trial) -> None:
        hook = {"type": "command", "command": f"{trial.arena.program('tool.sh')} {what}"}
        trial.agent("--settings", json.dumps({"hooks": {"SessionStart": [{"hooks": [hook]}]}}))
        trial.wait_for("finished")

    return attack


def _tool_server(what: str) -> Callable[[Trial], None]:
    def attack(trial: Trial) -> None:
        server = {"command": str(trial.arena.program("tool.sh")), "args": [what], "env": trial.environment}
        trial.agent("--mcp-config", json.dumps({"mcpServers": {"evil": server}}))
        trial.wait_for("finished")

    return attack


def _detached(trial: Trial) -> None:
    trial.answers(tool=f'/usr/bin/python3 {trial.arena.program("detached.py")} "$ATTACK_USE"')
    trial.agent()
    trial.wait_for("done")


def _nested(trial: Trial) -> None:
    trial.answers(tool='"$ATTACK_AGENT" -p "$ATTACK_NONCE"')
    trial.agent()


def _replay(trial: Trial) -> None:
    with trial.live_agent():
        trial.python("environ_replay")


def _self_register(trial: Trial) -> None:
    trial.python("self_register", trial.arena.program("use"))


def _decoy(trial: Trial) -> None:
    trial.ran = bool(trial.run("/bin/cat", trial.world.home / CREDENTIALS))


def _flood(trial: Trial) -> None:
    end = trial.loot / "end"
    flood = trial.start("/usr/bin/python3", trial.arena.program("flood.py"), end)
    trial.wait_for("ran: ")
    agent = trial.world.start_agent("work")
    said, complained = outcome(agent, TURN_S)
    trial.served = flood.poll() is None and "well done" in said
    end.touch()
    trial.keep(f"the agent said, while the flood ran: {said}{complained}\n")
    outcome(flood, TURN_S)


_CANT = "nothing: it is the agent, whoever asks it"

ROWS = (
    Row("bash-tool", "the agent's Bash tool uses the phantom", _bash_tool("phantom"), mitre=_TOKEN),
    Row("bash-tool-shim", "the agent's Bash tool asks by the shim", _bash_tool("shim"), alert=False, mitre="T1555"),
    Row("bash-tool-exec", "Bash tool: exec -a claude evil", _bash_tool_exec, mitre=_TOKEN),
    Row("hook", "a hook of the agent uses the phantom", _hook("phantom"), mitre=_TOKEN),
    Row("hook-shim", "a hook of the agent asks by the shim", _hook("shim"), alert=False, mitre="T1555"),
    Row("mcp-server", "an MCP server of the agent uses the phantom", _tool_server("phantom"), mitre=_TOKEN),
    Row("mcp-server-shim", "an MCP server asks by the shim", _tool_server("shim"), alert=False, mitre="T1555"),
    Row("detached", "child of the agent: double fork, setsid, exec", _detached, mitre=_TOKEN),
    Row("nested", "the agent, started by the agent's Bash tool", _nested, USE, alert=False, stopped_by=_CANT),
    Row("environ-replay", "phantom out of /proc/PID/environ, replayed", _replay, mitre=_PROC),
    Row("self-register", "writes to the registry, asks all sockets", _self_register, mitre="T1098"),
    Row("decoy", "reads ~/.claude/.credentials.json", _decoy, mitre="T1552.001"),
)

LAST = (Row("flood", "connections, half and whole requests, no end", _flood, mitre="T1499"),)
"""After it, alerts on this user are fewer for a minute."""
