"""What everybody else on the machine pays for the monitor: exec, compiling, opening files that nobody watches, and the
calls, switches, mappings and messages that the hooks for tampering see.

The monitor runs and does not run in turn (off, on, on, off, ...), and every phase does the same three things. Ratios
are of the medians over all phases of a kind. What the medians of single phases differ by without the monitor is the
noise: a ratio that is nearer to 1 than that says no more than "not much".

Opens are so quick that the machine's own ups and downs outweigh what is asked: their ratio is the median of those of
phases that follow each other, each by its quickest quarter. They are done twice: as the file system is, and while
another program watches another file there by inotify, as file managers and editors do. For the first watch on a file
system, whatever it is, the kernel looks at every open there; the second one costs nothing. What the first costs, by
itself, is measured beside it, on a file system that nobody else can watch (tests/bench/c/watched.c).
"""

import statistics
from collections.abc import Callable
from pathlib import Path

from tests.bench import drivers
from tests.bench.figures import Figure, ms, p50
from tests.bench.stage import Stage

_PAIRS = 6
_EXECS = 300
_COMPILES = 3
_FILES = 30
_OPEN_BATCHES, _OPENS = 200, 500
_MARK_BATCHES, _MARK_OPENS = 4000, 400
_LOADS = {"syscall": 20_000, "switch": 500, "map": 2000, "send": 2000}
"""Kinds of the driver ``loads``, and how many of a kind make a batch of some milliseconds."""
_LOAD_BATCHES = 40
_UNIT = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int compute_{n}(const char *text)
{{
    char *copy = strdup(text);
    int sum = {n};
    for (size_t i = 0; copy && i < strlen(copy); i++)
        sum += copy[i] * (int)i;
    printf("%d\\n", sum);
    free(copy);
    return sum;
}}
"""


class _Samples:
    """Of one action and one state of the monitor: a list for each phase, in nanoseconds."""

    def __init__(self) -> None:
        self._phases: list[list[int]] = []

    def add(self, phase: list[int]) -> None:
        self._phases.append(phase)

    @property
    def p50(self) -> float:
        return p50([sample for phase in self._phases for sample in phase])

    @property
    def quick(self) -> list[float]:
        """Of each phase, what the quickest quarter stays below."""
        return [statistics.quantiles(phase, n=4)[0] for phase in self._phases]

    @property
    def spread(self) -> float:
        """Half the distance between the medians of the slowest and the fastest phase, as a part of all: the noise."""
        medians = [p50(phase) for phase in self._phases]
        return (max(medians) - min(medians)) / 2 / self.p50


class _State:
    """Everything that was measured while the monitor ran, or while it did not."""

    def __init__(self) -> None:
        self.execs = _Samples()
        self.compiles = _Samples()
        self.opens = _Samples()
        self.watched_opens = _Samples()
        self.loads = {kind: _Samples() for kind in _LOADS}

    def measure(self, stage: Stage, project: Path) -> None:
        spawn = stage.driver("spawn")
        _numbers(spawn, "30", "/bin/true")
        self.execs.add(_numbers(spawn, str(_EXECS), "/bin/true"))
        self.compiles.add(_numbers(spawn, str(_COMPILES), "/usr/bin/make", "-s", "-B", "-j2", "-C", project))
        opens = [stage.driver("opens"), str(_OPEN_BATCHES), str(_OPENS), project / "Makefile"]
        self.opens.add(_numbers(*opens))
        self.watched_opens.add(_numbers(*opens, project / "unit0.c"))
        for kind, size in _LOADS.items():
            self.loads[kind].add(_numbers(stage.driver("loads"), kind, str(_LOAD_BATCHES), str(size)))


def run(stage: Stage) -> list[Figure]:
    project = _write_project(stage.folder / "project")
    off, on = _State(), _State()
    stage.have(monitor=False, broker=False)
    _State().measure(stage, project)
    for number in range(_PAIRS):
        for state in (off, on) if number % 2 == 0 else (on, off):
            stage.have(monitor=state is on, broker=False)
            state.measure(stage, project)
    return [
        _figure("exec", on.execs, off.execs, ms),
        _figure("compile", on.compiles, off.compiles, ms),
        _open_figure("open", on.opens, off.opens, _first_watch(stage)),
        _open_figure("open-watched", on.watched_opens, off.watched_opens),
        *(_figure(f"load-{kind}", on.loads[kind], off.loads[kind], _ns) for kind in _LOADS),
    ]


def _ns(hundredths: float) -> str:
    return f"{hundredths / 100:.0f} ns"


def _figure(key: str, on: _Samples, off: _Samples, shown: Callable[[float], str]) -> Figure:
    return Figure(key, on.p50 / off.p50, f"{shown(on.p50)} / {shown(off.p50)}; noise when off +- {off.spread:.1%}")


def _open_figure(key: str, on: _Samples, off: _Samples, more: str = "") -> Figure:
    ratios = [with_it / without for with_it, without in zip(on.quick, off.quick, strict=True)]
    detail = f"{_ns(p50(on.quick))} / {_ns(p50(off.quick))}; {min(ratios):.3f} to {max(ratios):.3f}"
    return Figure(key, statistics.median(ratios), detail + more)


def _first_watch(stage: Stage) -> str:
    """Say what the first watch on a file system costs an open of another file there, without our monitor."""
    folder = stage.folder / "watched"
    folder.mkdir()
    samples: dict[int, list[int]] = {}
    command = [stage.driver("watched"), str(_MARK_BATCHES), str(_MARK_OPENS), folder]
    for state, time in drivers.numbers(drivers.run(command)):
        samples.setdefault(state, []).append(time)
    unwatched, *others = (statistics.quantiles(samples[state], n=4)[0] for state in sorted(samples))
    mark, inotify, both = (each / unwatched for each in others)
    return f"; a first watch alone: {mark:.3f} x (mark), {inotify:.3f} x (inotify), {both:.3f} x (both)"


def _numbers(*command: str | Path) -> list[int]:
    return [line[0] for line in drivers.numbers(drivers.run(list(command)))]


def _write_project(folder: Path) -> Path:
    folder.mkdir()
    for number in range(_FILES):
        (folder / f"unit{number}.c").write_text(_UNIT.format(n=number))
    objects = " ".join(f"unit{number}.o" for number in range(_FILES))
    (folder / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\tcc -O1 -c $< -o $@\n")
    return folder
