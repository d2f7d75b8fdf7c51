"""Who is served the real content, and who is told of when it was not.

The law of this module:
1. A process is looked at when it walks to the file (``look``: which of the two files it sees) and again when it opens
   it (``admit``: the whole release rule, with a durable journal entry). Who walks here again within a moment is shown
   what it was shown (``expect``); that gives it the file's size and times at most. An open always asks the monitor, and
   is decided by what the monitor said before only if that holds still.
2. Whoever can't be identified, is none of the readers, or is tainted, is a stranger: the decoy, and an alert.
3. A reader that a rule refuses, or that is frozen, gets EACCES and no decoy: it would take it for its own.
4. Each later read and write of an open file is compared with the process that opened it, which must still live, run the
   same image and be untouched (``still``). Only the kernel's numbers of it are asked for: an event that was lost once
   is no reason to refuse from then on; and nothing looks into the process, which may wait in a page fault with its
   memory locked.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from agent_broker.errors import AgentBrokerError, RefusedError
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown, Verdict
from agent_broker.identity.viewed import ViewedFile
from agent_broker.issue import VIEW, Ask, Caller, Issued, Refusals, require_identity
from agent_broker.refusals import SERVED_RULE
from agent_broker.view.process import Process
from agent_broker.view.tree import ImageKey, image_of

CHANNEL: Final = "file view"
_REMEMBERED: Final = 256
_UNASKED: Final = Unknown("the monitor answered a question that was not asked")
_MOMENT_S: Final = 1.0
"""How long a walk to a file goes by the look before it."""
_MOST_TOLD: Final = 256
"""Alerts under way; further ones are dropped while these are, since each opener is also counted by its incident."""
_LOG = logging.getLogger(__name__)


class Callers(Protocol):
    """The monitor's client."""

    def caller_by_pidfd(self, pidfd: int) -> Caller:
        """Return the process of a pidfd."""
        ...

    async def confirm(self, pidfd: int, known: Freshness) -> Verdict:
        """Return Unchanged if the process of a pidfd lives and still is what this evidence said."""
        ...


class Issuer(Protocol):
    """Who decides (issue.Issuer)."""

    async def issue(self, ask: Ask) -> Issued:
        """Give the use of a credential, or raise."""
        ...


class Look(Struct, frozen=True):
    """What one look at a process said: it is a reader if there is no refusal."""

    verdict: Evidence | Unknown
    refusal: RefusedError | None

    @property
    def image(self) -> ImageKey | None:
        """Which program image it was; None: not known."""
        return image_of(self.verdict) if isinstance(self.verdict, Evidence) else None


UNSEEN: Final = Look(
    Unknown("it is in no pid namespace that the broker can see, or is gone"),
    RefusedError("lineage", "who it is can't be seen from here"),
)


class Opener:
    """One process, as it was attested last; implements issue.Caller."""

    def __init__(self, caller: Caller, earlier: Evidence | None, first: Evidence | None = None) -> None:
        """Take what is known of it.

        Args:
            caller: asks the monitor.
            earlier: what was said of it before; given again only if the monitor says that it still holds.
            first: the answer to the first question; later ones ask the monitor whether it holds.
        """
        self.verdict: Evidence | Unknown = UNSEEN.verdict
        self._caller = caller
        self._earlier = earlier
        self._first = first

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """See issue.Caller."""
        if known is not None:
            return await self._again(known)
        if self._first is not None:
            self.verdict, self._first = self._first, None
            return self.verdict
        earlier = self._earlier
        verdict = await self._caller.attest(earlier.freshness if earlier else None)
        if isinstance(verdict, Unchanged):
            holds = earlier is not None and verdict.freshness == earlier.freshness
            verdict = earlier if holds and earlier is not None else _UNASKED
        self.verdict = verdict
        return verdict

    async def _again(self, known: Freshness) -> Verdict:
        """Ask again. Evidence made anew, since something happened to somebody, that says the same is no change."""
        verdict = await self._caller.attest(known)
        is_same = isinstance(verdict, Evidence) and isinstance(self.verdict, Evidence) and _says(verdict, self.verdict)
        return Unchanged(known) if is_same else verdict


class _Seen(Struct, frozen=True):
    """What was said of a reader, and when (the event loop's clock)."""

    evidence: Evidence
    at_s: float


