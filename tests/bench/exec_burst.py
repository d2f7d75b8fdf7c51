"""100,000 execs as fast as the machine does them, eight at a time: does the monitor lose one?"""

from pathlib import Path

from agent_broker.monitor.messages import MonitorStatus
from tests.bench import drivers
from tests.bench.daemons import monitor_status
from tests.bench.figures import CannotMeasureError, Figure
from tests.bench.stage import Stage

_EXECS = 100_000
_PARALLEL = 8
_MOST_S = 100
_EVENTS_EACH = 3  # fork, exec, exit


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    stage.have(monitor=True, broker=False)
    before = _status(stage)
    command: list[str | Path] = [
        stage.driver("burst"),
        str(_EXECS),
        str(_PARALLEL),
        str(_MOST_S),
        stage.driver("empty"),
    ]
    ((execs, elapsed_ns),) = drivers.numbers(drivers.run(command, timeout_s=_MOST_S + 20))
    after = _status(stage)
    seen, lost = after.events - before.events, after.lost_events - before.lost_events
    if seen + lost < _EVENTS_EACH * execs:
        raise CannotMeasureError(f"{execs} execs made {seen} events: the monitor did not see the burst")
    return [Figure("burst-lost", lost, f"{execs:,} execs in {elapsed_ns / 1e9:.0f} s, {seen:,} events")]


def _status(stage: Stage) -> MonitorStatus:
    status = monitor_status(stage.layout)
    if status is None:
        raise CannotMeasureError("the monitor does not answer")
    return status
