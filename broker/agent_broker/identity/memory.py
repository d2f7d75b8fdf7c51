"""What was found about a process, so that whether it still holds is told without walking its lineage again.

A lineage's past does not change; what can change about an answer is asked each time: whether anybody on any lineage was
taken hold of since, whether the enrolments are the same, whether the principal's script and mappings are. Only
clean evidence is remembered: everything else is judged anew.
"""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.evidence import Evidence, Freshness
from agent_broker.identity.mappings import Mappings
from agent_broker.identity.principal import Found, PrincipalSearch, ScriptVerdict
from agent_broker.lineage.record import Step

_REMEMBERED = 4096


class _Entry(Struct, frozen=True):
    found: Found
    agents: AgentTable
    touches: int
    """Of the attestor, before it looked."""


class Memory:
    """See the module. Bounded, oldest out."""

    def __init__(self, search: PrincipalSearch, mappings: Mappings, touches: Callable[[], int]) -> None:
        self._search = search
        self._mappings = mappings
        self._touches = touches
        self._entries: OrderedDict[Freshness, _Entry] = OrderedDict()

    def remember(self, evidence: Evidence, found: Found, agents: AgentTable, touches: int) -> None:
        """Keep how evidence was found, if it is clean."""
        if evidence.taints:
            self._entries.pop(evidence.freshness, None)
            return
        self._entries[evidence.freshness] = _Entry(found, agents, touches)
        self._entries.move_to_end(evidence.freshness)
        while len(self._entries) > _REMEMBERED:
            self._entries.popitem(last=False)

    def still_holds(self, known: Freshness, agents: AgentTable) -> bool:
        """Tell whether remembered evidence would be the same now; its caller has the numbers that it had then."""
        entry = self._entries.get(known)
        if entry is None or entry.agents is not agents or entry.touches != self._touches():
            return False
        return self._script_holds(entry.found) and not self._mappings.problems_of(entry.found)

    def _script_holds(self, found: Found) -> bool:
        tool = found.tool
        if tool is not None and not self._is_genuine(tool.step, tool.known):
            return False
        return found.known is None or found.step is None or self._is_genuine(found.step, found.known)

    def _is_genuine(self, step: Step, known: KnownFile) -> bool:
        return self._search.script_of(step.image, self._search.captured(step.image), known) == ScriptVerdict(
            genuine=True
        )
