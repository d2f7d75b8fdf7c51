"""A new version of an enrolled agent: found, looked at, and enrolled instead of the old one.

What is enrolled is what was shown: the hash that a person agreed to, taken again, before it is written down, while
nobody has the file open for writing. The old version is not the agent any more from the moment the monitor has read
the registry; a process that still runs it must be restarted. Every version that was ever approved stays in the history.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from agent_broker.clock import Clock
from agent_broker.enroll.beneath import open_regular
from agent_broker.enroll.binaries import FoundBinary, Progress, examine
from agent_broker.enroll.history import approvals_of, enrolled_version, first_approvals, program_path
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.lease import read_lease
from agent_broker.enroll.owner import Owner, owner_of
from agent_broker.enroll.ports import Site
from agent_broker.enroll.program import find_program
from agent_broker.enroll.recipe import Recipe
from agent_broker.enroll.vendor import Vendor, vendor_of, vendor_of_script, version_of
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.identity.registry import EnrolledBinary, Enrollment, load_registry, save_enrollment
from agent_broker.ids import AgentName, Uid
from agent_broker.monitor.provenance import Provenance, not_recorded

_ROOTS_CACHE = Path("/root/.npm/_cacache")

WhoWrote = Callable[[int], Provenance]
"""Who wrote the file behind a descriptor, by the monitor's record."""


class Registry(Protocol):
    """What of a Site the registry's own entry needs."""

    @property
    def journal_dir(self) -> Path:
        """Where the lock is."""
        ...

    @property
    def registry_dir(self) -> Path:
        """The enrolments."""
        ...

    @property
    def clock(self) -> Clock:
        """For the history."""
        ...


@dataclass(frozen=True)
class Update:
    """What a person is asked to agree to."""

    enrollment: Enrollment
    owner: Owner
    old: EnrolledBinary
    old_version: str
    new: FoundBinary
    vendor: Vendor
    provenance: Provenance
    running: tuple[int, ...]
    """Processes of the owner that run the old version, by /proc."""
    changed_ns: int
    """When the new file, of an interpreted agent its script, was last written, or its name or mode changed; no user can
    set it."""


def find_update(  # noqa: PLR0913 - what the operator can say, named arguments only
    recipe: Recipe,
    owner_uid: Uid,
    *,
    site: Site,
    who_wrote: WhoWrote,
    given: Path | None = None,
    progress: Progress | None = None,
) -> Update:
    """Look for a new version of an enrolled agent; changes nothing.

    Args:
        recipe: the kind of agent.
        owner_uid: whose.
        site: where the registry is.
        who_wrote: the monitor's record.
        given: the new executable; None: where the enrolled one was, where its launcher leads, where the recipe says.
        progress: told how far a hash is.

    Raises:
        MisuseError: not enrolled; nothing new; not an executable; run by an interpreter that could not be the agent.
        IntegrityError: the file changes while it is hashed.
        UnavailableError: another transaction is at work, or the monitor does not answer.
    """
    enrollment, owner = _enrolled(recipe.agent, owner_uid, site)
    old, new = _changed(enrollment, owner, recipe, given, progress)
    _require_role(enrollment, new)
    caches = (_ROOTS_CACHE, Path(owner.home) / ".npm/_cacache")
    changed_ns, provenance = _written(program_path(new.enrolled), who_wrote)
    return Update(
        enrollment=enrollment,
        owner=owner,
        old=old,
        old_version=enrolled_version(enrollment, old),
        new=new,
        vendor=_vendor(new.enrolled, caches),
        provenance=provenance,
        running=tuple(_running(old, owner.uid)),
        changed_ns=changed_ns,
    )


