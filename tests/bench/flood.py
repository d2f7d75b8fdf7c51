"""Does the agent notice when another process of its user floods the broker?

Each kind of flood runs for a while, and between two of them it is quiet. In both, fifty helpers of the agent ask `get`
(most for the first time in their lives, as shims do), and the agent itself sends requests on a kept connection. All
kinds take their turns, several times over: a kind's p99 is the median of its turns, since a stall of the disk is longer
than any of them. The X asks nothing, it shows what the busy processes alone cost.

A crowd of ever new processes takes the processor from everybody, whatever it asks, and only a limit on a user's
processes keeps it from that: it is measured beside the same crowd that asks where nobody listens.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent_broker.transport.frame import ShimRequest, encode_request
from tests.bench import injection
from tests.bench.figures import Figure, ms, p50, p99
from tests.bench.stage import OWNER, Stage

_TURNS = 3
_HELPERS, _ASK_MS, _ASK_EVERY_US = 50, 1200, 300_000
_REQUESTS = 200
_LONGEST_MS = 120_000
_SETTLE_MS = 200
_FLOODS = (
    ("spin", "agent", 50),
    ("ask", "agent", 1),
    ("ask", "agent", 50),
    ("fork", "agent", 50),
    ("hide", "agent", 1),
    ("connect", "agent", 1),
    ("connect", "agent", 50),
    ("hold", "agent", 4),
    ("ask", "inject unix", 1),
    ("ask", "inject unix", 50),
    ("fork", "inject unix", 50),
    ("connect", "inject unix", 1),
    ("hold", "inject unix", 4),
    ("pipeline", "inject unix", 2),
    ("ask", "inject tcp", 4),
    ("hold", "inject tcp", 4),
)
"""How (tests/bench/c/flood.c), where, and by how many processes."""
_CROWD, _CROWD_ELSEWHERE = ("hide", "agent", 4), ("hide", "nowhere", 4)


@dataclass
class _Waits:
    """What the agent waited: the p99 of each turn, in nanoseconds."""

    get: list[float] = field(default_factory=list)
    inject: list[float] = field(default_factory=list)


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=True)
    stage.provider.behave("{}")
    frame = stage.folder / "get.frame"
    frame.write_bytes(encode_request(ShimRequest("get", ("api-key",))))
    pairs = injection.request_pairs(stage, stream=False)
    _measure(stage, frame, pairs, _Waits())
    quiet, floods = _Waits(), {_name(*flood): _Waits() for flood in _FLOODS}
    for flood in _FLOODS * _TURNS:
        _measure(stage, frame, pairs, quiet)
        with _flooded(stage, frame, *flood):
            _measure(stage, frame, pairs, floods[_name(*flood)])
    asking, elsewhere = (_in_a_crowd(stage, frame, pairs, crowd) for crowd in (_CROWD, _CROWD_ELSEWHERE))
    return [
        _figure("flood-get", quiet.get, {name: waits.get for name, waits in floods.items()}),
        _figure("flood-inject", quiet.inject, {name: waits.inject for name, waits in floods.items()}),
        _figure("crowd-get", elsewhere.get, {_name(*_CROWD): asking.get}),
        _figure("crowd-inject", elsewhere.inject, {_name(*_CROWD): asking.inject}),
    ]


def _in_a_crowd(stage: Stage, frame: Path, pairs: list[str | Path], crowd: tuple[str, str, int]) -> _Waits:
    waits = _Waits()
    with _flooded(stage, frame, *crowd):
        _measure(stage, frame, pairs, waits)
    return waits


def _measure(stage: Stage, frame: Path, pairs: list[str | Path], waits: _Waits) -> None:
    command = (stage.driver("asker"), stage.layout.agent_socket, frame)
    _, *answers = stage.as_owner(*command, str(_HELPERS), str(_ASK_MS), str(_ASK_EVERY_US))
    waits.get.append(p99([line[0] for line in answers]))
    waits.inject.append(p99([line[2] for line in injection.exchange(stage, _REQUESTS, pairs)]))


@contextlib.contextmanager
def _flooded(stage: Stage, frame: Path, how: str, where: str, processes: int) -> Iterator[None]:
    places = {
        "agent": (f"@{stage.layout.agent_socket}", frame),
        "nowhere": (f"@{stage.folder / 'absent.sock'}", frame),
        "inject unix": (str(stage.layout.inject_socket), stage.folder / "brokered.http"),
        "inject tcp": (str(stage.inject_port), stage.folder / "brokered.http"),
    }
    place, request = places[where]
    flood = subprocess.Popen(
        [stage.driver("flood"), how, place, request, str(processes), str(_LONGEST_MS)],
        user=OWNER,
        group=OWNER,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            flood.wait(_SETTLE_MS / 1000)
        yield
    finally:
        flood.kill()  # its children end with it
        flood.wait()


def _name(how: str, where: str, processes: int) -> str:
    return f"{how} {where} x{processes}"


def _figure(key: str, quiet: list[float], floods: dict[str, list[float]]) -> Figure:
    waits = {name: p50(turns) for name, turns in floods.items()}
    worst = max(waits, key=lambda name: waits[name])
    without = p50(quiet)
    return Figure(key, waits[worst] / without, f"{ms(waits[worst])} ({worst}) / {ms(without)}")
