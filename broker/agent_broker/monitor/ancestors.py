"""The hashes of the programs that an offender descends from, as far as they can be had before its incident is told.

What was hashed before is known at once. Of the others, those that still run are hashed, AT_ONCE of them at most, and
nobody waits for it longer than DEADLINE_S; each file is tried once, and what is finished later the next incident has.
Whose file it is, the kernel's record of its exec says (monitor.fingerprint), never its pid alone. For display: nothing
is decided by it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Step
from agent_broker.monitor.fingerprint import Fingerprints, hold

AT_ONCE = 8  # of one lineage; each holds a descriptor
DEADLINE_S = 0.25
_REMEMBERED = 4096  # files that were tried


class Ancestors:
    """See the module. Lives in the monitor's event loop."""

    def __init__(self, fingerprints: Fingerprints) -> None:
        self._fingerprints = fingerprints
        self._tried: OrderedDict[FileFacts, None] = OrderedDict()

    def named(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return a lineage with every hash that is known."""
        return tuple(self._named(step) for step in steps)

    def is_done(self, steps: tuple[Step, ...]) -> bool:
        """Whether ``look`` has nothing to do for a lineage."""
        return not any(True for _ in self._unknown(steps))

    async def look(self, steps: tuple[Step, ...]) -> None:
        """Hash what is not known, as far as there is time; never raises for what a file or an attacker does."""
        looks = []
        for step in list(self._unknown(steps))[:AT_ONCE]:
            self._tried[step.image.file] = None
            looks.append(asyncio.ensure_future(self._fingerprints.of(hold(step.image.pid), step.image.file, steps)))
        while len(self._tried) > _REMEMBERED:
            self._tried.popitem(last=False)
        if looks:
            await asyncio.wait(looks, timeout=DEADLINE_S)

    def _unknown(self, steps: tuple[Step, ...]) -> Iterable[Step]:
        seen: set[FileFacts] = set()
        for step in steps[1:]:  # the offender's own hash has its own care and its own deadline
            file = step.image.file
            if step.exited or file in self._tried or file in seen or self._fingerprints.known(file) is not None:
                continue
            seen.add(file)
            yield step

    def _named(self, step: Step) -> Step:
        known = self._fingerprints.known(step.image.file)
        return step if known is None else msgspec.structs.replace(step, sha256=known.sha256)
