"""From a lineage to the enrolled agent on it: the nearest image that is an agent's main process, and what taints it.

An image is an agent's main process if all of this holds, and nobody's otherwise:
1. the process executed it itself, and the monitor saw that;
2. its file is an enrolled one by the kernel's numbers, under an accepted name, of the owner;
3. its file's hash is the enrolled one;
4. an interpreter was started with the enrolled script, and the script's bundle is what was enrolled.

What makes a genuine image run foreign code does not make it somebody else: it taints.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.environment import MAX_ARGUMENTS_BYTES, injected
from agent_broker.identity.evidence import Principal
from agent_broker.identity.executable import HashCache
from agent_broker.kernel.events import FUSE_MAGIC, FileFacts
from agent_broker.lineage.image import own_image
from agent_broker.lineage.record import Captured, Image, Step
from agent_broker.lineage.store import Store


class ScriptVerdict(Struct, frozen=True):
    """What a look at an interpreter's script said."""

    genuine: bool
    """False: it runs another script than the enrolled one, so it is nobody."""
    taints: tuple[str, ...] = ()
    """Genuine, and yet not to be trusted: the bundle was changed, or its files can't be verified from here."""
    is_updated: bool = False
    """The only taint is that the bundle was another one than enrolled before the program was started, as after an
    update that nobody approved yet."""
    is_early: bool = False
    """It was started before its bundle was enrolled, so what it loaded is not known."""


class ScriptChecks(Protocol):
    """Who knows scripts and bundles (identity.script)."""

    def verdict(self, image: Image, captured: Captured, known: KnownFile) -> ScriptVerdict | None:
        """Return what is known without waiting; None: ``examine`` must look first."""
        ...

    async def examine(self, image: Image, captured: Captured, known: KnownFile) -> None:
        """Look, so that ``verdict`` knows. Raises nothing: what can't be looked at becomes a verdict."""
        ...

    def owns(self, known: KnownFile, dev: int, ino: int) -> bool:
        """Tell whether a file with these kernel numbers belongs to the enrolled bundle."""
        ...


class Needed(Struct, frozen=True):
    """What must be looked at before the search can go on."""

    image: Image | None
    """None: only ``packages``."""
    known: KnownFile | None = None
    """None: the hash of the image's file; else the script of this enrolment."""
    captured: Captured | None = None
    packages: tuple[tuple[str, FileFacts], ...] = ()
    """Files whose package must be known, and where they may lie."""


class FoundTool(Struct, frozen=True):
    """The nearest image of an enrolled tool."""

    principal: Principal
    known: KnownFile
    step: Step
    place: int
    """Of the step in the lineage."""


class Found(Struct, frozen=True):
    """The end of a search: ``needed`` if it could not be finished."""

    principal: Principal | None
    known: KnownFile | None
    taints: tuple[str, ...]
    step: Step | None = None
    """The principal's."""
    needed: Needed | None = None
    unseen: bool = False
    """The image may be an agent's, but was started before that was enrolled: its strings were not captured, or its
    bundle was not watched."""
    is_updated: bool = False
    """See Evidence."""
    tool: FoundTool | None = None
    """Below the principal, or of a lineage without one."""


