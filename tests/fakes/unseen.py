"""A caller of whom the monitor says nothing, for tests in which somebody else decides."""

from agent_broker.identity.evidence import Freshness, Unknown, Verdict


class UnseenCaller:
    """Whoever is behind this pidfd."""

    def __init__(self, pidfd: int) -> None:
        self.pidfd = pidfd

    async def attest(self, _known: Freshness | None = None) -> Verdict:
        """See issue.Caller."""
        return Unknown("nobody looks here")
