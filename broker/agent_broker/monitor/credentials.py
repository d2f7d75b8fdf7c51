"""Credential paths: which there are, and whether an opener may open one.

The law, for an opener of a file at a credential path, in this order:

1. A tainted opener, and one that reached for what is an agent's, may not.
2. The main process of an enrolled agent that the entry names, running for the home's owner, may.
3. A program that the entry names may: an intact file of one of its packages (monitor.programs). Also below an agent.
4. A program that the entry names for use without an agent may, if no agent is in its lineage and that is known.
5. A program whose hash root allowed for this path may, until that expires; an interpreter never. That counts for decoys
   too, if no agent is in its lineage: backups and searches read them. A decoy in a file that the owner's own tools
   read (Mark.shared) follows the rules above as well.
6. Everybody else is reported (monitor.detection), except while root lets the monitor learn (monitor.learning).

Reload forgets what was found out of packages.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.allowed import AllowedProgram, is_interpreter
from agent_broker.identity.evidence import Evidence, Unknown, Verdict, steps_of
from agent_broker.identity.executable import HashCache
from agent_broker.ids import Sha256, Uid
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Image
from agent_broker.monitor.actor import Actor, exe_path
from agent_broker.monitor.catalogue import Catalogue, Place, home_of_user, shipped_catalogue
from agent_broker.monitor.credential_rules import (
    CredentialRules,
    PathOptions,
    is_agent_of,
    is_alone,
    is_refused_at_once,
)
from agent_broker.monitor.detection import is_exempt
from agent_broker.monitor.fingerprint import Fingerprints, HashStore
from agent_broker.monitor.learning import Learning, Lesson
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import Wanted
from agent_broker.monitor.programs import UNKNOWN, NoPackages, PackageOwners, Program, Programs

MAX_PENDING = 512  # openers whose program is looked up; each holds two descriptors

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opener:
    """What could be told of who opened a credential path."""

    is_allowed: bool
    program: Program = UNKNOWN
    sha256: Sha256 | None = None


class Credentials:
    """See the module. Belongs to the event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        options: PathOptions,
        programs: Programs,
        learning: Learning | None = None,
        home_of: Callable[[Uid], str] = home_of_user,
    ) -> None:
        """Watch what the catalogue and the options say.

        Args:
            catalogue: as it ships.
            options: the operator's.
            programs: identifies openers.
            learning: takes what would be reported; None: there is no learn mode.
            home_of: a user's home, resolved; empty: none.
        """
        self._rules = CredentialRules(catalogue, options, home_of)
        self._programs = programs
        self._learning = learning
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: asyncio.Task[None] | None = None
        self.look_again: Callable[[Actor, Verdict], Awaitable[Verdict]] | None = None
        """Finds out more of an opener that is unknown: an agent that is started first opens its files before its code
        was hashed. None: nobody can."""

    @classmethod
    def shipped(
        cls,
        options: PathOptions,
        owners: PackageOwners,
        hashes: HashStore,
        facts_of: Callable[[int], FileFacts],
        learning: Learning,
    ) -> "Credentials":
        """Return one with the catalogue that ships, and a distribution that is asked for packages.

        Raises:
            MisuseError, OSError: the catalogue can't be used.
        """
        return cls(shipped_catalogue(), options, Programs(owners, Fingerprints(hashes, facts_of), facts_of), learning)

    @classmethod
    def none(cls, facts_of: Callable[[int], FileFacts]) -> "Credentials":
        """Return one that watches nothing."""
        programs = Programs(NoPackages(), Fingerprints(HashCache(), facts_of), facts_of)
        return cls(Catalogue({}, ()), PathOptions(enabled=False), programs)

    def wanted(self, owners: Iterable[Uid]) -> list[Wanted]:
        """Return what is to be marked for these users; what was found out of packages is forgotten."""
        self._programs.forget()
        wanted = self._rules.wanted(owners)
        if self._rules.denies:
            self._warm()
        return wanted

    def allow(self, allowed: Iterable[AllowedProgram]) -> None:
        """Let these programs, and no others beside the catalogue's, open what their records say."""
        self._rules.allow(allowed)

    def concerns(self, mark: Mark) -> bool:
        """Whether anybody may open this file for what is said here."""
        return self._rules.concerns(mark)

    @property
    def programs(self) -> tuple[str, ...]:
        """See CredentialRules."""
        return self._rules.programs

    @property
    def in_work(self) -> int:
        """Openers that are being looked up."""
        return len(self._tasks)

    def decide(
        self, mark: Mark, verdict: Verdict, actor: Actor, then: Callable[[Opener], None], *, waited: bool
    ) -> None:
        """Find out whether an opener may, and call ``then`` with it in the loop: at once if that is known already.

        The actor's descriptors stay the caller's, and must stay open until then.

        Args:
            mark: what was opened.
            verdict: what is recorded of the opener.
            actor: the opener.
            then: called once.
            waited: the opener waited for us while its executable was held, so that it can't be another one.
        """
        if not self.concerns(mark):
            then(Opener(is_allowed=False))
            return
        image = _image_of(verdict)
        facts = image.file if image is not None else self._programs.held(actor) if waited else None
        place = self._rules.place_of(mark)
        known = self._programs.known(facts) if facts is not None else None
        if known is not None and (self._rules.allows(place, verdict, known) or is_refused_at_once(verdict)):
            then(Opener(is_allowed=not is_refused_at_once(verdict), program=known))
            return
        if facts is None or len(self._tasks) >= MAX_PENDING:
            then(Opener(is_allowed=place is not None and is_agent_of(place, verdict)))
            return
        task = asyncio.get_running_loop().create_task(self._look_closer((mark, place, verdict, actor), facts, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def learns(self, mark: Mark, verdict: Verdict, opener: Opener) -> bool:
        """Take an opener that may not, and was let through, as something to propose; False: it is to be reported."""
        if self._learning is None or mark.role != "credential" or mark.deny or is_refused_at_once(verdict):
            return False
        program = opener.program
        if not isinstance(verdict, Evidence) or not is_alone(verdict) or opener.sha256 is None:
            return False
        if not program.is_roots or is_interpreter(program.path):
            return False
        place = self._rules.place_of(mark)
        lesson = Lesson(
            program=program.path,
            sha256=opener.sha256,
            package=program.title,
            opens=place.pattern if place is not None else mark.path,
            path=mark.path,
            uid=verdict.uid,
            lineage=tuple(step.image.filename for step in verdict.steps),
        )
        return self._learning.learn(lesson)

    async def close(self) -> None:
        """Finish what was begun."""
        if self._warming is not None:
            self._warming.cancel()
        await asyncio.gather(*self._tasks)
        await self._programs.close()
        if self._learning is not None:
            self._learning.close()

    def _warm(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
        self._warming = asyncio.get_running_loop().create_task(self._programs.warm(self._rules.named_files))

    async def _look_closer(self, opened: "_Opened", facts: FileFacts, then: Callable[[Opener], None]) -> None:
        opener = Opener(is_allowed=False)
        try:
            opener = await self._opener(opened, facts)
        except (AgentBrokerError, OSError):
            _log.exception("who opened %r could not be looked up", opened[0].path)
        finally:
            then(opener)

    async def _opener(self, opened: "_Opened", facts: FileFacts) -> Opener:
        mark, place, verdict, actor = opened
        if isinstance(verdict, Unknown) and not verdict.hostile and self.look_again is not None:
            verdict = await self.look_again(actor, verdict)
            if is_exempt(verdict, mark):
                return Opener(is_allowed=True)
        program = UNKNOWN
        for path in _paths_of(actor, verdict):
            if not program.is_roots:
                program = await self._programs.identify(facts, path)
        if is_refused_at_once(verdict):
            return Opener(is_allowed=False, program=program)
        if self._rules.allows(place, verdict, program) or await self._allows_script(place, verdict, program):
            return Opener(is_allowed=True, program=program)
        records = self._rules.records_of(mark) if is_alone(verdict) else []
        learning = mark.role == "credential" and self._learning is not None and self._learning.is_on
        if actor.exe_fd is None or not (records or learning):
            return Opener(is_allowed=False, program=program)
        sha256 = await self._programs.hash_of(facts, actor.exe_fd, steps_of(verdict))
        allowed = any(each.sha256 == sha256 for each in records) and not is_interpreter(program.path)
        return Opener(is_allowed=allowed, program=program, sha256=sha256)

    async def _allows_script(self, place: Place | None, verdict: Verdict, program: Program) -> bool:
        image = _image_of(verdict)
        if place is None or image is None or not program.package:
            return False
        specs = [each for each in self._rules.specs(place.entry, verdict) if each.scripts]
        if not specs:
            return False
        given, script = await self._programs.script_of(image, program)
        return any(given in each.scripts and script.package in each.packages for each in specs)


_Opened = tuple[Mark, Place | None, Verdict, Actor]


def _paths_of(actor: Actor, verdict: Verdict) -> list[str]:
    """Return where an opener's executable may be, in the monitor's own view: its word, to be verified."""
    held = [path] if (path := exe_path(actor)) else []
    image = _image_of(verdict)
    return held if image is None else list(dict.fromkeys((*held, image.filename)))


def _image_of(verdict: Verdict) -> Image | None:
    steps = steps_of(verdict)
    return steps[0].image if steps else None
