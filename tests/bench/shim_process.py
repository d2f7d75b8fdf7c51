"""The shim as an agent's helper is run: exec, connect, ask, print, exit; against a process that does nothing.

Both are started by the same C driver in turn, so whatever slows the machine slows both. The protocol is
``claude-api-key-helper``, which is what Claude Code runs most.
"""

from tests.bench.figures import Figure, ms, p50, p99
from tests.bench.stage import SHIM, Stage

_WARM_UP = 50
_ROUNDS = 1500


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=True)
    programs = (stage.driver("empty"), "--", stage.driver(SHIM.name), "claude-api-key-helper")
    stage.as_owner(stage.driver("spawn"), str(_WARM_UP), *programs)
    samples = stage.as_owner(stage.driver("spawn"), str(_ROUNDS), *programs)
    empty, shim = [line[0] for line in samples], [line[1] for line in samples]
    return [
        Figure("shim-p50", p50(shim) / p50(empty), f"{ms(p50(shim))} / {ms(p50(empty))}, {_ROUNDS} each"),
        Figure("shim-p99", p99(shim) / p99(empty), f"{ms(p99(shim))} / {ms(p99(empty))}"),
    ]
