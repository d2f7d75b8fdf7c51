"""A caller at whom the monitor looks already, while the broker reads what is asked for.

The law:
1. The look begins when a well-formed request is there, whose writer is the process behind the pidfd: never before, and
   of nobody else. So it is no older than the question that it answers.
2. It answers one question, the first one of the issuer. The second look (issue, ``changed``) is a new one, always.
3. What it finds opens nothing: the issuer judges it as it judges any other.
"""

import asyncio
from types import TracebackType
from typing import Self

from agent_broker.identity.evidence import Freshness, Verdict
from agent_broker.issue import Caller


class FirstLook:
    """See the module: an issue.Caller. The look begins and, at the latest, ends with the ``async with`` block."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._looking: asyncio.Future[Verdict] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.ensure_future(self._caller.attest())
        await asyncio.sleep(0)  # the question is on its way when this returns
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()  # nobody asked for it: there was nothing to decide

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """See issue.Caller."""
        looking, self._looking = self._looking, None
        if looking is None or known is not None:
            if looking is not None:
                looking.cancel()
            return await self._caller.attest(known)
        return await looking
