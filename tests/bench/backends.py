"""The kernel side's two backends side by side: the monitor's start, its memory, and what an exec costs everybody.

They take turns, and so does no monitor: the ratio of an exec is of the medians over all phases of a kind.
"""

import time

from tests.bench import drivers
from tests.bench.figures import Figure, ms, p50
from tests.bench.idle_memory import pss_bytes
from tests.bench.stage import Stage

_ROUNDS = 4
_EXECS = 300
_IDLE_S = 1.0
_CHOICE = '\n[sensor]\nbackend = "{}"\n'
_OFF = "off"


def run(stage: Stage) -> list[Figure]:
    file = stage.layout.config_file
    plain = file.read_text()
    starts: dict[str, list[float]] = {"core": [], "bcc": []}
    memory: dict[str, list[float]] = {"core": [], "bcc": []}
    execs: dict[str, list[int]] = {_OFF: [], "core": [], "bcc": []}
    try:
        for _ in range(_ROUNDS):
            stage.have(monitor=False, broker=False)
            execs[_OFF] += _exec_ns(stage)
            for backend, samples in starts.items():
                file.write_text(plain + _CHOICE.format(backend))
                stage.have(monitor=False, broker=False)
                samples.append(stage.monitor.start())
                time.sleep(_IDLE_S)
                memory[backend].append(pss_bytes(stage.monitor.pid) / 1e6)
                execs[backend] += _exec_ns(stage)
    finally:
        stage.have(monitor=False, broker=False)
        file.write_text(plain)
    return [
        Figure("bcc-start", p50(starts["bcc"]), f"core {p50(starts['core']):.2f} s"),
        Figure("bcc-memory", p50(memory["bcc"]), f"core {p50(memory['core']):.0f} MB"),
        Figure("bcc-exec", p50(execs["bcc"]) / p50(execs[_OFF]), _execs_text(execs)),
    ]


def _execs_text(execs: dict[str, list[int]]) -> str:
    return f"core {p50(execs['core']) / p50(execs[_OFF]):.3f} x; without a monitor {ms(p50(execs[_OFF]))}"


def _exec_ns(stage: Stage) -> list[int]:
    lines = drivers.numbers(drivers.run([stage.driver("spawn"), str(_EXECS), "/bin/true"]))
    return [line[0] for line in lines]
