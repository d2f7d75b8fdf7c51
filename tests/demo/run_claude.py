"""One turn of the agent, and what is seen from outside while it runs."""

import subprocess
from collections.abc import Mapping

from tests.demo.check import StepFailedError, require
from tests.demo.memory import Searched, search_processes
from tests.demo.world import World

TURN_S = 90


def ask(world: World, prompt: str, **environment: str) -> str:
    """Let the agent take one turn; return what it printed."""
    return finish(world.start_agent(prompt, **environment))


def finish(agent: subprocess.Popen[str]) -> str:
    """Return what a turn printed, once it ended well."""
    try:
        said, complained = agent.communicate(timeout=TURN_S)
    except subprocess.TimeoutExpired as error:
        agent.kill()
        said, complained = agent.communicate()
        raise StepFailedError(f"the agent to finish its turn within {TURN_S} s", said + complained) from error
    require(agent.returncode == 0, "the agent to end well", f"exit code {agent.returncode}: {said}{complained}")
    return said.strip()


def search_while_running(
    world: World, agent: subprocess.Popen[str], secrets: Mapping[str, str]
) -> tuple[Searched, int]:
    """Search all that the user runs, again and again until the agent's turn is over.

    Returns:
        what was found, and how many whole passes there were.
    """
    searched = Searched(set())
    passes = 0
    while agent.poll() is None:
        search_processes(world.user_processes(), secrets, searched)
        passes += agent.poll() is None
    return searched, passes
