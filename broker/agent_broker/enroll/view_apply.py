"""Make a file a view, and undo it. At every step its content is in the file, or in the vault, or in both.

To enroll:
1. Lock, and look again: a file that differs from the plan stops here, with nothing changed.
2. Journal ``sealing``. Content, attributes and the decoy go into the vault.
3. Journal ``linking``. Readers that were not enrolled are, then the policy, then the registry; both daemons read them.
   The view must be there before the file goes.
4. A link beside the file, exchanged with it, the file deleted. Journal ``enrolled``.

To undo, from whatever state: journal ``restoring``; policy and registry go, so that nobody writes any more; the content
as the vault has it goes into the file's place with the file's own mode, attributes and, if nobody wrote it, times;
journal ``emptying``; the vault's records and the journal go. Each step may be repeated.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent_broker.enroll.file_state import Attributes, sha256_of
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.plan import version_of
from agent_broker.enroll.policy_file import policy_path, remove_policy, write_policy
from agent_broker.enroll.ports import Site
from agent_broker.enroll.report import Outcome, Report
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.enroll.view_journal import ViewJournal, ViewTransaction
from agent_broker.enroll.view_plan import PROGRAM_PREFIX, ViewPlan
from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError, UnavailableError
from agent_broker.honeytoken.file_likeness import decoy_of_file
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.registry import load_registry, remove_enrollment, save_enrollment
from agent_broker.identity.viewed import ViewedFile, load_viewed, remove_viewed, save_viewed
from agent_broker.ids import AgentName, Uid
from agent_broker.vault.secret import Secret

CONTENT_KIND: Final = "viewed-file"
DECOY_KIND: Final = "viewed-decoy"
_MOUNT_S: Final = 20.0
_LOOK_EVERY_S: Final = 0.05
AS_IT_WAS: Final = "as it was: content, mode, owner, times"
WRITTEN: Final = "as it was, with what was written to it since"


@dataclass(frozen=True)
class ViewSite:
    """Where views are registered, beside all else."""

    site: Site
    files_dir: Path
    is_shown: Callable[[], bool]
    """Whether the view is mounted now; must not look into it."""
    attributes: Callable[[int, int], dict[str, str]]
    """What the vault keeps of a file in clear, by size and mode (view.content)."""

    @property
    def tools_dir(self) -> Path:
        """Where programs are registered.

        Raises:
            MisuseError: nowhere.
        """
        if self.site.tools_dir is None:
            raise MisuseError("no registry of tools is known here")
        return self.site.tools_dir


def apply_view(plan: ViewPlan, place: ViewSite) -> Report:
    """Enroll, or change nothing.

    Raises:
        MisuseError: the file is not as it was planned, or may not be touched.
        UnavailableError: another transaction is at work; vault, monitor or disk did not do their part.
        IntegrityError: it failed, and could not be undone either: ``enroll --recover`` will.
    """
    with (
        TransactionFolder(place.site.journal_dir) as lock,
        UserFiles(plan.owner, (lock.lock_fd,)) as files,
    ):
        journal = ViewJournal(place.site.journal_dir)
        if journal.find(plan.viewed.name, plan.viewed.owner_uid) is not None:
            raise MisuseError(f"{plan.viewed.absolute} was left half-way", next_step="agent-broker enroll --recover")
        content = files.read(plan.viewed.path)
        if content is None or version_of(content) != plan.version:
            raise MisuseError(f"{plan.viewed.absolute} changed since the plan was made", next_step="try again")
        transaction = _begin(plan, content)
        try:
            return _run(plan, place, journal, files, transaction, content)
        except (Exception, KeyboardInterrupt) as error:
            files.close()  # it may be the reason, and must do nothing any more
            _undo_after(error, place, journal, plan)
            raise


def _begin(plan: ViewPlan, content: Content) -> ViewTransaction:
    return ViewTransaction(
        id=secrets.token_hex(6),
        state="sealing",
        viewed=plan.viewed,
        owner_groups=plan.owner.groups,
        original=content.state,
        original_sha256=sha256_of(content.data),
        target=plan.target,
        has_attributes=bool(content.attributes),
    )


def _run(  # noqa: PLR0913, PLR0917 - the parts of one transaction
    plan: ViewPlan,
    place: ViewSite,
    journal: ViewJournal,
    files: UserFiles,
    transaction: ViewTransaction,
    content: Content,
) -> Report:
    step, viewed = place.site.on_step, plan.viewed
    journal.write(transaction)
    step("journal: sealing")
    viewed = _seal(viewed, transaction, place, content)
    policy = first_rules(viewed)
    transaction = journal.write(
        msgspec.structs.replace(transaction, state="linking", viewed=viewed, policy_sha256=sha256_of(policy))
    )
    step("journal: linking")
    problems = _register(plan, viewed, place, policy)
    _wait_until_shown(place)
    step("shown")
    files.stage_link(viewed.path, temporary=transaction.temporary("new"), target=plan.target)
    step("staged the link")
    files.swap(viewed.path, transaction.temporary("new"), plan.version)
    step("swapped")
    files.discard(viewed.path, transaction.temporary("new"))
    journal.write(msgspec.structs.replace(transaction, state="enrolled"))
    step("journal: enrolled")
    outcome = Outcome(viewed.absolute, f"a link to {plan.target}; its content is in the vault")
    return Report(viewed.name, viewed.owner_name, "enrolled", (outcome,), problems)


def _seal(viewed: ViewedFile, transaction: ViewTransaction, place: ViewSite, content: Content) -> ViewedFile:
    """Fill the vault; return the record with the digests of the decoy that was made."""
    store = place.site.store
    kept = place.attributes(len(content.data), content.state.mode)
    store.put_credential(viewed.content_id, CONTENT_KIND, Secret(content.data), kept)
    place.site.on_step("sealed the content")
    if content.attributes:
        packed = Secret(msgspec.msgpack.encode(content.attributes))
        store.put_original(transaction.attributes_id, viewed.absolute, packed)
        place.site.on_step("sealed the attributes")
    decoy, values = decoy_of_file(content.data)
    store.put_credential(viewed.decoy_id, DECOY_KIND, Secret(decoy), {})
    place.site.on_step("sealed the decoy")
    return msgspec.structs.replace(viewed, decoy_sha256=digests_of(values))


def _register(plan: ViewPlan, viewed: ViewedFile, place: ViewSite, policy: bytes) -> tuple[str, ...]:
    site = place.site
    for folder in (place.files_dir, place.tools_dir):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for program in plan.programs:
        save_enrollment(place.tools_dir, program)
    site.on_step("enrolled the readers")
    path = policy_path(site.policy_dir, viewed.name, viewed.owner_uid)
    said = []
    if path.exists():
        said.append(f"{path} was there already and stays: make sure that it allows {viewed.content_id}")
    else:
        write_policy(path, policy)
    site.on_step("wrote the policy")
    save_viewed(place.files_dir, viewed)
    site.on_step("registered")
    answer = site.watch.reload()
    site.on_step("reloaded")
    return (*said, *answer.problems)


def _wait_until_shown(place: ViewSite) -> None:
    deadline_s = time.monotonic() + _MOUNT_S
    while not place.is_shown():
        if time.monotonic() > deadline_s:
            raise UnavailableError("the file view is not mounted", next_step="see the broker's log; is FUSE there?")
        time.sleep(_LOOK_EVERY_S)


def first_rules(viewed: ViewedFile) -> bytes:
    """Return the rules that an enrolment writes: its readers, started by the owner, and agents that are named."""
    agents = [name for name in viewed.readers if name not in viewed.programs]
    rules = (
        f"# Written by: agent-broker enroll --file {viewed.absolute}. Deleted by unenroll, unless edited.\n"
        "# The programs that read the file, started by yourself; with agent = ... in the place of session: below it.\n"
        f'[[rule]]\nsession = "user"\ncredential = "{viewed.content_id}"\nmodes = ["view"]\n'
    )
    own = [f'\n[[rule]]\nagent = "{name}"\ncredential = "{viewed.content_id}"\nmodes = ["view"]\n' for name in agents]
    return "".join((rules, *own)).encode()


def unenroll_view(name: AgentName, owner_uid: Uid, place: ViewSite) -> Report:
    """Put a file back, and forget it.

    Raises:
        MisuseError: it is no view, or what is in its place may not be touched.
        UnavailableError: another transaction is at work; vault or disk did not do their part: run it again.
    """
    with TransactionFolder(place.site.journal_dir):
        journal = ViewJournal(place.site.journal_dir)
        transaction = journal.find(name, owner_uid)
        if transaction is None:
            raise MisuseError("the file is no view", next_step="after a crash: agent-broker enroll --recover")
        return undo_view(transaction, journal, place)


def recover_views(place: ViewSite) -> tuple[Report, ...]:
    """Undo every interrupted enrolment of a file, and finish every interrupted undoing. Raises as unenroll_view."""
    with TransactionFolder(place.site.journal_dir):
        journal = ViewJournal(place.site.journal_dir)
        return tuple(undo_view(each, journal, place) for each in tuple(journal.all()) if each.state != "enrolled")


def undo_view(transaction: ViewTransaction, journal: ViewJournal, place: ViewSite) -> Report:
    """Undo a transaction; the journals are locked. See the module, and unenroll_view for what is raised."""
    step, viewed = place.site.on_step, transaction.viewed
    outcome, warnings = "was not touched", tuple[str, ...]()
    if transaction.state not in {"sealing", "emptying"}:
        transaction = journal.write(msgspec.structs.replace(transaction, state="restoring"))
        step("journal: restoring")
        warnings = _withdraw(transaction, place)
        with UserFiles(transaction.owner) as files:
            outcome = _restore(transaction, place, files)
        step("restored")
    journal.write(msgspec.structs.replace(transaction, state="emptying"))
    step("journal: emptying")
    place.site.store.remove_agent(viewed.name, viewed.owner_uid)
    step("emptied the vault")
    journal.forget(transaction)
    step("journal: gone")
    done = (Outcome(viewed.absolute, outcome),)
    return Report(viewed.name, viewed.owner_name, "not enrolled", done, warnings)


def _withdraw(transaction: ViewTransaction, place: ViewSite) -> tuple[str, ...]:
    """Take the file out of policy and registry, so that nobody is served or writes any more."""
    site, viewed = place.site, transaction.viewed
    left = remove_policy(policy_path(site.policy_dir, viewed.name, viewed.owner_uid), transaction.policy_sha256)
    remove_viewed(place.files_dir, viewed)
    others = {
        name for each in load_viewed(place.files_dir) if each.owner_uid == viewed.owner_uid for name in each.readers
    }
    for program in load_registry(place.tools_dir):
        is_ours = program.agent.startswith(PROGRAM_PREFIX) and program.owner_uid == viewed.owner_uid
        if is_ours and program.agent in viewed.readers and program.agent not in others:
            remove_enrollment(place.tools_dir, program)
    site.on_step("unregistered")
    said = [left] if left else []
    try:
        said += site.watch.reload().problems
    except UnavailableError as error:
        said.append(f"the monitor was not told ({error.message}); it reads the registry when it starts")
    site.on_step("reloaded")
    return tuple(said)


def _restore(transaction: ViewTransaction, place: ViewSite, files: UserFiles) -> str:
    viewed, temporary = transaction.viewed, transaction.temporary("old")
    files.discard(viewed.path, transaction.temporary("new"))
    seen = files.look(viewed.path)
    is_link = seen is not None and files.link_target(viewed.path) == transaction.target
    now = place.site.store.get_credential(viewed.content_id)
    data = b"" if now is None else now.reveal()
    is_same = sha256_of(data) == transaction.original_sha256
    if seen is not None and not is_link:
        return _beside_other(transaction, files, data)
    attributes: Attributes = ()
    if transaction.has_attributes:
        packed = place.site.store.get_original(transaction.attributes_id).reveal()
        attributes = msgspec.msgpack.decode(packed, type=Attributes)
    was = transaction.original
    times = (was.atime_ns, was.mtime_ns) if is_same else None
    mode = was.mode
    files.stage(
        viewed.path, temporary=temporary, data=data, mode=mode, gid=was.gid, times_ns=times, attributes=attributes
    )
    if is_link:
        files.swap_link(viewed.path, temporary, transaction.target)
    else:
        files.swap(viewed.path, temporary, None)
    return AS_IT_WAS if is_same else WRITTEN


def _beside_other(transaction: ViewTransaction, files: UserFiles, data: bytes) -> str:
    """Something else is in the link's place: it stays. What the vault has goes beside it, unless it is the same."""
    path = transaction.viewed.path
    current = files.read(path)
    if current is not None and current.data == data:
        return "a plain file with the same content was in the link's place: it stays"
    kept = f"{path}.before-agent-broker-{transaction.id}"
    if files.look(kept) is None:
        temporary = transaction.temporary("old")
        files.stage(kept, temporary=temporary, data=data, mode=0o600, gid=transaction.viewed.owner_gid)
        files.swap(kept, temporary, None)
    return f"another file was in the link's place, and stays; what the vault had is in {files.absolute(kept)}"


def _undo_after(error: BaseException, place: ViewSite, journal: ViewJournal, plan: ViewPlan) -> None:
    transaction = journal.find(plan.viewed.name, plan.viewed.owner_uid)
    if transaction is None:
        return  # not even begun
    what = error.message if isinstance(error, AgentBrokerError) else type(error).__name__
    try:
        undo_view(transaction, journal, place)
    except AgentBrokerError as second:
        raise IntegrityError(
            f"the enrolment failed ({what}), and could not be undone yet ({second.message})",
            next_step="agent-broker enroll --recover",
        ) from error
