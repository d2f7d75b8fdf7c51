"""The attestor of a host without BPF: it knows nobody, and says why. Nothing is ever released; decoys still alert."""

from agent_broker.identity.evidence import Freshness, Unknown, Verdict
from agent_broker.ids import ProcId
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Step


class BlindAttestor:
    """Stands where identity.attest.Attestor would."""

    def __init__(self, problem: str) -> None:
        self._unknown = Unknown(
            f"the kernel side is not loaded: {problem}", next_step="agent-broker doctor says what is missing"
        )

    async def attest(self, _pidfd: int, _known: Freshness | None = None) -> Verdict:
        """Return Unknown."""
        return self._unknown

    async def attest_socket(self, _inode: int, _known: Freshness | None = None) -> Verdict:
        """Return Unknown."""
        return self._unknown

    def attest_now(self, _pidfd: int, _known: Freshness | None = None) -> Verdict | None:
        """Return Unknown."""
        return self._unknown

    def attest_socket_now(self, _inode: int, _known: Freshness | None = None) -> Verdict | None:
        """Return Unknown."""
        return self._unknown

    def other_end_of(self, _inode: int) -> int:
        """Return 0: it is not known."""
        return 0

    def parents_of(self, _pidfd: int) -> tuple[ProcId, ...]:
        """Return nothing: it is not known."""
        return ()

    def recheck_now(self, _known: Freshness) -> Verdict | None:
        """Return Unknown."""
        return self._unknown

    async def recheck(self, _known: Freshness) -> Verdict:
        """Return Unknown."""
        return self._unknown

    def confirm_now(self, _pidfd: int, _known: Freshness) -> Verdict | None:
        """Return Unknown."""
        return self._unknown

    async def confirm(self, _pidfd: int, _known: Freshness) -> Verdict:
        """Return Unknown."""
        return self._unknown

    def snapshot(self, _pidfd: int) -> TaskRecord | None:
        """Return None: there are no records."""
        return None

    def recall(self, _record: TaskRecord) -> Verdict:
        """Return Unknown."""
        return self._unknown

    def describe(self, _pid: int) -> tuple[tuple[Step, ...], str]:
        """Return no steps."""
        return (), self._unknown.reason
