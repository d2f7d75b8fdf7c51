"""A look that is begun before it is asked for answers one question, and nobody else's."""

import asyncio

from agent_broker.identity.evidence import Freshness, Unchanged, Unknown
from agent_broker.transport.first_look import FirstLook

KNOWN = Freshness("epoch", 1, 1, 0)


class Watched:
    """A caller that is looked at as often as somebody asks; each look is another one."""

    def __init__(self):
        self.looks = []
        self.ended = []
        self.may_end = asyncio.Event()

    async def attest(self, known=None):
        number = len(self.looks)
        self.looks.append(known)
        try:
            await self.may_end.wait()
        finally:
            self.ended.append(number)
        return Unknown(f"look {number}") if known is None else Unchanged(known)


async def test_the_look_is_under_way_before_anybody_asks():
    caller = Watched()
    async with FirstLook(caller) as first:
        assert caller.looks == [None]
        caller.may_end.set()
        assert await first.attest() == Unknown("look 0")
    assert caller.looks == [None]


async def test_the_second_question_is_another_look():
    caller = Watched()
    caller.may_end.set()
    async with FirstLook(caller) as first:
        await first.attest()
        assert await first.attest(KNOWN) == Unchanged(KNOWN)
        assert await first.attest() == Unknown("look 2")
    assert caller.looks == [None, KNOWN, None]


async def test_a_question_about_what_is_known_is_never_answered_by_the_first_look():
    caller = Watched()
    async with FirstLook(caller) as first:
        caller.may_end.set()
        assert await first.attest(KNOWN) == Unchanged(KNOWN)
        assert await first.attest() == Unknown("look 2")


async def test_a_look_that_nobody_asked_for_ends_with_the_question():
    caller = Watched()
    async with FirstLook(caller):
        pass
    await asyncio.sleep(0)
    assert caller.ended == [0]


async def test_who_leaves_while_it_is_looked_at_ends_the_look():
    caller = Watched()

    async def ask():
        async with FirstLook(caller) as first:
            await first.attest()

    asking = asyncio.create_task(ask())
    while not caller.looks:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert caller.ended == [0]
