"""What a person waits for: a whole ``claude -p`` turn of the real Claude Code with the broker and without.

With: both daemons run, the home is enrolled by the real command. Without: neither daemon runs, and the agent goes
straight to the provider with its own key, from a second home of the same user that was never enrolled. A turn is two
requests to a provider that answers at once, and a tool between them, so nothing but the agent's own work hides what is
added. Phases take turns (with, without, without, with, ...); turns of neighbouring phases make the pairs.

    python -m tests.bench.agent_turn        # prints the pairs, nanoseconds, as JSON: [[with, without], ...]

A process of its own, since it leaves the machine's network.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figures import CannotMeasureError, Figure, ms, p50
from tests.bench.stage import Stage
from tests.demo.agent import REAL
from tests.demo.check import StepFailedError, require
from tests.demo.claude_home import SETTINGS, make_home
from tests.demo.processes import broker_command
from tests.demo.world import World, private_world, start_broker, start_monitor

_ROUNDS = 4
_TURNS = 6
_RUN_S = 600
_ANSWER = "that is all"


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    command = [sys.executable, "-m", "tests.bench.agent_turn"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_RUN_S, check=False
    )
    if done.returncode:
        raise CannotMeasureError(f"the agent's turn: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    pairs = json.loads(done.stdout)
    with_it, without = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratio = p50([one / other for one, other in pairs])
    return [Figure("agent-turn", ratio, f"{ms(p50(with_it))} / {ms(p50(without))}, {len(pairs)} pairs, the real agent")]


def measure() -> list[list[int]]:
    """Return the pairs, each [with, without] in nanoseconds.

    Raises:
        StepFailedError: something can't be made here, or a turn fails.
    """
    with private_world(REAL) as world:
        bare = _second_home(world)
        whose = ("--user", world.user.pw_name, "--home", str(world.home))
        broker_command(world.root, "enroll", "claude", *whose, "--binary", str(world.agent.program), "--yes")
        world.provider.answers(_ANSWER, tool="true")
        pairs: list[list[int]] = []
        for number in range(_ROUNDS):
            order = (world.home, bare) if number % 2 == 0 else (bare, world.home)
            phases = {home: _phase(world, home) for home in order}
            pairs += [list(pair) for pair in zip(phases[world.home], phases[bare], strict=True)]
        if not world.monitor.runs:
            _run_daemons(world)
        return pairs


def _second_home(world: World) -> Path:
    """The same files, and the provider's address as a setting: where enrolment writes the broker's."""
    home = world.root / "bare"
    make_home(home, world.user, world.keys)
    settings = json.loads((home / SETTINGS).read_text())
    settings["env"]["ANTHROPIC_BASE_URL"] = world.provider.base_url
    (home / SETTINGS).write_text(json.dumps(settings))
    return home


def _phase(world: World, home: Path) -> list[int]:
    """Time turns in one of the homes, with the daemons or without; the first is not counted."""
    wanted = home == world.home
    if wanted and not world.monitor.runs:
        _run_daemons(world)
    if not wanted and world.monitor.runs:
        world.daemon.stop()
        world.monitor.stop()
    return [_turn(world, home) for _ in range(_TURNS + 1)][1:]


def _run_daemons(world: World) -> None:
    start_monitor(world)
    start_broker(world)


def _turn(world: World, home: Path) -> int:
    began_ns = time.perf_counter_ns()
    agent = world.start_as_user(
        str(world.agent.program),
        "-p",
        "hello",
        "--allowedTools",
        "Bash",
        HOME=str(home),
        PWD=str(world.home / "project"),
    )
    said, complained = agent.communicate()
    took_ns = time.perf_counter_ns() - began_ns
    require(agent.returncode == 0 and _ANSWER in said, "the agent to take its turn", said + complained)
    return took_ns


if __name__ == "__main__":
    try:
        print(json.dumps(measure()))
    except StepFailedError as error:
        sys.exit(str(error))
