"""One turn of the agent, and what is seen from outside while it runs."""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.demo.check import require
from tests.demo.memory import Searched, search_processes
from tests.demo.processes import outcome
from tests.demo.world import World

TURN_S = 90


def ask(world: World, prompt: str, **environment: str) -> str:
    """Let the agent take one turn; return what it printed."""
    return finish(world.start_agent(prompt, **environment))


def finish(agent: subprocess.Popen[str]) -> str:
    """Return what a turn printed, once it ended well."""
    said, complained = outcome(agent, TURN_S)
    require(agent.returncode == 0, "the agent to end well", f"exit code {agent.returncode}: {said}{complained}")
    return said.strip()


def search_while_running(
    world: World, agent: subprocess.Popen[str], secrets: Mapping[str, str], searched_tools: Path
) -> tuple[Searched, int]:
    """Search all that the user runs, again and again until the agent's turn is over.

    Args:
        world: whose user runs the agent.
        agent: as started.
        secrets: what to look for, by name.
        searched_tools: made once the agent was searched together with a tool that it runs; the tool waits for it.

    Returns:
        what was found, and how many whole passes there were.
    """
    searched = Searched(set())
    passes = 0
    end_s = time.monotonic() + TURN_S
    while agent.pid in (running := world.user_processes()) and time.monotonic() < end_s:
        search_processes(running, secrets, searched)
        passes += agent.pid in world.user_processes()
        if agent.pid in searched.processes and len(searched.processes) > 1 and len(running) > 1:
            searched_tools.touch()
    return searched, passes
