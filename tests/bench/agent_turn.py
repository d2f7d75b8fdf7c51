"""What a person waits for: a whole ``-p`` turn of the real agents, with the broker and without.

With: both daemons run, the home is enrolled by the real command. Without: neither daemon runs, and the agent goes
straight to the provider with its own key, from a second home of the same user that was never enrolled. It is the same
program, prompt and provider, which answers at once; a turn has a tool between two requests or three, so nothing but the
agent's own work hides what is added. Phases take turns (with, without, without, with, ...), so that a machine that
becomes slower is slower for both; the turns of neighbouring phases make the pairs.

One turn's time scatters by a tenth and more, whatever is done, so a row says two things besides the median of the
pairs' ratios: how far that median may be off (its standard error), and the same ratio of processor time, of the agent
with all that it starts and of both daemons, which scatters by a twentieth.

    python -m tests.bench.agent_turn claude [SECONDS]   # prints the pairs as JSON: [[with, without], ...], each a _Turn

A process of its own for each agent, since it leaves the machine's network.
"""

import contextlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.bench.daemons import cpu_s_of
from tests.bench.figures import CannotMeasureError, Figure, ms, p50
from tests.bench.stage import Stage
from tests.demo.agent import REAL
from tests.demo.check import StepFailedError, require
from tests.demo.world import private_world, start_broker, start_monitor
from tests.e2e.agents import codex, gemini
from tests.e2e.agents.claude import Claude
from tests.e2e.agents.client import Client
from tests.e2e.agents.codex import Codex
from tests.e2e.agents.gemini import Gemini
from tests.e2e.agents.place import Place, finished
from tests.fakes.nameserver import no_names

_ERROR = 0.01
"""What the median of the ratios may be off by; turns are taken until it is."""
_MOST_S = 240
_SETTING_UP_S = 360
_FEWEST_PAIRS = 8
_ANSWER = "that is all"


class _Measured(Struct, frozen=True):
    """One agent, as most have it."""

    client: Client
    layout: str
    way: str
    turns: int
    """A phase: so few that what the machine does besides changes little from one phase to the next."""


_AGENTS: Mapping[str, _Measured] = {
    "claude": _Measured(Claude(), "native", "API key, settings `env`", turns=4),
    "codex": _Measured(Codex(), "npm, Node 24", codex.API_KEY, turns=8),
    "gemini": _Measured(Gemini(), "npm, Node 24", gemini.API_KEY, turns=2),
}


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    return [_figure(name) for name in _AGENTS]


