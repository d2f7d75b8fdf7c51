"""Learn mode: for a chosen time, opens that would be reported become proposals to root instead. Nothing is allowed.

Bounded: MAX_PROPOSALS of them, MAX_PATHS paths each; what is over the first bound is reported as always. The state is
one file of root's, so it survives a restart, and the time ends by itself, whether anybody looks or not.
"""

import asyncio
import logging
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file, require_private
from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError
from agent_broker.ids import Sha256, Uid

MAX_PROPOSALS = 256
MAX_PATHS = 8
MAX_STEPS = 8
MAX_LEARN_S = 7 * 86_400
_SAVE_AFTER_S = 1.0

_log = logging.getLogger(__name__)


class Lesson(Struct, frozen=True):
    """One open that was not reported."""

    program: str
    sha256: Sha256
    package: str
    opens: str
    """The pattern that the path matches, with the home written out."""
    path: str
    uid: Uid
    lineage: tuple[str, ...]
    """Programs, the opener first. Names in it were chosen by whoever started them."""


class Proposal(Struct, frozen=True, forbid_unknown_fields=True):
    """What root may allow: one program and one pattern, with the evidence."""

    number: int
    """By which root names it; from 1, never used again while the file exists."""
    program: str
    sha256: Sha256
    package: str
    opens: str
    paths: tuple[str, ...]
    count: int
    uid: Uid
    lineage: tuple[str, ...]
    first_ns: int
    """CLOCK_REALTIME, as the next."""
    last_ns: int


class Lessons(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    until_ns: int = 0
    """CLOCK_REALTIME; learning goes on until then."""
    proposals: tuple[Proposal, ...] = ()
    format: int = 1


def load_lessons(path: Path) -> Lessons:
    """Return what was learnt; nothing if there is no file.

    Raises:
        IntegrityError: others than root could have written the file, or it is damaged.
    """
    try:
        with path.open("rb") as file:
            require_private(path, path.lstat())
            return msgspec.json.decode(file.read(), type=Lessons)
    except FileNotFoundError:
        return Lessons()
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise IntegrityError(f"{path} can't be read: {error}", next_step=f"remove it: rm {path}") from error


def save_lessons(path: Path, lessons: Lessons) -> None:
    """Write the file durably.

    Raises:
        UnavailableError: the disk refuses.
    """
    replace_file(path, msgspec.json.format(msgspec.json.encode(lessons), indent=2))


def begin(path: Path, duration_s: int) -> Lessons:
    """Learn from now on, for so many seconds, and forget earlier proposals; 0 ends it, and keeps them.

    Raises:
        MisuseError: too long.
        IntegrityError, UnavailableError: the file can't be read, or written.
    """
    if not 0 <= duration_s <= MAX_LEARN_S:
        raise MisuseError(f"learning takes at most {MAX_LEARN_S // 86_400} days", next_step="choose a shorter time")
    until_ns = time.time_ns() + duration_s * 1_000_000_000
    lessons = Lessons(until_ns) if duration_s else msgspec.structs.replace(load_lessons(path), until_ns=0)
    save_lessons(path, lessons)
    return lessons


class Learning:
    """The monitor's side: reads the file at ``reload``, writes proposals to it. Belongs to the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lessons = Lessons()
        self._open: dict[tuple[str, str], Proposal] = {}
        self._saving: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether opens are learnt now."""
        return time.time_ns() < self._lessons.until_ns

    def reload(self) -> str:
        """Read the file again; return what is wrong with it: nothing is learnt then."""
        self._save()
        try:
            self._lessons = load_lessons(self._path)
        except AgentBrokerError as error:
            self._lessons = Lessons()
            return f"nothing is learnt: {error.message} ({error.next_step})"
        finally:
            self._open = {(each.sha256, each.opens): each for each in self._lessons.proposals}
        return ""

    def learn(self, lesson: Lesson) -> bool:
        """Take one open as, or to, a proposal; False: not learning, or there are too many already."""
        known = self._open.get((lesson.sha256, lesson.opens))
        if not self.is_on or (known is None and len(self._open) >= MAX_PROPOSALS):
            return False
        now_ns = time.time_ns()
        if known is None:
            self._open[lesson.sha256, lesson.opens] = Proposal(
                number=max((each.number for each in self._open.values()), default=0) + 1,
                program=_plain(lesson.program),
                sha256=lesson.sha256,
                package=lesson.package,
                opens=_plain(lesson.opens),
                paths=(_plain(lesson.path),),
                count=1,
                uid=lesson.uid,
                lineage=tuple(_plain(each) for each in lesson.lineage[:MAX_STEPS]),
                first_ns=now_ns,
                last_ns=now_ns,
            )
        else:
            paths = tuple(dict.fromkeys((*known.paths, _plain(lesson.path))))[:MAX_PATHS]
            again = msgspec.structs.replace(known, paths=paths, count=known.count + 1, last_ns=now_ns)
            self._open[lesson.sha256, lesson.opens] = again
        self._save_later()
        return True

    def close(self) -> None:
        """Write what was not written yet."""
        self._save()

    def _save_later(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(_SAVE_AFTER_S, self._save)

    def _save(self) -> None:
        """Write the proposals, unless root began anew meanwhile: then the file's own are the newer ones."""
        if self._saving is None:
            return
        self._saving.cancel()
        self._saving = None
        try:
            if load_lessons(self._path).until_ns in {self._lessons.until_ns, 0}:
                until_ns = load_lessons(self._path).until_ns
                save_lessons(self._path, Lessons(until_ns, tuple(self._open.values())))
        except AgentBrokerError as error:
            _log.error("what was learnt could not be kept: %s", error.message)


def _plain(text: str) -> str:
    """Return a name as JSON can hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
