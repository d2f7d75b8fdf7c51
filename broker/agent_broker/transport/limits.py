"""What agent.sock gives away at most."""

from msgspec import Struct

from agent_broker.admission.places import Shares


class Limits(Struct, frozen=True):
    """Of one socket. Each connection holds up to three descriptors."""

    connections: int = 256
    per_uid: int = 128
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
