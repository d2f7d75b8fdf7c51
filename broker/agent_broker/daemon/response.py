"""What the broker does against an offender besides the freeze itself: it says so, and lets go on who is thawed."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from msgspec import structs

from agent_broker.errors import AgentBrokerError
from agent_broker.grant.freeze import Freeze, FreezeList
from agent_broker.grant.ledger import Grant, Ledger
from agent_broker.ids import Epoch, ProcId
from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.incident import NO_EPOCH, Incident

_REMEMBERED = 4096  # critical incidents of which it is known whom they froze
_NAMED = 4  # credentials, or freezes, in a clause


class Responses:
    """Freezes offenders, each once for an incident: a later revision freezes who is new in it.

    Nobody is frozen anew by a revision whom the operator has thawed meanwhile. A broker that was restarted does not
    know who was, and freezes again.
    """

    def __init__(self, frozen: FreezeList, ledger: Ledger) -> None:
        self._frozen = frozen
        self._ledger = ledger
        self._done: OrderedDict[str, tuple[frozenset[ProcId], str]] = OrderedDict()

    def to(self, incident: Incident) -> tuple[Incident, bool]:
        """Freeze a critical incident's offenders; return it with all that was done, and whether to save the freezes."""
        known, said = self._done.get(incident.id, (frozenset(), ""))
        is_held = incident.severity == "critical" and incident.epoch != NO_EPOCH  # numbers of no epoch name nobody
        offenders = [each for each in incident.offenders if each not in known and is_held]
        if offenders:
            ended = self._ledger.end_for(offenders)
            freeze = self._frozen.freeze_processes(incident.epoch, offenders, incident.what, save=False)
            said = "; ".join(filter(None, (said, response_to(freeze, ended))))
            self._done[incident.id] = (known | frozenset(offenders), said)
            self._done.move_to_end(incident.id)
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)
        response = "; ".join(filter(None, (incident.response, said)))
        return structs.replace(incident, response=response), bool(offenders)

    def state_of_grants(self, incident: Incident) -> str:
        """Return what an incident's lineage, and its agent, still may use now, and what is frozen: a clause."""
        lineage = {step.proc_id for step in incident.lineage} | set(incident.offenders)
        live = self._ledger.live()
        theirs = [each for each in live if each.holder.epoch == incident.epoch and each.holder.proc_id in lineage]
        parts = [f"{_counted(theirs)} held in its lineage"] if lineage else []
        if incident.agent:
            parts.append(f"{_counted([each for each in live if each.agent == incident.agent])} of {incident.agent}")
        if not parts:
            parts.append(f"{_counted(live)} in all")
        return "; ".join([*parts, self._frozen_clause(incident)])

    def _frozen_clause(self, incident: Incident) -> str:
        freezes = [
            str(freeze.id)
            for freeze in self._frozen.list()
            if (freeze.epoch == incident.epoch and not set(freeze.proc_ids).isdisjoint(incident.offenders))
            or (freeze.agent is not None and freeze.agent == incident.agent)
        ]
        return f"frozen by freeze {', '.join(freezes[:_NAMED])}" if freezes else "nobody of it is frozen"


def _counted(grants: Sequence[Grant]) -> str:
    """Return how many grants are live, and of what the first ones are."""
    if not grants:
        return "no live grant"
    named = list(dict.fromkeys(f"{each.credential} ({each.mode})" for each in grants))
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    count = "1 live grant" if len(grants) == 1 else f"{len(grants)} live grants"
    return f"{count}, for {', '.join(named[:_NAMED])}{more},"


def response_to(freeze: Freeze, ended: int) -> str:
    """Return the sentence of a freeze of processes and of the grants that ended with it."""
    count = len(freeze.proc_ids)
    processes = "1 process" if count == 1 else f"{count} processes"
    grants = {0: "no grant was live", 1: "1 grant ended"}.get(ended, f"{ended} grants ended")
    return f"frozen: {processes}, {grants}; undo: sudo agent-broker thaw {freeze.id}"


async def let_go_on(monitor: MonitorClient, before: Iterable[Freeze], after: Iterable[Freeze]) -> tuple[int, int]:
    """Have the monitor continue what it stopped and no freeze holds any more.

    Returns:
        How many it continued, and of how many processes it can't say: it is down, or was started since.
    """
    held = {(freeze.epoch, each) for freeze in after for each in freeze.proc_ids}
    freed: dict[Epoch, dict[ProcId, None]] = {}
    for freeze in before:
        if freeze.epoch is not None:
            mine = freed.setdefault(freeze.epoch, {})
            mine.update((each, None) for each in freeze.proc_ids if (freeze.epoch, each) not in held)
    continued = out_of_reach = 0
    for epoch, proc_ids in freed.items():
        try:
            is_its_own = bool(proc_ids) and (await monitor.status()).epoch == epoch
            continued += await monitor.let_go_on(epoch, proc_ids) if is_its_own else 0
        except AgentBrokerError:
            is_its_own = False
        out_of_reach += 0 if is_its_own else len(proc_ids)
    return continued, out_of_reach
