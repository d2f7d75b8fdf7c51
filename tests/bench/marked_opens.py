"""Ten seconds of 20,000 opens of decoys a second: are all told, does the agent notice, what does a flood leave behind?

Several processes of the user open decoys in turn; openers wait for the monitor's answer, so that a monitor that is
slower slows them down, and ``marked-rate`` is what was reached. Meanwhile, and before and after, fifty helpers of the
agent ask ``get``. Then one process alone opens a decoy 100,000 times: what the monitor holds more afterwards, and how
many lines a person is told.
"""

import subprocess
import time
from typing import TYPE_CHECKING

from agent_broker.transport.frame import ShimRequest, encode_request
from tests.bench import drivers
from tests.bench.figures import CannotMeasureError, Figure, ms, p99
from tests.bench.idle_memory import pss_bytes
from tests.bench.stage import OWNER, Stage
from tests.bench.told import told_of

if TYPE_CHECKING:
    from agent_broker.transport.control_client import ControlClient

_PROCESSES, _PER_S, _MS = 4, 20_000, 10_000
_HELPERS, _ASK_EVERY_US = 50, 300_000
_QUIET_MS, _BUSY_MS = 4000, 8000
_SETTLE_S = 1.0
_FLOOD = 100_000
_FLOOD_MS = 60_000
_NO_LIMIT = 10**9
_FEW_LINES = 100


def run(stage: Stage) -> list[Figure]:
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415 - see tests.bench.daemons
    from agent_broker.transport.control_records import Everything  # noqa: PLC0415

    stage.have(monitor=False, broker=False)  # a monitor with nothing in its memory
    stage.have(monitor=True, broker=True)
    frame = stage.folder / "get.frame"
    frame.write_bytes(encode_request(ShimRequest("get", ("api-key",))))
    with ControlClient(stage.layout.admin_socket) as client:
        try:
            return [*_under_load(stage, client), *_flood(stage, client)]
        finally:
            client.thaw(Everything())


def _under_load(stage: Stage, client: "ControlClient") -> list[Figure]:
    _ask(stage, _QUIET_MS)
    quiet = _ask(stage, _QUIET_MS)
    since_ns, cpu_s = time.time_ns(), stage.monitor.cpu_s
    with _opening(stage, _PROCESSES, _PER_S, _MS, _NO_LIMIT, decoys=len(stage.decoys)) as opener:
        time.sleep(_SETTLE_S)
        busy = _ask(stage, _BUSY_MS)
        opened, refused, elapsed_ns = _finish(opener)
    each_us = (stage.monitor.cpu_s - cpu_s) / opened * 1e6
    told, lines = told_of(client, since_ns, at_least=opened)
    quiet += _ask(stage, _QUIET_MS)
    rate = opened / (elapsed_ns / 1e9)
    return [
        Figure("marked-rate", rate, f"{_PROCESSES} processes; the monitor used {each_us:.0f} us of CPU an open"),
        Figure("marked-lost", opened - told, f"{opened:,} opens, {told:,} told in {lines} incidents"),
        Figure("marked-refused", refused, "of decoys that are not enrolled to be denied"),
        Figure("marked-get", p99(busy) / p99(quiet), f"{ms(p99(busy))} / {ms(p99(quiet))}"),
    ]


def _flood(stage: Stage, client: "ControlClient") -> list[Figure]:
    with _opening(stage, 1, 0, _FLOOD_MS, _FEW_LINES, decoys=1) as opener:  # what is made once is there
        _finish(opener)
    before, since_ns = pss_bytes(stage.monitor.pid), time.time_ns()
    with _opening(stage, 1, 0, _FLOOD_MS, _FLOOD, decoys=1) as opener:
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


def _opening(
    stage: Stage, processes: int, per_s: int, milliseconds: int, most: int, *, decoys: int
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [stage.driver("marked"), *map(str, (processes, per_s, milliseconds, most)), *stage.decoys[:decoys]],
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