def approve(update: Update, site: Site) -> tuple[str, ...]:
    """Enroll the new version instead of the old one; return what a person must know.

    Raises:
        MisuseError: the enrolment or the file is not as it was shown, or a program has the file open for writing.
        UnavailableError: another transaction is at work, or the disk refused: nothing was changed.
    """
    with TransactionFolder(site.journal_dir), ExitStack() as stack:
        _require_unchanged(update.enrollment, site)
        path = str(program_path(update.new.enrolled))
        fd = _open(path)
        stack.callback(os.close, fd)
        lease = stack.enter_context(read_lease(fd, path))
        again = _examine(path, update.owner, update.old)
        same = _same_program(again.enrolled, update.new.enrolled) and again.state.same_bytes(update.new.state)
        if not same or (lease is not None and not lease.unbroken):
            raise MisuseError(f"{path} has changed since it was shown; nothing was done", next_step="approve it again")
        old = update.old
        others = tuple(each for each in update.enrollment.binaries if each is not old and not _is_kept(each, old))
        _save(update.enrollment, old, update.new.enrolled, others, (update.vendor.version, "approve"), site)
    try:
        return site.watch.reload().problems
    except UnavailableError as error:
        return (f"the monitor was not told ({error.message}); it reads the registry when it starts",)


def approve_unasked(
    enrollment: Enrollment, old: EnrolledBinary, new: EnrolledBinary, *, how: str, registry: Registry
) -> str:
    """Enroll a version that the policy approves; return its version. The monitor, who calls this, reads it then.

    The running version stays enrolled beside it until the next update, so that what works goes on working.

    Raises:
        MisuseError, IntegrityError: the enrolment or the file is not as it was judged.
        UnavailableError: another transaction is at work, or the disk refused.
    """
    with TransactionFolder(registry.journal_dir):
        _require_unchanged(enrollment, registry)
        owner = Owner(enrollment.owner_uid, enrollment.owner_uid, (), enrollment.owner_name, "/")
        again = _examine(str(program_path(new)), owner, old)
        if not _same_program(again.enrolled, new):
            raise IntegrityError(f"{new.path} is not what was judged")
        kept = (msgspec.structs.replace(old, launchers=()),) if old.path != new.path else ()
        others = tuple(each for each in enrollment.binaries if each != old and not _is_kept(each, old))
        version = version_of(Path(new.path))
        _save(enrollment, old, new, (*kept, *others), (version, how), registry)
        return version


def _save(  # noqa: PLR0913, PLR0917 - one write, from two places
    enrollment: Enrollment,
    old: EnrolledBinary,
    new: EnrolledBinary,
    others: tuple[EnrolledBinary, ...],
    version_and_how: tuple[str, str],
    registry: Registry,
) -> None:
    launchers = tuple(dict.fromkeys((*old.launchers, *new.launchers)))
    version, how = version_and_how
    history = enrollment.history or first_approvals(enrollment.binaries, enrollment.enrolled_ns)
    changed = msgspec.structs.replace(
        enrollment,
        binaries=(msgspec.structs.replace(new, launchers=launchers), *others),
        history=(*history, *approvals_of(new, version, registry.clock.wall_ns(), how)),
    )
    save_enrollment(registry.registry_dir, changed)


def _is_kept(binary: EnrolledBinary, old: EnrolledBinary) -> bool:
    """Tell whether a program is an earlier version that ``approve_unasked`` kept beside ``old``."""
    path, beside = Path(binary.path), Path(old.path)
    versions = bool(version_of(path)) and path.parent == beside.parent and path.parent.name == "versions"
    return versions and bool(old.launchers) and not binary.launchers


def _enrolled(agent: AgentName, owner_uid: Uid, site: Site) -> tuple[Enrollment, Owner]:
    with TransactionFolder(site.journal_dir) as journal:
        transaction = journal.find(agent, owner_uid)
    for enrollment in load_registry(site.registry_dir):
        if (enrollment.agent, enrollment.owner_uid) == (agent, owner_uid):
            return enrollment, transaction.owner if transaction is not None else owner_of(str(owner_uid))
    raise MisuseError(f"{agent} of user id {owner_uid} is not enrolled", next_step=f"agent-broker enroll {agent}")


def _require_unchanged(enrollment: Enrollment, registry: Registry) -> None:
    if enrollment not in load_registry(registry.registry_dir):
        raise MisuseError("the enrolment has changed meanwhile; nothing was done", next_step="approve it again")


