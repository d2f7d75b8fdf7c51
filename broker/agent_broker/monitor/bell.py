"""Are the marks still there? A file of our own is marked like a decoy, and opened now and then: that must be heard.

Who takes our fanotify descriptor (root can) may remove all marks of it at once, without an event. Then everything is
marked again, and told. Marks that are removed one by one are not noticed until the registry is read again, or mounts
change; nor are those of the groups for renames and settings, if the open group's are left alone.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent_broker.clock import Clock
from agent_broker.errors import AgentBrokerError
from agent_broker.monitor.incident import Incident, incident_now

RING_S = 2.0
_ANSWER_S = 10.0

_log = logging.getLogger(__name__)


class Bell(Protocol):
    """What is rung (monitor.decoys.DecoyListener)."""

    def ring(self) -> bool:
        """Return whether it was heard; may wait."""
        ...

    def mark_bell(self) -> None:
        """Mark it again. Raises UnavailableError."""
        ...


class BellRinger:
    """See the module. Lives in the monitor's event loop.

    Attributes:
        problem: why decoys are not watched now; empty: the last ring was heard.
    """

    def __init__(
        self,
        bell: Bell,
        heal: Callable[[], Awaitable[object]],
        publish: Callable[[Incident], None],
        clock: Clock,
        tier: str,
    ) -> None:
        """``heal`` marks everything again, and may raise an AgentBrokerError."""
        self.problem = ""
        self._bell = bell
        self._heal = heal
        self._publish = publish
        self._clock = clock
        self._tier = tier
        self._ringing: asyncio.Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ring from now on."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(RING_S)
            await self.check()

    async def check(self) -> None:
        """Ring once; mark everything again and tell it if nobody heard."""
        heard = await self._ring()
        if heard:
            self.problem = ""
        elif heard is None:
            self.problem = "decoys are not watched: their listener does not answer"
        else:
            await self._put_back()

    async def _put_back(self) -> None:
        try:
            self._bell.mark_bell()
            await self._heal()
        except AgentBrokerError as error:
            _log.warning("marks could not be put back: %s", error)
        back = await self._ring()
        done = "they were put back" if back else "they could not be put back: decoys are not watched"
        if back or not self.problem:
            self._tell(done)
        self.problem = "" if back else f"the marks on decoys were removed, and {done}"

    def _tell(self, done: str) -> None:
        incident = incident_now(
            self._clock,
            kind="monitor-tampered",
            severity="critical",
            what=f"somebody removed the monitor's marks on decoys; {done}; opens in between were not seen",
            tier=self._tier,
            action="only-seen",
            next_step="only root can do this: find out who was root; what decoys hold may be known to them",
        )
        self._publish(incident)

    async def _ring(self) -> bool | None:
        """Return whether a ring was heard; None: it still waits for an answer, maybe since an earlier call."""
        if self._ringing is None:
            self._ringing = asyncio.get_running_loop().create_future()
            ring = threading.Thread(target=self._ring_in_thread, args=(self._ringing,), name="bell", daemon=True)
            ring.start()
        try:
            heard = await asyncio.wait_for(asyncio.shield(self._ringing), _ANSWER_S)
        except TimeoutError:
            return None
        self._ringing = None
        return heard

    def _ring_in_thread(self, done: "asyncio.Future[bool]") -> None:
        try:
            heard = self._bell.ring()
        except OSError as error:
            _log.warning("the bell could not be rung: %s", error)
            heard = False
        loop = done.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, done, heard)


def _settle(done: "asyncio.Future[bool]", heard: bool) -> None:  # noqa: FBT001 - a callback's argument
    if not done.done():
        done.set_result(heard)
