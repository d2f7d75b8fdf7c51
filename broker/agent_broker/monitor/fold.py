"""Many events, one incident: what one lineage does again is counted, told at a bounded rate, and never dropped.

The law:
1. Every event that ``add`` took is in the count of exactly one incident, and an incident's last telling has its whole
   count. Nothing is dropped; what is over a bound is folded more coarsely.
2. An incident is one kind, action and deed of one line (monitor.lines), and it is told at once when it begins.
3. Its severity never falls. When it grows the incident is told again at once, with what the worse event says.
4. Repeats are told by a higher revision of the same id: at the earliest FIRST_WAIT_S after the last telling, twice as
   long after each further one, up to LONGEST_WAIT_S; or when it has been quiet for PAUSE_S.
5. After QUIET_S without an event it is over: told a last time if that is due, and forgotten.
6. State is bounded: PER_FAMILY lines of one family are incidents of their own, all further ones are one incident of
   the family, whatever the deed; so are families beyond PER_FAMILY, and everything beyond MAX_OPEN.

Pure: time comes in with each call. Whoever holds a Folder calls ``due`` every now and then (monitor.teller).
"""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

import msgspec

from agent_broker.ids import ProcId
from agent_broker.monitor.incident import Incident, rank
from agent_broker.monitor.lines import Line

_S = 1_000_000_000
FIRST_WAIT_S = 1
LONGEST_WAIT_S = 60
PAUSE_S = 5
QUIET_S = 60
PER_FAMILY = 32
MAX_OPEN = 1024  # incidents; of these the coarsest, one a kind and action, may be more
MAX_PATHS = 32  # named beside the first one
_MAX_PATHS_BYTES = 8192  # of all of them: an incident must fit one message (monitor.incident)
MAX_OFFENDERS = 64  # of an incident that stands for many lines

_OPENED = {"decoy-opened", "credential-opened"}

_CROWD = ("", "; this stands for further programs of the same origin, more than {most} of which did so at a time")
_EVERYBODY = "; this stands for further programs, more than {most} of which did so at a time"


@dataclass(frozen=True, slots=True)
class Seen:
    """What of an event decides where it is folded."""

    kind: str
    action: str
    severity: str
    path: str
    time_ns: int
    """CLOCK_REALTIME."""
    deed: str = ""
    """Tells apart what is different within a kind: how a file was changed, which credential was asked for."""


@dataclass(slots=True)
class _Fold:
    """One open incident."""

    key: Hashable
    family: Hashable | None
    """Whose incidents it is counted among; None: of nobody's."""
    level: int
    """0: one line, 1: a family's further ones, 2: everybody's."""
    content: Incident
    """What the worst event says, with that event's own id."""
    id: str
    time_ns: int
    boot_ns: int
    last_ns: int
    touched_ns: int
    """When the last event came; on the clock of ``now_ns``, as the following."""
    told_ns: int = 0
    wait_s: int = FIRST_WAIT_S
    count: int = 0
    told: int = 0
    """``count`` at the last telling."""
    revision: int = -1
    held: bool = True
    """Its next telling waits for details."""
    files: dict[str, int] = field(default_factory=dict)
    unlisted: int = 0
    """Events on files that found no room in ``files``."""
    offenders: dict[ProcId, None] = field(default_factory=dict)


