"""What everybody else on the machine pays for the monitor: exec, compiling, and opening files that nobody watches.

The monitor runs and does not run in turn (off, on, on, off, ...), and every phase does the same three things. Ratios
are of the medians over all phases of a kind. The compile is the hardest to tell from noise: many short ones.
"""

from pathlib import Path

from tests.bench import drivers
from tests.bench.figures import Figure, ms, p50
from tests.bench.stage import Stage

_PAIRS = 6
_EXECS = 300
_COMPILES = 3
_FILES = 30
_OPEN_BATCHES, _OPENS = 200, 500
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


class _Phase:
    """Samples of one state of the monitor, in nanoseconds."""

    def __init__(self) -> None:
        self.execs: list[int] = []
        self.compiles: list[int] = []
        self.opens: list[int] = []

    def measure(self, stage: Stage, project: Path) -> None:
        spawn = stage.driver("spawn")
        _numbers(spawn, "30", "/bin/true")
        self.execs += _numbers(spawn, str(_EXECS), "/bin/true")
        self.compiles += _numbers(spawn, str(_COMPILES), "/usr/bin/make", "-s", "-B", "-j2", "-C", project)
        ordinary = project / "Makefile"
        self.opens += _numbers(stage.driver("opens"), str(_OPEN_BATCHES), str(_OPENS), ordinary)


def run(stage: Stage) -> list[Figure]:
    project = _write_project(stage.folder / "project")
    off, on = _Phase(), _Phase()
    stage.have(monitor=False, broker=False)
    _Phase().measure(stage, project)
    for number in range(_PAIRS):
        for state in (off, on) if number % 2 == 0 else (on, off):
            stage.have(monitor=state is on, broker=False)
            state.measure(stage, project)
    opens_on, opens_off = p50(on.opens) / 100, p50(off.opens) / 100
    return [
        Figure("exec", p50(on.execs) / p50(off.execs), f"{ms(p50(on.execs))} / {ms(p50(off.execs))}"),
        Figure(
            "compile",
            p50(on.compiles) / p50(off.compiles),
            f"{ms(p50(on.compiles))} / {ms(p50(off.compiles))}, {len(on.compiles)} each",
        ),
        Figure("open", opens_on / opens_off, f"{opens_on:.0f} / {opens_off:.0f} ns"),
    ]


def _numbers(*command: str | Path) -> list[int]:
    return [line[0] for line in drivers.numbers(drivers.run(list(command)))]


def _write_project(folder: Path) -> Path:
    folder.mkdir()
    for number in range(_FILES):
        (folder / f"unit{number}.c").write_text(_UNIT.format(n=number))
    objects = " ".join(f"unit{number}.o" for number in range(_FILES))
    (folder / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\tcc -O1 -c $< -o $@\n")
    return folder
