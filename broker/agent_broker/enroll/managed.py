"""Claude Code's managed settings: every user's Claude goes to the broker, and no project leads it away.

What ``managed-settings.json`` says beats the user's and the project's settings, and the environment (observed with
2.1): with the broker's address and a helper of ours in it, a hostile repository's address is not used, and its
apiKeyHelper is not run. Ours prints the phantom of the user who runs it: credentials stay each user's own.

It is a transaction like an enrolment's, of a file of root's: written to the journal first, its bytes in the vault,
exchanged in one step; undone, and after a kill recovered, by the same code (``undo``, ``recover``). Members that are
there stay; one that we replace comes back.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent_broker.disk import require_root_owned
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.journal import FileRecord, Transaction, TransactionFolder
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plan import credential_id, version_of
from agent_broker.enroll.ports import Site
from agent_broker.enroll.recipe import Edit, SetMember
from agent_broker.enroll.report import Outcome, Report
from agent_broker.enroll.rewrite import rewritten
from agent_broker.enroll.undo import undo
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError
from agent_broker.identity.registry import Enrollment
from agent_broker.ids import AgentName, Uid
from agent_broker.vault.secret import Secret

MANAGED: Final = AgentName("claude-managed")
"""Stands for an agent's name in the journal and the vault; no agent is called so."""
ROOT: Final = Uid(0)
FILE_NAME: Final = "managed-settings.json"
_BASE_URL: Final = ("env", "ANTHROPIC_BASE_URL")
_HELPER: Final = ("apiKeyHelper",)
_SECRETS: Final = (
    ("env", "ANTHROPIC_API_KEY"),
    ("env", "ANTHROPIC_AUTH_TOKEN"),
    ("env", "CLAUDE_CODE_OAUTH_TOKEN"),
)
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644