def _changed(
    enrollment: Enrollment, owner: Owner, recipe: Recipe, given: Path | None, progress: Progress | None
) -> tuple[EnrolledBinary, FoundBinary]:
    """Return the enrolled program that was replaced, and what is in its place."""
    if given is not None:
        found = _examine(str(given), owner, enrollment.binaries[0], progress)
        old = _replaced_by(found.enrolled, enrollment)
        if _same_program(found.enrolled, old):
            raise MisuseError(f"{found.enrolled.path} is what is enrolled", next_step="nothing needs to be done")
        return old, found
    looked: dict[str, FoundBinary] = {}
    for old in enrollment.binaries:
        for place in (*old.launchers, str(program_path(old)), *_elsewhere(recipe, owner, enrollment)):
            real = os.path.realpath(place)
            try:
                found = looked[real] if real in looked else _examine(place, owner, old, progress)
            except MisuseError:
                continue
            looked[real] = found
            if not any(_same_program(found.enrolled, each) for each in enrollment.binaries):
                return old, found
            if _same_program(found.enrolled, old):
                break  # what is started is what is enrolled
    raise MisuseError(
        f"{enrollment.agent} of {enrollment.owner_name} is as it was enrolled: there is nothing to approve",
        next_step="if another executable is meant, name it with --binary PATH",
    )


def _examine(place: str, owner: Owner, old: EnrolledBinary, progress: Progress | None = None) -> FoundBinary:
    """Examine what may have come in an enrolled program's place: of the same kind, executable or script.

    A script that asks ``env`` for its interpreter gets the one that the enrolled version has.
    """
    if old.script is None:
        return examine(Path(place), owner, progress)
    return find_program(Path(place), owner, (Path(old.path).parent,), progress).found


def _require_role(enrollment: Enrollment, new: FoundBinary) -> None:
    """Python finds its environment by the name that it is started by; by another name it would never be the agent."""
    accepted = [each for each in enrollment.role.argv0_names if Path(each).is_absolute()]
    names = () if new.role is None else new.role.argv0_names
    if accepted and names and not any(each in accepted for each in names):
        program = program_path(new.enrolled)
        raise MisuseError(
            f"{program} is started by {names[0]}, and {enrollment.agent} is enrolled with {accepted[0]}",
            next_step=f"agent-broker unenroll {enrollment.agent}, then enroll it anew",
        )


def _elsewhere(recipe: Recipe, owner: Owner, enrollment: Enrollment) -> Iterable[str]:
    """Yield the recipe's places, if there is one program, so that it is clear which one is replaced."""
    return map(str, recipe.binary_candidates(owner, ())) if len(enrollment.binaries) == 1 else ()


def _replaced_by(new: EnrolledBinary, enrollment: Enrollment) -> EnrolledBinary:
    same = [each for each in enrollment.binaries if program_path(each) == program_path(new)]
    near = [each for each in enrollment.binaries if program_path(each).parent == program_path(new).parent]
    for found in (same, [each for each in near if each.launchers], near, list(enrollment.binaries)):
        if len(found) == 1:
            return found[0]
    raise MisuseError(
        f"it is not clear which enrolled executable {new.path} replaces",
        next_step=f"agent-broker unenroll {enrollment.agent}, then enroll it with --binary",
    )


def _same_program(one: EnrolledBinary, other: EnrolledBinary) -> bool:
    return (one.path, one.sha256, one.script) == (other.path, other.sha256, other.script)


def _vendor(new: EnrolledBinary, caches: tuple[Path, ...]) -> Vendor:
    if new.script is None:
        return vendor_of(program_path(new), new.sha256, caches)
    return vendor_of_script(new.script, caches)


def _written(program: Path, who_wrote: WhoWrote) -> tuple[int, Provenance]:
    """Return when a program was last written, and who did it."""
    fd = _open(str(program))
    try:
        return os.fstat(fd).st_ctime_ns, who_wrote(fd)
    except UnavailableError as error:
        return os.fstat(fd).st_ctime_ns, not_recorded(error.message)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        return open_regular(path)
    except OSError as error:
        raise MisuseError(f"{path} can't be opened: {error.strerror}", next_step="approve it again") from error


def _running(old: EnrolledBinary, uid: Uid) -> Iterator[int]:
    """Yield the processes of a user that run an executable, whether its file still has its name or not."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                executable = os.fsdecode((entry / "exe").readlink())
                owner = entry.stat().st_uid
            except OSError:  # a kernel thread, or gone
                continue
            if owner == uid and executable.removesuffix(" (deleted)") == old.path:
                yield int(entry.name)
