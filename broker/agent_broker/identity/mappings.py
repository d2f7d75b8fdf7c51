"""Foreign code in a genuine process: executable mappings of files that are not root's and not the agent's.

Evidence against, never for: what is unmapped again, or was copied into anonymous memory, is not found here. A look
costs some 50 us, so a program is looked at again only ``PAUSE_NS`` after the last time; what was found once stays.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from agent_broker.errors import UnavailableError
from agent_broker.identity.agent import KnownFile
from agent_broker.identity.evidence import Principal
from agent_broker.identity.principal import Found, ScriptChecks
from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.sensor import Sensor

PAUSE_NS = 250_000_000
_REMEMBERED = 1024


class Mappings:
    """See the module. Bounded: the programs asked about least lately are looked at anew."""

    def __init__(
        self, sensor: Sensor, scripts: ScriptChecks | None, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._sensor = sensor
        self._scripts = scripts
        self._now_ns = now_ns
        self._seen: OrderedDict[tuple[ProcId, ExecId], tuple[int, tuple[str, ...]]] = OrderedDict()

    def problems_of(self, found: Found) -> tuple[str, ...]:
        """Return a sentence if foreign code is, or was, mapped into a live program that a search found."""
        tool, step = found.tool, found.step
        problems: tuple[str, ...] = ()
        if tool is not None and not tool.step.exited:
            problems = self._problems(tool.principal, tool.step.image.pid, tool.known)
        if found.principal is None or found.known is None or step is None or step.exited:
            return problems
        return (*problems, *self._problems(found.principal, step.image.pid, found.known))

    def _problems(self, principal: Principal, pid: int, known: KnownFile) -> tuple[str, ...]:
        key = (principal.proc_id, principal.exec_id)
        looked_ns, found = self._seen.get(key, (None, ()))
        if found or (looked_ns is not None and self._now_ns() - looked_ns < PAUSE_NS):
            return found
        found = self._look(pid, known)
        self._seen[key] = (self._now_ns(), found)
        self._seen.move_to_end(key)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return found

    def _look(self, pid: int, known: KnownFile) -> tuple[str, ...]:
        try:
            mapped = self._sensor.foreign_mappings(pid)
        except UnavailableError as error:
            return (f"what it has mapped can't be read: {error.message}",)
        if all(self._is_own(each, known) for each in mapped):
            return ()
        return ("it runs code from a file that is not part of the agent and not root's",)

    def _is_own(self, file: FileFacts, known: KnownFile) -> bool:
        if (file.dev, file.ino) == (known.facts.dev, known.facts.ino):
            return True
        return self._scripts is not None and self._scripts.owns(known, file.dev, file.ino)
