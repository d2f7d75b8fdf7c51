"""How many opens the broker was told of: the counts of the incidents, each as it was told last."""

import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent_broker.transport.control_client import ControlClient

_LIMIT = 1000
_PATIENCE_S = 30
_ASK_EVERY_S = 0.25


def told_of(client: "ControlClient", since_ns: int, *, at_least: int = 0) -> tuple[int, int]:
    """Return opens that were told and the incidents that tell them, once no more come.

    Repeats are told late (monitor.fold): asked again until ``at_least`` opens were told, for half a minute at most.

    Args:
        client: of the running broker.
        since_ns: CLOCK_REALTIME; incidents that ended before are not counted.
        at_least: opens that were made.
    """
    end_s = time.monotonic() + _PATIENCE_S
    while True:
        counts = _counts(client, since_ns)
        if sum(counts.values()) >= at_least or time.monotonic() > end_s:
            return sum(counts.values()), len(counts)
        time.sleep(_ASK_EVERY_S)


def _counts(client: "ControlClient", since_ns: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    with client.alerts(_LIMIT, follow=False) as stream:
        for each in stream:
            if not isinstance(each, bytes):
                continue
            incident = msgspec.json.decode(each)
            if incident["kind"] == "decoy-opened" and incident["time_ns"] >= since_ns:
                counts[incident["id"]] = max(counts.get(incident["id"], 0), incident["count"])
    return counts