class Gate:
    """See the module."""

    def __init__(self, callers: Callers, issuer: Issuer, refusals: Refusals) -> None:
        self._callers = callers
        self._issuer = issuer
        self._refusals = refusals
        self._telling: set[asyncio.Task[None]] = set()
        self._readers: OrderedDict[int, _Seen] = OrderedDict()
        """What was said of a process; nothing is opened by that unless the monitor, asked again, says that it holds."""

    async def look(self, process: Process, viewed: ViewedFile) -> Look:
        """Return what is known of a process."""
        opener = self._opener(process)
        await opener.attest()
        verdict = opener.verdict
        refusal = _refusal_of(verdict, viewed)
        if refusal is not None or not isinstance(verdict, Evidence):
            self._readers.pop(_number(process), None)
            return Look(verdict, refusal)
        self._remember(process, verdict)
        return Look(verdict, None)

    def expect(self, process: Process, viewed: ViewedFile) -> ImageKey | None:
        """Return which image a reader ran when it was looked at a moment ago; None: it was not, so ``look``."""
        evidence = self._just_seen(process)
        return None if evidence is None or _refusal_of(evidence, viewed) is not None else image_of(evidence)

    def _just_seen(self, process: Process) -> Evidence | None:
        seen = None if process.key is None else self._readers.get(process.key)
        if seen is None or asyncio.get_running_loop().time() - seen.at_s > _MOMENT_S:
            return None
        return seen.evidence

    def _remember(self, process: Process, evidence: Evidence) -> None:
        number = _number(process)
        self._readers[number] = _Seen(evidence, asyncio.get_running_loop().time())
        self._readers.move_to_end(number)
        while len(self._readers) > _REMEMBERED:
            self._readers.popitem(last=False)

    def _opener(self, process: Process, first: Evidence | None = None) -> Opener:
        earlier = self._readers.get(_number(process))
        caller = self._callers.caller_by_pidfd(process.pidfd)
        return Opener(caller, None if earlier is None else earlier.evidence, first)

    async def admit(self, process: Process, viewed: ViewedFile) -> tuple[Issued, Evidence]:
        """Give the use of the content. Who is refused is told of.

        Raises:
            RefusedError, UnavailableError, IntegrityError: see Issuer.
        """
        opener = self._opener(process, self._just_seen(process))
        self._readers.pop(_number(process), None)  # if this fails, who walks here next is looked at
        issued = await self._issuer.issue(_ask(opener, viewed))
        if isinstance(opener.verdict, Unknown):  # can't be: it was issued
            raise RefusedError("lineage", opener.verdict.reason)
        self._remember(process, opener.verdict)
        return issued, opener.verdict

    async def still(self, process: Process, known: Freshness) -> bool:
        """Whether a process is what it was."""
        return isinstance(await self._callers.confirm(process.pidfd, known), Unchanged)

    def tell(self, look: Look, viewed: ViewedFile, did: str, *, served: bool = False) -> None:
        """Raise the alert for a stranger who was looked at, soon; ``served``: it got the decoy."""
        self._run(self._tell(look, viewed, did, SERVED_RULE if served else "view"))

    def tell_of(self, process: Process, viewed: ViewedFile, did: str) -> None:
        """Look at a stranger, and raise the alert, soon; the process stays the caller's to close."""
        kept = _kept(process)
        if not self._run(self._look_and_tell(kept, viewed, did)):
            kept.close()

    async def close(self) -> None:
        """Tell what is under way."""
        while self._telling:
            await asyncio.gather(*self._telling, return_exceptions=True)

    async def _look_and_tell(self, process: Process, viewed: ViewedFile, did: str) -> None:
        with process:
            await self._tell(await self.look(process, viewed), viewed, did, "view")

    async def _tell(self, look: Look, viewed: ViewedFile, did: str, rule: str) -> None:
        why = "" if look.refusal is None else f"; {look.refusal.message}"
        refusal = RefusedError(rule, f"it {did} {viewed.absolute}{why}")
        try:
            await self._refusals.refused(_ask(_Known(look.verdict), viewed), refusal, look.verdict)
        except AgentBrokerError as error:
            _LOG.error("%s", error.explain())

    def _run(self, telling: Coroutine[None, None, None]) -> bool:
        if len(self._telling) >= _MOST_TOLD:
            telling.close()
            return False
        task = asyncio.get_running_loop().create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return True


class _Known:
    """A caller who was looked at; implements issue.Caller."""

    def __init__(self, verdict: Evidence | Unknown) -> None:
        self._verdict = verdict

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """See issue.Caller."""
        del known
        return self._verdict


def _number(process: Process) -> int:
    """Return the number that a process is remembered by; an older kernel's (below 0) may be another one's later."""
    return -process.tgid if process.key is None else process.key


def _kept(process: Process) -> Process:
    return Process(process.tgid, os.dup(process.pidfd))


def _refusal_of(verdict: Evidence | Unknown, viewed: ViewedFile) -> RefusedError | None:
    try:
        require_identity(verdict, viewed.content_id, VIEW, readers=viewed.readers)
    except RefusedError as refusal:
        return refusal
    return None


def _says(one: Evidence, other: Evidence) -> bool:
    """Whether the same is said: of who started whom only the numbers count, not who has ended since."""
    numbers = [[(step.proc_id, step.image.exec_id) for step in each.steps] for each in (one, other)]
    return numbers[0] == numbers[1] and msgspec.structs.replace(one, steps=()) == msgspec.structs.replace(
        other, steps=()
    )


def _ask(caller: Caller, viewed: ViewedFile) -> Ask:
    return Ask(caller, viewed.content_id, VIEW, CHANNEL, readers=viewed.readers, about=viewed.absolute)