class PrincipalSearch:
    """See the module. The table of agents is replaced as a whole when the registry changes."""

    def __init__(self, store: Store, hashes: HashCache, scripts: ScriptChecks | None) -> None:
        self.agents = AgentTable()
        self._store = store
        self._hashes = hashes
        self._scripts = scripts

    def find(self, steps: tuple[Step, ...]) -> Found:
        """Walk up to the nearest main process of an enrolled agent; collect taints on the way, its own included."""
        taints: list[str] = []
        depth = 0
        uid = steps[0].image.uid
        tool: FoundTool | None = None
        for place, step in enumerate(steps):
            depth += step.relation == "fork"
            taints += [f"{_name(step.image)}: {taint}" for taint in (*step.image.taints, *step.tampered)]
            # relation "exec": an earlier image of the same process is history, not an agent
            if step.relation == "exec" or not own_image(step.image, step.proc_id) or not step.image.observed:
                continue
            found = self._first(step, self.agents.tool_candidates(step.image, uid), depth) if tool is None else None
            if found is not None and found.needed is not None:
                return found
            if found is not None and found.principal is not None and found.known is not None:
                tool = FoundTool(found.principal, found.known, step, place)
                taints += [f"{_name(step.image)}: {taint}" for taint in found.taints]
            found = self._first(step, self.agents.candidates(step.image, uid), depth)
            if found is not None:
                own = tuple(f"{_name(step.image)}: {taint}" for taint in found.taints)
                is_updated = found.is_updated and not taints
                changes = {"taints": (*taints, *own), "step": step, "is_updated": is_updated, "tool": tool}
                return msgspec.structs.replace(found, **changes)
        return Found(None, None, tuple(taints), tool=tool)

    def _first(self, step: Step, candidates: tuple[KnownFile, ...], depth: int) -> Found | None:
        """Return the first candidate that the step's image is, or what keeps that from being told."""
        length = step.image.file.size_bytes  # its owner may have made it endless: then it is not hashed
        judged = (self._judge(step, known, depth) for known in candidates if known.binary.size_bytes == length)
        return next((found for found in judged if found is not None), None)

    def _judge(self, step: Step, known: KnownFile, depth: int) -> Found | None:
        """Judge one candidate; None: the image is not this agent."""
        image = step.image
        sha256 = self._hashes.get(image.file)
        if sha256 is None:
            return Found(None, None, (), needed=Needed(image))
        captured = self.captured(image)
        if captured is None and known.binary.script is None:
            return Found(None, None, (), unseen=True) if sha256 == known.binary.sha256 else None
        # an interpreter's script is not known then, and most of its processes are nobody's
        if captured is None or sha256 != known.binary.sha256 or _is_other_program(captured, known):
            return None
        script = self.script_of(image, captured, known)
        if script is None:
            return Found(None, None, (), needed=Needed(image, known, captured))
        if not script.genuine or script.is_early:
            return Found(None, None, (), unseen=True) if script.genuine else None
        principal = Principal(
            agent=known.enrollment.agent,
            owner_uid=known.enrollment.owner_uid,
            proc_id=step.proc_id,
            exec_id=image.exec_id,
            sha256=sha256,
            is_caller=depth == 0,
            depth=depth,
        )
        taints = _taints_of(image, captured, known)
        return Found(principal, known, (*taints, *script.taints), is_updated=script.is_updated and not taints)

    def captured(self, image: Image) -> Captured | None:
        """Return what was kept of an image's strings; None: they were not captured."""
        return self._store.captured(image.exec_id)

    def script_of(self, image: Image, captured: Captured | None, known: KnownFile) -> ScriptVerdict | None:
        """Return what is known of a candidate's script now; None: it must be looked at first."""
        if known.binary.script is None:
            return ScriptVerdict(genuine=True)
        if self._scripts is None or captured is None:
            return ScriptVerdict(genuine=False)
        return self._scripts.verdict(image, captured, known)


def _is_other_program(captured: Captured, known: KnownFile) -> bool:
    """Tell whether the arguments make it something else than the agent, or are too long to say."""
    role = known.enrollment.role
    if not role.refused_arguments and role.leading_options is None and role.lines is None:
        return False
    arguments = captured.arguments.split(b"\0")
    if len(captured.arguments) >= MAX_ARGUMENTS_BYTES or any(
        _is_among(each.encode(), arguments) for each in role.refused_arguments
    ):
        return True
    if role.lines is not None and not is_one_of(captured.arguments, role.lines):
        return True
    return role.leading_options is not None and not _leads_well(arguments[1:], role.leading_options)


def is_one_of(arguments: bytes, lines: Sequence[str]) -> bool:
    """Tell whether all arguments behind the first, which is the program's name, are of one of these forms."""
    line = arguments.removesuffix(b"\0").partition(b"\0")[2]
    return any(re.fullmatch(each.encode(), line, re.DOTALL) for each in lines)


def _is_among(refused: bytes, arguments: Sequence[bytes]) -> bool:
    if refused.endswith(b"*"):
        return any(each.startswith(refused[:-1]) for each in arguments)
    return refused in arguments


def _leads_well(arguments: Sequence[bytes], allowed: Sequence[str]) -> bool:
    leading = itertools.takewhile(lambda each: each.startswith(b"-"), arguments)
    return all(any(re.fullmatch(option.encode(), each) for option in allowed) for each in leading)


def _taints_of(image: Image, captured: Captured, known: KnownFile) -> tuple[str, ...]:
    """Return what an image of an enrolled file was started with that makes it run foreign code."""
    found = list(injected(captured, known.enrollment.role.runtimes, known.enrollment.allowed_environment))
    if captured.problem:
        found.insert(0, captured.problem)
    home = known.enrollment.role.home
    if home and captured.home_sha256 != hashlib.sha256(os.fsencode(home)).hexdigest():
        found.append(f"its HOME is not {home}, so that it reads other settings")
    if image.user_namespace:
        found.append("it was started in a user namespace, where its user decides which libraries it gets")
    if image.user_mounted or image.file.fs_magic == FUSE_MAGIC:
        found.append("its executable lies on a file system that a user can answer for")
    return tuple(found)


def _name(image: Image) -> str:
    return image.argv0 or image.filename
