"""What the broker makes of the monitor's answers: a verdict, whatever happened, or an error of ours."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.evidence import Unknown, Verdict
from agent_broker.monitor.messages import Answer, Rejected, VerdictAnswer

DOWN: Final = Unknown("the monitor does not answer", next_step="start it: sudo agent-broker monitor")

_Kind = TypeVar("_Kind")


class AskedAhead:
    """A question that is under way; nobody needs to wait for its answer."""

    def __init__(self, answer: asyncio.Future[Answer]) -> None:
        self._answer = answer
        answer.add_done_callback(_is_noted)

    async def verdict(self) -> Verdict:
        """Return the answer; Unknown if the monitor gives none."""
        return await verdict_in(self._answer)


def expect(answer: Answer, kind: type[_Kind]) -> _Kind:
    """Return an answer if it is of the kind that was asked for.

    Raises:
        MisuseError: the monitor refused the question.
        UnavailableError: it is another.
    """
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, Rejected):
        raise MisuseError(f"the monitor refused: {answer.reason}")
    raise UnavailableError("the monitor gave another answer than was asked for")


async def verdict_in(answer: Awaitable[Answer]) -> Verdict:
    """Return the verdict that an answer holds; Unknown if none came."""
    try:
        return expect(await answer, VerdictAnswer).verdict
    except UnavailableError:
        return DOWN


def down() -> UnavailableError:
    """Return the error of a monitor that does not answer."""
    return UnavailableError(DOWN.reason, next_step=DOWN.next_step)


def _is_noted(answer: asyncio.Future[Answer]) -> None:
    """An answer that nobody waits for may be an error: asyncio shall not complain of it."""
    if not answer.cancelled():
        answer.exception()
