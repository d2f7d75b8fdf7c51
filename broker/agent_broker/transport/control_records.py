"""What the control plane says about the broker itself; other records have their home where they are made."""

from msgspec import Struct

from agent_broker.audit.sinks.port import SinkStatus
from agent_broker.ids import AgentName, Pid, Uid
from agent_broker.monitor.messages import MonitorStatus


class DaemonStatus(Struct, frozen=True):
    """How is the broker, and what does it hear from the monitor? Holds no secret."""

    version: str
    pid: Pid
    uid: Uid
    """Whom the broker runs as."""
    started_ns: int
    """CLOCK_REALTIME."""
    root_key: str
    """Where the vault's root key is kept and what that means, one sentence."""
    peer_method: str
    """How the writer of a message is found: ``SCM_PIDFD`` or weaker."""
    inject_endpoint: str
    """``127.0.0.1:917``."""
    agents: int
    credentials: int
    policy_rules: int
    grants_live: int
    frozen: int
    monitor: MonitorStatus | None
    """None: the monitor does not answer, and nothing is released."""
    problems: tuple[str, ...]
    """Sentences; empty: none known."""
    incidents_in_work: int = 0
    """The broker's own, and the monitor's that it took, which are not in the alert log yet."""
    sinks: tuple[SinkStatus, ...] = ()
    """Where alerts go besides the broker's own log."""


class Thawed(Struct, frozen=True):
    """What a thaw came to."""

    freezes: int
    """That were undone."""
    continued: int = 0
    """Processes that the monitor had stopped (monitor.halt), and that go on."""
    out_of_reach: int = 0
    """Processes of an earlier monitor, or while none answers: if they were stopped, they still are."""


class Missed(Struct, frozen=True):
    """A follower was too slow: so many incidents went by. They are in the log."""

    count: int


class ProcessTarget(Struct, frozen=True):
    """A live process and what descends from it."""

    pid: Pid


class AgentTarget(Struct, frozen=True):
    """An enrolled agent."""

    agent: AgentName
    owner_uid: Uid | None = None
    """None: of every user."""


class OneFreeze(Struct, frozen=True):
    """A freeze by its number."""

    freeze_id: int


class Everything(Struct, frozen=True):
    """All freezes."""


FreezeTarget = ProcessTarget | AgentTarget
ThawTarget = OneFreeze | AgentTarget | Everything


class AlertFilter(Struct, frozen=True):
    """Which alerts a reader wants; the defaults want all."""

    since_ns: int = 0
    """Whose last event is not older, CLOCK_REALTIME."""
    min_severity: str = "info"
    kind: str = ""
    """Empty: every kind."""
    hide_acked: bool = False
    """Leave out what was acknowledged and did not grow in severity since."""


class Acknowledgement(Struct, frozen=True):
    """What a person says about an alert."""

    alert: str
    """An id or the first letters of one."""
    reason: str
    uid: Uid
    """Who says so."""
    allowed: str = ""
    """The program that is allowed with it; empty: none."""
    expires_ns: int = 0
    """When that ends, CLOCK_REALTIME; 0: never, or nothing was allowed."""


ALL_ALERTS = AlertFilter()
