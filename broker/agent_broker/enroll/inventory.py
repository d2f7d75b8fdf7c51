"""The inventory of a home: which agents and credentials are in it. Read-only, and without a value in it.

All that is looked at below the home is looked at by a process with the user's rights (inventory_process). Whatever a
hostile home does to it, this side ends: an answer comes within ``SILENCE_S``, or what was found so far counts and the
inventory is incomplete.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from agent_broker.enroll.framing import receive, send
from agent_broker.enroll.inventory_protocol import (
    AgentSighting,
    Answer,
    Busy,
    Finished,
    Found,
    Limits,
    NotStarted,
    Order,
    Sighting,
)
from agent_broker.enroll.other_process import end_at_once, start
from agent_broker.enroll.owner import Owner
from agent_broker.errors import UnavailableError
from agent_broker.monitor.catalogue import Catalogue

SILENCE_S = 20.0
"""Far above the second between two signs of life, also on a machine that is busy."""
_BELOW_HOME = "~/"
STOPPED = "the process that looks as the user stopped answering"

_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


@dataclass(frozen=True)
class Knowledge:
    """What the caller knows of a home before it is looked at."""

    decoys: tuple[str, ...] = ()
    """Absolute paths that must not be opened."""
    watched: bool = False
    """The monitor watches its credential paths."""
    hidden_decoys: bool = False
    """There may be decoys that the caller can't learn of."""
    variables: frozenset[str] = frozenset()
    """Names that hold a credential, besides those that are known by themselves."""
    machine: bool = False
    """It is no home, but the machine's ``/etc``."""


@dataclass
class Inventory:
    """What was found in one home."""

    owner: Owner
    credentials: list[Sighting] = field(default_factory=list)
    agents: list[AgentSighting] = field(default_factory=list)
    entries: int = 0
    missed: dict[str, int] = field(default_factory=dict)
    """Reason: how many files and folders were not looked at."""

    def take(self, answer: Answer) -> bool:
        """Note an answer; True: it was the last."""
        if isinstance(answer, Found):
            self.credentials += answer.credentials
            self.agents += answer.agents
        elif isinstance(answer, Busy):
            self.entries = answer.entries
        elif isinstance(answer, NotStarted):
            self.missed = {f"the home can't be looked at: {answer.why}": 1}
        else:
            self.entries, self.missed = answer.entries, answer.missed
        return isinstance(answer, Finished | NotStarted)


def take_inventory(  # noqa: PLR0913 - what is known of a home, named arguments only
    owner: Owner,
    catalogue: Catalogue,
    *,
    knowledge: Knowledge,
    become: bool,
    phantom_prefix: str,
    search_path: Iterable[str] = (),
    programs: bool = True,
    bus: str | None = None,
    limits: Limits | None = None,
    on_entries: Callable[[int], None] | None = None,
    silence_s: float = SILENCE_S,
) -> Inventory:
    """Look at a home.

    Args:
        owner: whose.
        catalogue: where credentials lie.
        knowledge: what must not be opened, and what else counts.
        become: True: this process is root, and the other one becomes the owner; False: it is the owner.
        phantom_prefix: how a phantom begins.
        search_path: folders of programs, besides the usual ones.
        programs: whether agents' programs are looked for, too.
        bus: the socket of the user's session bus; None: where logind puts it.
        limits: what may be spent on it; None: the default.
        on_entries: told how many files and folders were looked at.
        silence_s: how long an answer may take.

    Raises:
        UnavailableError: the process could not be started.
    """
    order = Order(
        *(owner.uid, owner.gid, owner.groups, owner.home, become),
        skip=knowledge.decoys,
        watched=knowledge.watched,
        hidden_decoys=knowledge.hidden_decoys,
        patterns=_patterns(catalogue),
        search_path=tuple(path for path in search_path if path.startswith("/")),
        phantom_prefix=phantom_prefix,
        programs=programs,
        bus=f"/run/user/{owner.uid}/bus" if bus is None else bus,
        variables=knowledge.variables,
        machine=knowledge.machine,
        limits=limits or Limits(),
    )
    return _carried_out(order, Inventory(owner), on_entries, silence_s)


def _patterns(catalogue: Catalogue) -> tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]:
    return tuple(
        (entry.pattern.removeprefix(_BELOW_HOME), entry.holds, entry.agents, entry.but_not)
        for entry in catalogue.path
        if entry.pattern.startswith(_BELOW_HOME)
    )


def _carried_out(
    order: Order, found: Inventory, on_entries: Callable[[int], None] | None, silence_s: float
) -> Inventory:
    ours, theirs = socket.socketpair()
    ours.settimeout(silence_s)
    with ours:
        process = start("agent_broker.enroll.inventory_process", theirs)
        try:
            return _collect(ours, order, found, on_entries)
        finally:
            ours.close()
            end_at_once(process)


def _collect(
    channel: socket.socket, order: Order, found: Inventory, on_entries: Callable[[int], None] | None
) -> Inventory:
    try:
        send(channel, order)
        while (frame := receive(channel)) is not None:
            if found.take(_ANSWERS.decode(frame)):
                return found
            if on_entries is not None:
                on_entries(found.entries)
    except (OSError, msgspec.DecodeError, UnavailableError):  # stopped, killed, or hung on what the user mounted
        found.missed[STOPPED] = 1
        return found
    found.missed[STOPPED] = 1
    return found