@dataclass(frozen=True)
class ManagedPlan:
    """What a person is asked to agree to."""

    folder: Path
    content: Content | None
    """Of the file now; None: it is missing."""
    edits: tuple[Edit, ...]
    warnings: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The file that is changed."""
        return self.folder / FILE_NAME


def plan_managed(folder: Path, url: str, helper: str, enrolled: Iterable[Enrollment]) -> ManagedPlan:
    """Look, change nothing.

    Args:
        folder: ``/etc/claude-code``.
        url: of the broker's endpoint.
        helper: a shell command that prints the phantom of whoever runs it.
        enrolled: all enrolments.

    Raises:
        MisuseError: the file holds a credential, or can't be edited safely.
        IntegrityError: others than root could have written the folder.
    """
    names = [each.owner_name for each in enrolled if each.agent == "claude"]
    here = ", ".join(names) or "nobody yet"
    warnings = [f"enrolled: {here}; the Claude of every other user has no credential until that user is enrolled"]
    if not folder.is_dir():
        return ManagedPlan(folder, None, _edits(url, helper), tuple(warnings))
    require_root_owned(folder, folder.lstat())
    with UserFiles(_owner(folder)) as files:
        file = _load(files)
    for path, new in ((_BASE_URL, url), (_HELPER, helper)):
        if file.text(path) not in {None, new}:
            warnings.append(f"{'.'.join(path)} has another value: replaced, and back when this is undone")
    return ManagedPlan(folder, file.content, _edits(url, helper), tuple(warnings))


def apply_managed(plan: ManagedPlan, site: Site) -> Report:
    """Write the settings, or change nothing.

    Raises:
        MisuseError: it is done already, or the file is not as it was planned.
        UnavailableError: another transaction is at work; the vault or the disk did not do its part.
        IntegrityError: it failed, and could not be undone either: ``recover`` will.
    """
    with TransactionFolder(site.journal_dir) as journal:
        if journal.find(MANAGED, ROOT) is not None:
            raise MisuseError(
                "the managed settings are set already, or half-way", next_step="agent-broker managed remove"
            )
        plan.folder.mkdir(mode=_FOLDER_MODE, exist_ok=True, parents=True)
        require_root_owned(plan.folder, plan.folder.lstat())
        with UserFiles(_owner(plan.folder), (journal.lock_fd,)) as files:
            if _load(files).content != plan.content:
                raise MisuseError(f"{plan.file} has changed since the plan was made", next_step="make the plan again")
            transaction = _begin(plan, site)
            try:
                _write(plan, transaction, journal, site, files)
            except (Exception, KeyboardInterrupt) as error:
                files.close()
                _undo_after(error, transaction, journal, site)
                raise
    outcome = Outcome(str(plan.file), "every user's Claude goes to the broker; other members stay")
    return Report(MANAGED, "root", "set", (outcome,), plan.warnings)


def _owner(folder: Path) -> Owner:
    return Owner(ROOT, 0, (0,), "root", str(folder))


def _load(files: UserFiles) -> DocumentFile:
    file = DocumentFile.load(files, FILE_NAME)
    file.require_object(("env",))
    if file.content is not None and not _is_strict(file.content.data):
        raise MisuseError(
            f"{file.name} is not plain JSON (a comment, a last comma): Claude takes none of its settings",
            next_step="remove what JSON does not have, then try again",
        )
    for path in _SECRETS:
        if file.has(path):
            raise MisuseError(
                f"{file.name} holds a credential for every user in {'.'.join(path)}",
                next_step="enroll each user with a key of their own, remove it there, then try again",
            )
    return file


def _is_strict(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        return False
    return True


def _edits(url: str, helper: str) -> tuple[Edit, ...]:
    return (SetMember(_BASE_URL, url), SetMember(_HELPER, helper))


def _begin(plan: ManagedPlan, site: Site) -> Transaction:
    version = version_of(plan.content)
    record = FileRecord(
        path=FILE_NAME,
        original=version.state if version else None,
        original_sha256=version.sha256 if version else None,
        original_id=credential_id(MANAGED, ROOT, "original/0") if version else None,
        put_back=True,
    )
    return Transaction(
        id=secrets.token_hex(6),
        state="sealing",
        agent=MANAGED,
        owner_uid=ROOT,
        owner_gid=0,
        owner_groups=(0,),
        owner_name="root",
        home=str(plan.folder),
        started_ns=site.clock.wall_ns(),
        files=(record,),
        moved=(),
    )


def _write(
    plan: ManagedPlan, transaction: Transaction, journal: TransactionFolder, site: Site, files: UserFiles
) -> None:
    journal.write(transaction)
    site.on_step("journal: sealing")
    (record,) = transaction.files
    if record.original_id is not None and plan.content is not None:
        site.store.put_original(record.original_id, str(plan.file), Secret(plan.content.data))
        site.on_step("sealed the original")
    data, edits, made = rewritten(plan.content.data if plan.content else None, plan.edits, {})
    record = msgspec.structs.replace(record, edits=edits, made_objects=made, new_sha256=sha256_of(data))
    transaction = journal.write(msgspec.structs.replace(transaction, state="rewriting", files=(record,)))
    site.on_step("journal: rewriting")
    temporary = transaction.temporary(FILE_NAME, "new")
    state = plan.content.state if plan.content else None
    mode, gid = (state.mode, state.gid) if state else (_FILE_MODE, 0)
    files.stage(FILE_NAME, temporary=temporary, data=data, mode=mode, gid=gid)
    site.on_step("staged")
    files.swap(FILE_NAME, temporary, version_of(plan.content))
    site.on_step("swapped")
    files.discard(FILE_NAME, temporary)
    site.on_step("rewrote")
    journal.write(msgspec.structs.replace(transaction, state="enrolled"))
    site.on_step("journal: set")


def _undo_after(error: BaseException, begun: Transaction, journal: TransactionFolder, site: Site) -> None:
    transaction = journal.find(MANAGED, ROOT)
    if transaction is None:
        return  # not even begun
    try:
        undo(transaction, journal, site)
    except AgentBrokerError as second:
        raise IntegrityError(
            f"{begun.home}/{FILE_NAME} could not be written, nor be put back yet ({second.message})",
            next_step="agent-broker enroll --recover",
        ) from error
