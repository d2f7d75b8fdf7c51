"""What agent.sock gives away at most."""

from msgspec import Struct

from agent_broker.admission.places import Shares


class Limits(Struct, frozen=True):
    """Of one socket. Each connection holds up to three descriptors."""

    connections: int = 384
    per_uid: int = 192
    """More than may wait for the monitor (monitor.turns: AT_ONCE, WAITING and MAX_LONG): a newcomer finds a place."""
    suspects_per_uid: int = 64
    """Of those, for processes that were refused lately."""
    per_process: int = 8
    """A shim has one."""
    idle_s: float = 2.0
    """From accept to a whole request."""
    answer_s: float = 1.8
    """For the handler; below the 2 s after which a shim gives up, so that it hears why."""

    @property
    def shares(self) -> Shares:
        """The places among these numbers."""
        return Shares(self.connections, self.per_uid, self.suspects_per_uid, self.per_process)