class Folder:
    """See the module."""

    def __init__(self, *, per_family: int = PER_FAMILY) -> None:
        self._most = per_family
        self._folds: dict[Hashable, _Fold] = {}
        self._by_id: dict[str, _Fold] = {}
        self._members: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._folds)

    def add(self, line: Line, seen: Seen, now_ns: int, make: Callable[[], Incident], *, times: int = 1) -> str | None:
        """Fold an event.

        Args:
            line: whose event it is.
            seen: what it is.
            now_ns: any clock that does not go backwards.
            make: returns the event as an incident of its own; called only if it is the first, or worse than before.
            times: how often it happened.

        Returns:
            The id of the incident (made or worsened by this event) that must be told now, by ``tell``; until then
            nothing of it is told by ``due``. None: it was folded, and is told in due time.
        """
        key, family, level = self._place(line, seen)
        fold = self._folds.get(key)
        opened = fold is None
        if fold is None:
            fold = self._open(key, family, level, make(), now_ns)
        grew = not opened and rank(seen.severity) > rank(fold.content.severity)
        if grew:
            fold.content = make()
            fold.held = True
        _count(fold, seen, times)
        fold.touched_ns = now_ns
        if level and (opened or grew or len(fold.offenders) < MAX_OFFENDERS):
            _hold_responsible(fold, line)
        return fold.id if opened or grew else None

    def tell(self, incident_id: str, now_ns: int, complete: Incident) -> Incident | None:
        """Return an incident as it is to be told now, once its details are there.

        Args:
            incident_id: of ``add``.
            now_ns: see ``add``.
            complete: what ``make`` returned (same id), with whatever was found out meanwhile.

        Returns:
            None: a worse event came in between, and its own telling follows.
        """
        fold = self._by_id.get(incident_id)
        if fold is None or fold.content.id != complete.id:
            return None
        fold.content = complete
        fold.held = False
        return self._told(fold, now_ns)

    def due(self, now_ns: int) -> list[Incident]:
        """Return what is to be told now, oldest first; forgets the incidents that are over."""
        told = []
        for fold in tuple(self._folds.values()):
            if fold.held:
                continue
            quiet_ns = now_ns - fold.touched_ns
            is_time = now_ns - fold.told_ns >= fold.wait_s * _S or quiet_ns >= PAUSE_S * _S
            if fold.count > fold.told and is_time:
                fold.wait_s = min(fold.wait_s * 2, LONGEST_WAIT_S)
                told.append(self._told(fold, now_ns))
            if quiet_ns >= QUIET_S * _S:
                self._close(fold)
        return told

    def close(self) -> list[Incident]:
        """Return the last telling of every incident that has something untold; forgets all."""
        told = [self._told(fold, fold.touched_ns) for fold in self._folds.values() if fold.count > fold.told]
        self._folds.clear()
        self._by_id.clear()
        self._members.clear()
        return told

    def _place(self, line: Line, seen: Seen) -> tuple[Hashable, Hashable | None, int]:
        """Return the key of the incident that an event belongs to, the family it is counted in, and the level."""
        what = _story_of(seen)
        one, family, everybody = (what, 0, line.line, seen.deed), (what, 1, line.family), (what, 2)
        for key, level in ((one, 0), (family, 1)):
            if key in self._folds:
                return key, self._folds[key].family, level
        full = len(self._folds) >= MAX_OPEN
        if not full and self._members[family] < self._most and self._is_welcome(family, everybody):
            return one, family, 0
        if not full and self._members[family]:
            return family, family, 1
        return everybody, None, 2

    def _is_welcome(self, family: Hashable, everybody: Hashable) -> bool:
        """Whether a family has lines already, or one more family has room."""
        return self._members[family] > 0 or self._members[everybody] < self._most

    def _open(self, key: Hashable, family: Hashable | None, level: int, content: Incident, now_ns: int) -> _Fold:
        fold = _Fold(
            key=key,
            family=family,
            level=level,
            content=content,
            id=content.id,
            time_ns=content.time_ns,
            boot_ns=content.boot_ns,
            last_ns=content.time_ns,
            touched_ns=now_ns,
            offenders=dict.fromkeys(content.offenders),
        )
        self._folds[key] = self._by_id[fold.id] = fold
        if family is not None:
            self._members[family] += 1
            if self._members[family] == 1:
                self._members[_everybody_of(family)] += 1
        return fold

    def _close(self, fold: _Fold) -> None:
        del self._folds[fold.key], self._by_id[fold.id]
        if fold.family is None:
            return
        self._members[fold.family] -= 1
        if not self._members[fold.family]:
            del self._members[fold.family]
            everybody = _everybody_of(fold.family)
            self._members[everybody] -= 1
            if not self._members[everybody]:
                del self._members[everybody]

    def _told(self, fold: _Fold, now_ns: int) -> Incident:
        fold.revision += 1
        fold.told, fold.told_ns = fold.count, now_ns
        crowd = (_CROWD[fold.level] if fold.level < len(_CROWD) else _EVERYBODY).format(most=self._most)
        content = fold.content
        return msgspec.structs.replace(
            content,
            id=fold.id,
            revision=fold.revision,
            count=fold.count,
            time_ns=fold.time_ns,
            boot_ns=fold.boot_ns,
            last_ns=fold.last_ns,
            paths=tuple(path for path in fold.files if path != content.path),
            offenders=tuple(fold.offenders) if fold.level else content.offenders,
            what="".join((content.what, *_repeats(fold), crowd)),
        )


def _story_of(seen: Seen) -> Hashable:
    """Return what is one story of a line: one that reads decoys and credential paths alike (a search) tells one."""
    if seen.kind in _OPENED:
        return "opened", seen.action == "denied"
    return seen.kind, seen.action


def _everybody_of(family: Hashable) -> Hashable:
    match family:
        case (what, 1, _):
            return (what, 2)
        case _:
            raise ValueError("not a family's key")


def _count(fold: _Fold, seen: Seen, times: int) -> None:
    fold.count += times
    fold.time_ns = min(fold.time_ns, seen.time_ns)
    fold.last_ns = max(fold.last_ns, seen.time_ns)
    is_own = seen.path == fold.content.path
    if seen.path in fold.files or _has_room(fold, seen.path):
        fold.files[seen.path] = fold.files.get(seen.path, 0) + times
    elif is_own:  # of a worse event: it must be named, so another one is not
        while fold.files and not _has_room(fold, seen.path):
            fold.unlisted += fold.files.popitem()[1]
        fold.files[seen.path] = times
    else:
        fold.unlisted += times


def _has_room(fold: _Fold, path: str) -> bool:
    size_bytes = sum(len(os.fsencode(each)) for each in (*fold.files, path))
    return not fold.files or (len(fold.files) <= MAX_PATHS and size_bytes <= _MAX_PATHS_BYTES)


def _hold_responsible(fold: _Fold, line: Line) -> None:
    """Add who is to be frozen for a line that has no incident of its own.

    An agent so many of whose tools did it is held responsible itself: each further tool is a process of its own, and
    a bounded list could not name them.
    """
    fold.offenders.update(dict.fromkeys(fold.content.offenders))
    responsible = line.agent if line.agent is not None else line.offender
    if responsible is not None:
        fold.offenders[responsible] = None


def _repeats(fold: _Fold) -> Iterator[str]:
    """Yield the clauses that say how often, and on how many files; none for a single event."""
    if fold.count == 1:
        return
    yield f"; {fold.count} times in all"
    if len(fold.files) > 1:
        yield f", in {len(fold.files)} places"
    if fold.unlisted:
        yield f" and, {fold.unlisted} times, in further ones"
