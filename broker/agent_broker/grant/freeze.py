"""Who gets nothing until the operator says otherwise: frozen processes with all that descends from them, and agents.

The law of this module: a freeze wins over every grant, because it is asked before the ledger is, and again after the
last ``await`` before a secret leaves. A freeze holds in memory from the moment of the call, even if the disk refuses to
keep it; it is lifted on the disk before it is lifted in memory. If more processes are frozen than the list can hold,
everything is frozen: forgetting one would be a way out.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from agent_broker.clock import Clock, SystemClock
from agent_broker.disk import replace_file, require_private
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.identity.evidence import Principal
from agent_broker.ids import AgentName, Epoch, ProcId, Uid
from agent_broker.lineage.record import Step

MAX_PROCESSES: Final = 16_384  # frozen at a time; the file has then at most 6 MB
MAX_REASON_CHARACTERS: Final = 200


class Freeze(Struct, frozen=True):
    """One freeze: of processes (``epoch`` and ``proc_ids``) or of an agent."""

    id: int
    reason: str
    since_ns: int
    """CLOCK_REALTIME."""
    epoch: Epoch | None = None
    proc_ids: tuple[ProcId, ...] = ()
    agent: AgentName | None = None
    owner_uid: Uid | None = None
    """None with an agent: of every owner."""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    freezes: tuple[Freeze, ...] = ()
    last_id: int = 0
    """The highest id ever given: a thaw by id never means a younger freeze."""
    format: Literal[1] = 1


class FreezeList:
    """All freezes, kept in one file."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        """Load the list; no file is an empty list.

        Raises:
            IntegrityError: the file is not a list of freezes, or others could have written it.
            UnavailableError: it can't be read.
        """
        self._path = path
        self._clock = clock or SystemClock()
        loaded = _load(path)
        self._last_id = loaded.last_id
        self._index(loaded.freezes)

    def freeze_processes(self, epoch: Epoch, proc_ids: Iterable[ProcId], reason: str, *, save: bool = True) -> Freeze:
        """Freeze processes and their descendants. Processes of earlier epochs are forgotten: nothing of them lives on.

        Args:
            epoch: of the numbers.
            proc_ids: the processes.
            reason: for people.
            save: False: in memory only, at once; the caller saves later.

        Returns:
            The freeze; an earlier one if that froze all of them already.

        Raises:
            UnavailableError: the disk refused; the freeze holds until this process ends.
        """
        wanted = dict.fromkeys(proc_ids)
        earlier = [self._processes.get((epoch, each)) for each in wanted]
        if earlier and earlier[0] is not None and all(each is earlier[0] for each in earlier):
            return earlier[0]
        if self._epochs - {epoch}:
            self._index([freeze for freeze in self._freezes if freeze.epoch in {None, epoch}])
        return self._add(self._new(reason, epoch=epoch, proc_ids=tuple(wanted)), save=save)

    def freeze_agent(self, agent: AgentName, owner_uid: Uid | None, reason: str) -> Freeze:
        """Freeze an agent of one owner, or (None) of all owners, over restarts and epochs. Raises as above."""
        return self._add(self._new(reason, agent=agent, owner_uid=owner_uid))

    def thaw(self, freeze_id: int) -> bool:
        """Lift one freeze; return False if there is none of this id.

        Raises:
            UnavailableError: the disk refused; the freeze stands.
        """
        return self._keep(tuple(freeze for freeze in self._freezes if freeze.id != freeze_id)) > 0

    def thaw_agent(self, agent: AgentName, owner_uid: Uid | None) -> int:
        """Lift the freezes of an agent of one owner, or (None) of every owner; return how many. Raises as ``thaw``.

        A freeze of every owner is lifted by None only.
        """

        def is_meant(freeze: Freeze) -> bool:
            return freeze.agent == agent and owner_uid in {None, freeze.owner_uid}

        return self._keep(tuple(freeze for freeze in self._freezes if not is_meant(freeze)))

    def thaw_all(self) -> int:
        """Lift every freeze; return how many. Raises as ``thaw``."""
        return self._keep(())

    def reason_for(self, steps: Sequence[Step], epoch: Epoch, principal: Principal | None) -> str | None:
        """Return why a caller is frozen, or None.

        Args:
            steps: its complete lineage.
            epoch: of the steps' numbers.
            principal: the agent that it is or descends from.
        """
        if self._is_overfull:
            return f"more than {MAX_PROCESSES} processes are frozen, so everything is: see agent-broker alerts"
        if principal is not None:
            for owner_uid in (principal.owner_uid, None):
                if freeze := self._agents.get((principal.agent, owner_uid)):
                    return freeze.reason
        for step in steps:
            if freeze := self._processes.get((epoch, step.proc_id)):
                return freeze.reason
        return None

    def list(self) -> tuple[Freeze, ...]:
        """Return all freezes, oldest first."""
        return tuple(self._freezes)

    def _new(
        self,
        reason: str,
        *,
        epoch: Epoch | None = None,
        proc_ids: tuple[ProcId, ...] = (),
        agent: AgentName | None = None,
        owner_uid: Uid | None = None,
    ) -> Freeze:
        self._last_id += 1
        since_ns = self._clock.wall_ns()
        why = reason if len(reason) <= MAX_REASON_CHARACTERS else f"{reason[: MAX_REASON_CHARACTERS - 3]}..."
        return Freeze(self._last_id, why, since_ns, epoch, proc_ids, agent, owner_uid)

    def save(self) -> None:
        """Write the list as it is in memory.

        Raises:
            UnavailableError: the disk refused; every freeze holds until this process ends.
        """
        self._save(self._freezes)

    def _add(self, freeze: Freeze, *, save: bool = True) -> Freeze:
        """Put a freeze in force; costs the same however many there are, but for the file."""
        self._freezes.append(freeze)
        self._index_one(freeze)
        if save:
            self.save()
        return freeze

    def _keep(self, kept: Sequence[Freeze]) -> int:
        lifted = len(self._freezes) - len(kept)
        if lifted:
            self._save(kept)
            self._index(kept)
        return lifted

    def _index(self, freezes: Iterable[Freeze]) -> None:
        """Let these, and no others, be in force."""
        self._freezes = [*freezes]
        self._agents: dict[tuple[AgentName, Uid | None], Freeze] = {}
        self._processes: dict[tuple[Epoch, ProcId], Freeze] = {}
        self._epochs: set[Epoch] = set()
        for each in self._freezes:
            self._index_one(each)

    def _index_one(self, freeze: Freeze) -> None:
        if freeze.agent:
            self._agents[freeze.agent, freeze.owner_uid] = freeze
        if freeze.epoch is not None:
            self._epochs.add(freeze.epoch)
            self._processes.update({(freeze.epoch, each): freeze for each in freeze.proc_ids})

    @property
    def _is_overfull(self) -> bool:
        return len(self._processes) > MAX_PROCESSES

    def _save(self, freezes: Iterable[Freeze]) -> None:
        replace_file(self._path, msgspec.json.encode(_File(tuple(freezes), self._last_id)))


def _load(path: Path) -> _File:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            require_private(path, os.fstat(fd))
            content = file.read()
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise UnavailableError(f"{path} can't be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path} is not a list of freezes: {error}",
            next_step=f"look at agent-broker alerts; if nothing must stay frozen, remove {path}",
        ) from error