def _figure(name: str) -> Figure:
    command = [sys.executable, "-m", "tests.bench.agent_turn", name]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MOST_S + _SETTING_UP_S, check=False
    )
    if done.returncode:
        raise CannotMeasureError(f"{name}'s turn: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    pairs = msgspec.json.decode(done.stdout, type=list[tuple[_Turn, _Turn]])
    with_it, without = [pair[0].took_ns for pair in pairs], [pair[1].took_ns for pair in pairs]
    ratios = [one / other for one, other in zip(with_it, without, strict=True)]
    cpu = sum(pair[0].cpu_s for pair in pairs) / sum(pair[1].cpu_s for pair in pairs)  # ticks are too coarse for one
    detail = f"{ms(p50(with_it))} / {ms(p50(without))}, {len(pairs)} pairs, +- {_error_of_p50(ratios):.3f}"
    return Figure(f"agent-turn-{name}", p50(ratios), f"{detail}; processor time, the daemons' included: {cpu:.3f} x")


def _error_of_p50(samples: list[float]) -> float:
    """Return the standard error of a median: 1.25 of the mean's, the spread told by the quartiles, not by outliers."""
    low, _, high = statistics.quantiles(samples, n=4)
    return 1.2533 * (high - low) / 1.349 / len(samples) ** 0.5


class _Turn(Struct, frozen=True):
    """What one turn took."""

    took_ns: int
    cpu_s: float
    """Processor time of the agent, of all that it started and waited for, and of the daemons meanwhile."""


def measure(name: str, most_s: float = _MOST_S) -> list[tuple[_Turn, _Turn]]:
    """Return the pairs of one agent, each (with, without), after so many seconds at most (and one round).

    Raises:
        StepFailedError: something can't be made here, or a turn fails.
    """
    with _turns(_AGENTS[name]) as turns:
        pairs: list[tuple[_Turn, _Turn]] = []
        ends_s = time.monotonic() + most_s
        while time.monotonic() < ends_s and not _is_exact(pairs):
            for order in ((True, False), (False, True)):
                phases = {with_broker: turns.phase(with_broker=with_broker) for with_broker in order}
                pairs += zip(phases[True], phases[False], strict=True)
        turns.run_daemons()  # so that the world ends as it began
        return pairs


def _is_exact(pairs: list[tuple[_Turn, _Turn]]) -> bool:
    return len(pairs) >= _FEWEST_PAIRS and _error_of_p50([one.took_ns / other.took_ns for one, other in pairs]) < _ERROR


@contextlib.contextmanager
def _turns(measured: _Measured) -> Iterator["_Turns"]:
    """Enrol one home of two that are alike."""
    with private_world(REAL, "tests.fakes.model_apis") as world, contextlib.ExitStack() as undo:
        undo.enter_context(no_names())
        made = Place(world, undo)
        for path in world.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        made.install(measured.client, measured.layout)
        made.log_in(measured.client.ways[measured.way]())
        bare = world.root / "bare"
        bare.mkdir()
        for path in (world.home, *world.home.iterdir()):
            if path not in {world.home, made.installed}:
                subprocess.run(["cp", "--archive", path, bare], check=True)
        shutil.chown(bare, world.user.pw_uid, world.user.pw_gid)
        whose = ("--user", world.user.pw_name, "--binary", str(made.program), "--yes")
        made.broker("enroll", measured.client.name, *whose)
        made.answers(_ANSWER, tool_cmd="true")
        yield _Turns(made, measured, bare)


class _Turns:
    """Times turns in both homes."""

    def __init__(self, place: Place, measured: _Measured, bare: Path) -> None:
        self._place, self._measured, self._bare = place, measured, bare
        self._asked = 0
        """How often the agent asks the model in a turn; in each as often."""

    def phase(self, *, with_broker: bool) -> list[_Turn]:
        """Time turns in one of the homes; the first is not counted."""
        self.run_daemons() if with_broker else self._stop_daemons()
        return [self._turn(with_broker=with_broker) for _ in range(self._measured.turns + 1)][1:]

    def run_daemons(self) -> None:
        """Start both, unless they run."""
        if not self._place.world.monitor.runs:
            start_monitor(self._place.world)
            start_broker(self._place.world)

    def _stop_daemons(self) -> None:
        if self._place.world.monitor.runs:
            self._place.world.daemon.stop()
            self._place.world.monitor.stop()

    def _turn(self, *, with_broker: bool) -> _Turn:
        client, place = self._measured.client, self._place
        home, url = place.world.home if with_broker else self._bare, place.world.provider.base_url
        in_project = ("/usr/bin/env", f"--chdir={home}/project")  # an agent reads files of the folders above it
        command = (*in_project, *client.command(place.program, "hello"))
        environment = {"HOME": str(home), "PWD": f"{home}/project"}
        if not with_broker:
            command += client.options_directly(url)
            environment.update(client.directly(url))
        before = len(place.requests())
        began_ns, began_cpu_s = time.perf_counter_ns(), self._cpu_s()
        agent = place.start(client, command, **environment)
        said = finished(agent)
        took = _Turn(time.perf_counter_ns() - began_ns, self._cpu_s() - began_cpu_s)
        asked = [each for each in place.requests()[before:] if client.asks_model(each["target"])]
        require(agent.returncode == 0 and _ANSWER in said, "the agent to take its turn", said)
        right = [each["auth"] == place.login.sent for each in asked]
        self._asked = self._asked or len(right)
        require(right == [True] * self._asked, f"{self._asked} requests, as before, with the real credential", right)
        return took

    def _cpu_s(self) -> float:
        """Processor time so far, in user mode and in the kernel: of what was waited for, and of the daemons."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        world = self._place.world
        daemons = (world.monitor, world.daemon) if world.monitor.runs else ()
        return used.ru_utime + used.ru_stime + sum(cpu_s_of(daemon.pid) for daemon in daemons)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is taken away
    try:
        print(msgspec.json.encode(measure(sys.argv[1], *map(float, sys.argv[2:3]))).decode())
    except StepFailedError as error:
        sys.exit(str(error))
