"""Ten seconds of 20,000 opens of decoys a second: are all told, does the agent notice, what does a flood leave behind?

Several processes of the user open decoys in turn; openers wait for the monitor's answer, so that a monitor that is
slower slows them down, and ``marked-rate`` is what was reached; beside it stands what an empty listener in C reaches
here. Meanwhile, and before and after, fifty helpers of the agent ask ``get``; beside that stands how long they wait
while the same processes open files that nobody watches: four of them on two cores are a load by themselves. Then one
process alone opens a decoy 100,000 times: what the monitor holds more afterwards, and how many lines a person is told.
"""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent_broker.transport.frame import ShimRequest, encode_request
from tests.bench import drivers
from tests.bench.figures import CannotMeasureError, Figure, ms, p99
from tests.bench.idle_memory import pss_bytes
from tests.bench.stage import OWNER, Stage
from tests.bench.told import told_of

if TYPE_CHECKING:
    from agent_broker.transport.control_client import ControlClient

_PROCESSES, _MS = 4, 10_000
_PER_S = 20_500  # a little more than the bar: processes start one after the other
_CEILING_MS = 2000
_HELPERS, _ASK_EVERY_US = 50, 300_000
_QUIET_MS, _BUSY_MS = 4000, 8000
_SETTLE_MS = 1000
_FLOOD = 100_000
_FLOOD_MS = 60_000
_FEW_LINES = 100


class _Pace(NamedTuple):
    """How opens follow each other, as the driver's arguments."""

    per_s: int
    """0: without a pause."""
    milliseconds: int
    most: int = 10**9


def run(stage: Stage) -> list[Figure]:
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415 - see tests.bench.daemons
    from agent_broker.transport.control_records import Everything  # noqa: PLC0415

    stage.have(monitor=False, broker=False)  # a monitor with nothing in its memory
    stage.have(monitor=True, broker=True)
    frame = stage.folder / "get.frame"
    frame.write_bytes(encode_request(ShimRequest("get", ("api-key",))))
    with ControlClient(stage.layout.admin_socket) as client:
        try:
            return [*_under_load(stage, client, _ordinary_files(stage)), *_flood(stage, client)]
        finally:
            client.thaw(Everything())


def _ordinary_files(stage: Stage) -> list[Path]:
    folder = stage.folder / "ordinary"
    folder.mkdir(exist_ok=True)
    files = [folder / each.name for each in stage.decoys]
    for each in files:
        each.write_text("{}")
    return files


def _ceiling(stage: Stage, files: list[Path]) -> float:
    """Return opens a second that a listener answers which does nothing else."""
    command = [stage.driver("answerer"), *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        if not (listener.stdout and listener.stdout.readline()):
            raise CannotMeasureError("the listener in C does not start")
        with _opening(stage, _PROCESSES, _Pace(0, _CEILING_MS), files) as opener:
            opened, _, elapsed_ns = _finish(opener)
        listener.communicate()  # closes its input: it ends
    return opened / (elapsed_ns / 1e9)


def _under_load(stage: Stage, client: "ControlClient", ordinary: list[Path]) -> list[Figure]:
    _ask(stage, _QUIET_MS)
    before = p99(_ask(stage, _QUIET_MS))
    with _opening(stage, _PROCESSES, _Pace(_PER_S, _QUIET_MS + _SETTLE_MS), ordinary) as opener:
        unwatched = _ask(stage, _QUIET_MS)
        _finish(opener)
    since_ns, cpu_s = time.time_ns(), stage.monitor.cpu_s
    with _opening(stage, _PROCESSES, _Pace(_PER_S, _MS), stage.decoys) as opener:
        time.sleep(_SETTLE_MS / 1000)
        busy = _ask(stage, _BUSY_MS)
        opened, refused, elapsed_ns = _finish(opener)
    each_us = (stage.monitor.cpu_s - cpu_s) / opened * 1e6
    told, lines = told_of(client, since_ns, at_least=opened)
    quiet = min(before, p99(_ask(stage, _QUIET_MS)))  # the quieter one: a pause of the machine makes no load look good
    rate = opened / (elapsed_ns / 1e9)
    ceiling = f"an empty listener in C: {_ceiling(stage, ordinary):,.0f}/s"
    floor = f"beside opens that nobody watches: {ms(p99(unwatched))}"
    return [
        Figure("marked-rate", rate, f"{_PROCESSES} processes; {each_us:.0f} us of our CPU each; {ceiling}"),
        Figure("marked-lost", opened - told, f"{opened:,} opens, {told:,} told in {lines} incidents"),
        Figure("marked-refused", refused, "of decoys that are not enrolled to be denied"),
        Figure("marked-get", p99(busy) / quiet, f"{ms(p99(busy))} / {ms(quiet)}; {floor}"),
    ]


def _flood(stage: Stage, client: "ControlClient") -> list[Figure]:
    with _opening(stage, 1, _Pace(0, _FLOOD_MS, _FEW_LINES), stage.decoys[:1]) as opener:  # what is made once is there
        _finish(opener)
    before, since_ns = pss_bytes(stage.monitor.pid), time.time_ns()
    with _opening(stage, 1, _Pace(0, _FLOOD_MS, _FLOOD), stage.decoys[:1]) as opener:
        opened, _, elapsed_ns = _finish(opener)
    told, lines = told_of(client, since_ns, at_least=opened)
    grown = pss_bytes(stage.monitor.pid) - before
    how = f"{opened:,} opens by one process in {elapsed_ns / 1e9:.1f} s"
    return [
        Figure("flood-memory", grown / 1e6, how),
        Figure("flood-lines", lines, f"{told:,} opens told"),
    ]


def _ask(stage: Stage, milliseconds: int) -> list[int]:
    command = (stage.driver("asker"), stage.layout.agent_socket, stage.folder / "get.frame")
    _, *answers = stage.as_owner(*command, str(_HELPERS), str(milliseconds), str(_ASK_EVERY_US))
    return [line[0] for line in answers]


def _opening(stage: Stage, processes: int, pace: _Pace, files: Sequence[Path]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [stage.driver("marked"), *map(str, (processes, *pace)), *files],
        user=OWNER, group=OWNER, extra_groups=[], cwd="/", env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def _finish(opener: "subprocess.Popen[str]") -> tuple[int, int, int]:
    """Return opens that succeeded, those that were refused, and nanoseconds that all took."""
    said, _ = opener.communicate()
    if opener.returncode:
        raise CannotMeasureError("the processes that open decoys failed")
    ((opened, refused, elapsed_ns),) = drivers.numbers(said)
    return opened, refused, elapsed_ns
