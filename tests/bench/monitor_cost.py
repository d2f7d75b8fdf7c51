"""What everybody else on the machine pays for the monitor: exec, compiling, opening files that nobody watches, and the
calls, switches, mappings and messages that the hooks for tampering see.

The monitor runs and does not run in turn (off, on, on, off, ...), and every phase does the same three things. Ratios
are of the medians over all phases of a kind. What the medians of single phases differ by without the monitor is the
noise: a ratio that is nearer to 1 than that says no more than "not much".

Opens are so quick that the machine's own ups and downs outweigh what is asked: their ratio is the median of those of
phases that follow each other, each by its quickest quarter. Beside it stands what one empty listener with one
permission mark on another file of the same file system costs: since there is one, the kernel looks at every open there.
"""

import statistics
import subprocess
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
_MARK_PAIRS, _MARK_BATCHES = 40, 20
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
        self.loads = {kind: _Samples() for kind in _LOADS}

    def measure(self, stage: Stage, project: Path) -> None:
        spawn = stage.driver("spawn")
        _numbers(spawn, "30", "/bin/true")
        self.execs.add(_numbers(spawn, str(_EXECS), "/bin/true"))
        self.compiles.add(_numbers(spawn, str(_COMPILES), "/usr/bin/make", "-s", "-B", "-j2", "-C", project))
        ordinary = project / "Makefile"
        self.opens.add(_numbers(stage.driver("opens"), str(_OPEN_BATCHES), str(_OPENS), ordinary))
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
        _open_figure(on.opens, off.opens, _one_mark(stage, project / "Makefile")),
        *(_figure(f"load-{kind}", on.loads[kind], off.loads[kind], _ns) for kind in _LOADS),
    ]


def _ns(hundredths: float) -> str:
    return f"{hundredths / 100:.0f} ns"


def _figure(key: str, on: _Samples, off: _Samples, shown: Callable[[float], str]) -> Figure:
    return Figure(key, on.p50 / off.p50, f"{shown(on.p50)} / {shown(off.p50)}; noise when off +- {off.spread:.1%}")


def _open_figure(on: _Samples, off: _Samples, one_mark: float) -> Figure:
    ratios = [with_it / without for with_it, without in zip(on.quick, off.quick, strict=True)]
    detail = f"{_ns(p50(on.quick))} / {_ns(p50(off.quick))}; {min(ratios):.3f} to {max(ratios):.3f}"
    return Figure("open", statistics.median(ratios), f"{detail}; one mark of an empty listener: {one_mark:.3f} x")


def _one_mark(stage: Stage, ordinary: Path) -> float:
    """Return what one permission mark on another file costs an open of this one: a ratio, without our monitor."""
    stage.have(monitor=False, broker=False)

    def measure(*marked: Path) -> float:
        command = [stage.driver("answerer"), *marked]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
            if listener.stdout:
                listener.stdout.readline()
            phase = _numbers(stage.driver("opens"), str(_MARK_BATCHES), str(_OPENS), ordinary)
            listener.communicate()
        return statistics.quantiles(phase, n=4)[0]

    ratios = []
    for number in range(_MARK_PAIRS):
        times = {count: measure(*stage.decoys[:count]) for count in ((0, 1) if number % 2 else (1, 0))}
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def _numbers(*command: str | Path) -> list[int]:
    return [line[0] for line in drivers.numbers(drivers.run(list(command)))]


def _write_project(folder: Path) -> Path:
    folder.mkdir()
    for number in range(_FILES):
        (folder / f"unit{number}.c").write_text(_UNIT.format(n=number))
    objects = " ".join(f"unit{number}.o" for number in range(_FILES))
    (folder / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\tcc -O1 -c $< -o $@\n")
    return folder
