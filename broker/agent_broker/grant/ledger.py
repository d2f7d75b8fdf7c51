"""Who holds the use of which credential until when: a table in memory that forgets by itself.

The law of this module: a grant is worth nothing by itself. It is looked for after the caller was attested and after
``FreezeList.reason_for`` found nothing, and it ends with its lease (boot time, so that setting the clock moves
nothing), with its holder's next exec (another holder), with the monitor's epoch, or by ``end_for``. A grant that was
forgotten early costs the holder a new decision, never more; so the table may be bounded.
"""

import uuid
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.clock import Clock
from agent_broker.ids import AgentName, CredentialId, Epoch, ExecId, ProcId, Uid

MAX_GRANTS: Final = 16_384
SWEEP_NS: Final = 60_000_000_000  # how often the ended are swept out, at most
_SECOND_NS: Final = 1_000_000_000
_WINDOW_S: Final = 60


class Holder(Struct, frozen=True):
    """One image of one process in one run of the monitor."""

    epoch: Epoch
    proc_id: ProcId
    exec_id: ExecId


class Grant(Struct, frozen=True):
    """The use of one credential in one mode, as it was when this was returned."""

    id: str
    holder: Holder
    agent: AgentName
    owner_uid: Uid
    credential: CredentialId
    mode: str
    issued_ns: int
    """CLOCK_BOOTTIME."""
    expires_ns: int
    """CLOCK_BOOTTIME; not alive from this moment on."""
    uses: int
    """1 when it was issued."""


_Key = tuple[Holder, CredentialId, str]
_Counted = tuple[AgentName, Uid, CredentialId]


class Ledger:
    """All live grants, and how often each credential was used in the last minute."""

    def __init__(self, clock: Clock) -> None:
        """Begin empty."""
        self._clock = clock
        self._grants: dict[_Key, Grant] = {}
        self._uses: dict[_Counted, deque[list[int]]] = {}
        """(second, uses) of the last minute, oldest first; never empty."""
        self._next_sweep_ns = clock.boot_ns() + SWEEP_NS

    def find(self, holder: Holder, credential: CredentialId, mode: str) -> Grant | None:
        """Return the live grant of exactly this holder, credential and mode."""
        grant = self._grants.get((holder, credential, mode))
        return grant if grant is not None and self._clock.boot_ns() < grant.expires_ns else None

    def add(  # noqa: PLR0913 - one record, named arguments only
        self,
        holder: Holder,
        *,
        agent: AgentName,
        owner_uid: Uid,
        credential: CredentialId,
        mode: str,
        lease_ns: int,
    ) -> Grant:
        """Issue a grant, in place of an earlier one for the same, and count its first use."""
        now_ns = self._clock.boot_ns()
        if now_ns >= self._next_sweep_ns or len(self._grants) >= MAX_GRANTS:
            self._sweep(now_ns)
        grant = Grant(uuid.uuid4().hex, holder, agent, owner_uid, credential, mode, now_ns, now_ns + lease_ns, 1)
        self._grants[holder, credential, mode] = grant
        self._count(grant, now_ns)
        return grant

    def use(self, grant: Grant) -> Grant:
        """Count one more use of a grant that ``find`` returned; return it as it is now."""
        key = (grant.holder, grant.credential, grant.mode)
        held = self._grants.get(key)
        if held is not None and held.id == grant.id:
            grant = held  # with the uses that others counted meanwhile
        used = msgspec.structs.replace(grant, uses=grant.uses + 1)
        if held is grant:
            self._grants[key] = used
        self._count(grant, self._clock.boot_ns())
        return used

    def end_for(self, proc_ids: Iterable[ProcId]) -> int:
        """End all grants of these processes; return how many."""
        ended = set(proc_ids)
        return self._end([key for key in self._grants if key[0].proc_id in ended])

    def end_for_agent(self, agent: AgentName, owner_uid: Uid | None) -> int:
        """End all grants of an agent, of one owner or (None) of all; return how many."""
        return self._end(
            [
                key
                for key, grant in self._grants.items()
                if grant.agent == agent and owner_uid in {None, grant.owner_uid}
            ]
        )

    def uses_last_minute(self, agent: AgentName, owner_uid: Uid, credential: CredentialId) -> int:
        """Return the uses in the last 60 s; what is up to 1 s older may be counted too."""
        window = self._uses.get((agent, owner_uid, credential), ())
        oldest = self._clock.boot_ns() // _SECOND_NS - _WINDOW_S
        return sum(uses for second, uses in window if second >= oldest)

    def live(self) -> tuple[Grant, ...]:
        """Return all live grants, oldest first."""
        self._sweep(self._clock.boot_ns())
        return tuple(sorted(self._grants.values(), key=lambda grant: grant.issued_ns))

    def _count(self, grant: Grant, now_ns: int) -> None:
        window = self._uses.setdefault((grant.agent, grant.owner_uid, grant.credential), deque(maxlen=_WINDOW_S + 1))
        second = now_ns // _SECOND_NS
        if window and window[-1][0] == second:
            window[-1][1] += 1
        else:
            window.append([second, 1])

    def _end(self, keys: list[_Key]) -> int:
        for key in keys:
            del self._grants[key]
        return len(keys)

    def _sweep(self, now_ns: int) -> None:
        """Forget what ended, and if all is alive, the sixteenth that would end first."""
        self._next_sweep_ns = now_ns + SWEEP_NS
        self._end([key for key, grant in self._grants.items() if grant.expires_ns <= now_ns])
        if len(self._grants) >= MAX_GRANTS:
            by_end = sorted(self._grants, key=lambda key: self._grants[key].expires_ns)
            self._end(by_end[: MAX_GRANTS // 16])
        oldest = now_ns // _SECOND_NS - _WINDOW_S
        for key in [key for key, window in self._uses.items() if window[-1][0] < oldest]:
            del self._uses[key]
