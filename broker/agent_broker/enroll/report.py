"""What a transaction did, for people."""

from dataclasses import dataclass

from agent_broker.ids import AgentName


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    file: str
    """Absolute."""
    what: str


@dataclass(frozen=True)
class Report:
    """The end of a transaction. Holds no secret."""

    agent: AgentName
    owner_name: str
    summary: str
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...]
