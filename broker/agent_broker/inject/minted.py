"""What the broker mints from stored secrets, kept while it is good: sessions of AWS's, tokens of Azure's.

The law of this module:
1. It lives in memory only. It is given until ``early_ns`` before its end (or half its life, if that is later), by the
   boot clock. If no new one can be had, what is left of the old one is given, to its end.
2. For each key there is one, minted once however many wait for it; no client's departure ends that. One that was
   minted from another secret is never given.
3. A secret that its server does not know (UnknownToServerError) is not sent again, until it is replaced. After any
   other failure the server is left alone for 10 seconds, and whoever asks reads why.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from msgspec import Struct

from agent_broker.clock import Clock
from agent_broker.errors import UnavailableError
from agent_broker.vault.secret import Secret

PAUSE_NS: Final = 10 * 1_000_000_000
MAX_KEPT: Final = 4096
"""Of keys; those that were asked for longest ago are minted again."""


class UnknownToServerError(UnavailableError):
    """The server says that it knows no such secret."""


class Fresh(Struct, frozen=True):
    """What was minted just now."""

    value: Secret
    ends_ns: int
    """CLOCK_BOOTTIME."""


class _State:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.source = b""
        self.fresh: Fresh | None = None
        self.due_ns = 0
        self.refused = False
        self.problem: UnavailableError | None = None
        self.not_before_ns = 0


class Minted:
    """See the module."""

    def __init__(self, clock: Clock, early_ns: int) -> None:
        """Begin empty; ``early_ns``: how long before its end nothing is given any more."""
        self._clock = clock
        self._early_ns = early_ns
        self._states: OrderedDict[Hashable, _State] = OrderedDict()
        self._running: set[asyncio.Task[Secret]] = set()

    async def get(self, key: Hashable, source: bytes, mint: Callable[[], Awaitable[Fresh]]) -> Secret:
        """Return what is kept for a key, or mint it.

        Args:
            key: all that decides what is minted, but for the secret.
            source: fingerprint of the secret.
            mint: asks the server; raises UnavailableError.

        Raises:
            UnavailableError: as ``mint``, and nothing is left of an earlier one.
        """
        state = self._states.setdefault(key, _State())
        self._states.move_to_end(key)
        while len(self._states) > MAX_KEPT:
            self._states.popitem(last=False)
        if state.fresh is not None and state.source == source and self._clock.boot_ns() < state.due_ns:
            return state.fresh.value
        task = asyncio.ensure_future(self._renew(state, source, mint))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _renew(self, state: _State, source: bytes, mint: Callable[[], Awaitable[Fresh]]) -> Secret:
        async with state.lock:
            if state.source != source:
                state.source, state.fresh, state.problem, state.refused, state.due_ns = source, None, None, False, 0
            now_ns = self._clock.boot_ns()
            if state.fresh is not None and now_ns < state.due_ns:  # another request minted meanwhile
                return state.fresh.value
            if state.problem is not None and (state.refused or now_ns < state.not_before_ns):
                return self._left(state, state.problem)
            try:
                state.fresh = await mint()
            except UnavailableError as problem:
                state.problem, state.not_before_ns = problem, self._clock.boot_ns() + PAUSE_NS
                state.refused = isinstance(problem, UnknownToServerError)
                state.fresh = None if state.refused else state.fresh
                return self._left(state, problem)
            state.problem = None
            state.due_ns = state.fresh.ends_ns - min(self._early_ns, max(0, state.fresh.ends_ns - now_ns) // 2)
            return state.fresh.value

    def _left(self, state: _State, problem: UnavailableError) -> Secret:
        if state.fresh is not None and self._clock.boot_ns() < state.fresh.ends_ns:
            return state.fresh.value
        raise UnavailableError(problem.message, next_step=problem.next_step)
