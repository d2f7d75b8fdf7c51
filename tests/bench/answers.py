"""How many questions the broker answers in full: attest, decide, unseal, journal durably, attest again, release.

64 children of an enrolled agent ask ``get``, each on a connection of its own, as shims do. First without a pause, for
the rate; then at 3,000 a second in all, for how long an answer takes at the rate that the bar names (without a pause,
64 clients would wait 64 answers' time by arithmetic alone). Both daemons and all clients share the machine's cores.
"""

from agent_broker.transport.frame import ShimRequest, encode_request
from tests.bench.figures import Figure, ms, p50, p99
from tests.bench.stage import Stage

_CLIENTS = 64
_WARM_UP_MS = 500
_MILLISECONDS = 4000
_OFFERED_PER_S = 3000


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=True)
    frame = stage.folder / "get.frame"
    frame.write_bytes(encode_request(ShimRequest("get", ("api-key",))))
    _ask(stage, _WARM_UP_MS, 0)
    before_s = stage.broker.cpu_s, stage.monitor.cpu_s
    full_rate, full = _ask(stage, _MILLISECONDS, 0)
    broker_us, monitor_us = (
        (after - before) / len(full) * 1e6
        for before, after in zip(before_s, (stage.broker.cpu_s, stage.monitor.cpu_s), strict=True)
    )
    used = f"an answer takes {broker_us:.0f} us of the broker's CPU time, {monitor_us:.0f} us of the monitor's"
    rate, paced = _ask(stage, _MILLISECONDS, _CLIENTS * 1_000_000 // _OFFERED_PER_S)
    return [
        Figure("answers-rate", full_rate, f"no pause: p50 {ms(p50(full))}, p99 {ms(p99(full))}; {used}"),
        Figure("answers-p99", p99(paced) / 1e6, f"p50 {ms(p50(paced))}, {rate:,.0f}/s answered"),
    ]


def _ask(stage: Stage, milliseconds: int, interval_us: int) -> tuple[float, list[int]]:
    """Return answers a second, and how long each took in nanoseconds."""
    socket, frame = stage.layout.agent_socket, stage.folder / "get.frame"
    who_and_what = (stage.driver("asker"), socket, frame)
    how_much = (str(_CLIENTS), str(milliseconds), str(interval_us))
    (elapsed_ns,), *lines = stage.as_owner(*who_and_what, *how_much)
    return len(lines) / (elapsed_ns / 1e9), [line[0] for line in lines]
