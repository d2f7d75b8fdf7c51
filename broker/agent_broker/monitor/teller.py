"""A Folder in an event loop: what is due is published while the loop runs, and the rest when it is closed."""

import asyncio
from collections.abc import Callable

from agent_broker.clock import Clock
from agent_broker.monitor.fold import Folder, Seen
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.lines import Line

_TICK_S = 0.25  # while an incident is open; the folder's own bounds say how often anything is told


class Teller:
    """See the module. ``publish`` must not raise; it is called in the event loop."""

    def __init__(self, publish: Callable[[Incident], None], clock: Clock, folder: Folder | None = None) -> None:
        self.folder = Folder() if folder is None else folder
        self._publish = publish
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: Line, seen: Seen, make: Callable[[], Incident], *, times: int = 1) -> str | None:
        """Fold an event; see Folder.add."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        return self.folder.add(line, seen, self._clock.boot_ns(), make, times=times)

    def tell(self, incident_id: str, complete: Incident) -> None:
        """Publish an incident whose details are there, unless a worse event came in between; see Folder.tell."""
        incident = self.folder.tell(incident_id, self._clock.boot_ns(), complete)
        if incident is not None:
            self._publish(incident)

    def close(self) -> None:
        """Publish what was not told yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for incident in self.folder.close():
            self._publish(incident)

    def _tick(self) -> None:
        for incident in self.folder.due(self._clock.boot_ns()):
            self._publish(incident)
        again = len(self.folder) > 0
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick) if again else None
