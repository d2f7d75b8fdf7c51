"""From an intruder's open of a decoy until a follower of the alerts has it; and how long the intruder was held up.

Each intruder is a fresh process of the user's, one at a time. Decoys take turns, below the rate at which the monitor
sums up the opens of one decoy. The first rounds are not counted: they take the hash of the intruder's program.
"""

import itertools
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from agent_broker.errors import AgentBrokerError
from tests.bench.figures import CannotMeasureError, Figure, ms, p50, p99, us
from tests.bench.stage import OWNER, Stage

if TYPE_CHECKING:
    from agent_broker.transport.control_client import ControlClient
    from agent_broker.transport.control_records import Missed

_WARM_UP = 16
_ROUNDS = 300
_THAW_EVERY = 50  # rounds: a machine has few frozen processes, not all that this bench makes
_ALERT_S = 5
_MISSED = "(an alert was missed)"

_Alert = tuple[int, str]
"""When it was read (time.monotonic_ns), and the path that it names."""


def run(stage: Stage) -> list[Figure]:
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415 - see tests.bench.daemons
    from agent_broker.transport.control_records import Everything  # noqa: PLC0415

    stage.have(monitor=True, broker=True)
    ordinary = stage.folder / "decoys/ordinary.json"
    ordinary.write_text("{}")
    latencies, waits = [], []
    with ControlClient(stage.layout.admin_socket) as client, _followed(client, stage) as alerts:
        decoys = itertools.cycle(stage.decoys)
        for number in range(_WARM_UP + _ROUNDS):
            latency, wait = _open_one(stage, alerts, str(ordinary), str(next(decoys)))
            if number >= _WARM_UP:
                latencies.append(latency)
                waits.append(wait)
            if number % _THAW_EVERY == 0:
                client.thaw(Everything())
        client.thaw(Everything())
    return [
        Figure("alert-p50", p50(latencies) / 1e6, f"{_ROUNDS} intruders, one at a time"),
        Figure("alert-p99", p99(latencies) / 1e6, f"worst {ms(max(latencies))}"),
        Figure("opener-wait", p50(waits) / 1e3, f"over an ordinary open; p99 {us(p99(waits))}"),
    ]


def _open_one(stage: Stage, alerts: "queue.Queue[_Alert]", ordinary: str, decoy: str) -> tuple[int, int]:
    """Return nanoseconds from open to alert, and those that the opener was held up."""
    command = [str(stage.driver("intruder")), ordinary, decoy]
    with subprocess.Popen(
        command, user=OWNER, group=OWNER, extra_groups=[], cwd="/", env={}, stdout=subprocess.PIPE
    ) as intruder:
        try:
            read_ns, path = alerts.get(timeout=_ALERT_S)
        except queue.Empty:
            raise CannotMeasureError(f"no alert within {_ALERT_S} s of an open of a decoy") from None
        opened_ns, held_ns, ordinary_ns = map(int, intruder.communicate()[0].split())
    if path != decoy:
        raise CannotMeasureError(f"the alert names {path}, not {decoy}")
    return read_ns - opened_ns, held_ns - ordinary_ns


@contextmanager
def _followed(client: "ControlClient", stage: Stage) -> Iterator["queue.Queue[_Alert]"]:
    """Follow the alerts as ``agent-broker alerts --follow`` does; what was read comes out of the queue.

    But for what is told of anything else than a decoy: counts of a flood that was before come late.
    """
    found: queue.Queue[_Alert] = queue.Queue()
    decoys = set(map(str, stage.decoys))

    def read(stream: Iterator["bytes | Missed"]) -> None:
        try:
            for alert in stream:
                now_ns = time.monotonic_ns()
                path = msgspec.json.decode(alert)["path"] if isinstance(alert, bytes) else _MISSED
                if path in decoys or path == _MISSED:
                    found.put((now_ns, path))
        except AgentBrokerError:  # the stream was cancelled: the block below has ended
            return

    with client.alerts(0, follow=True) as stream:
        thread = threading.Thread(target=read, args=(stream,), daemon=True)
        thread.start()
        yield found
    thread.join(_ALERT_S)
