"""Take a decoy out again: the file exactly as it was if nobody has changed it since, else without our entry alone.

1. Journal ``removing``. The registry entry goes, the monitor and the broker read that: from here nothing is watched,
   so that putting the file back raises no alert.
2. The file is put back, then folders that were made for it go if they are empty.
3. The journal goes.

Each step may be repeated, so a killed removal is finished by running it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.json_document import JsonDocument, NotEditableJsonError
from agent_broker.enroll.plan import version_of
from agent_broker.enroll.plant_entry import without_entry, without_texts
from agent_broker.enroll.plant_journal import PlantJournal, PlantTransaction
from agent_broker.enroll.ports import Watch
from agent_broker.enroll.user_files import Content, UnsafeFileError, UserFiles
from agent_broker.errors import UnavailableError
from agent_broker.identity.planted import remove_planted

AS_IT_WAS = "as it was: content, mode, owner, times"
CLEANED = "your later changes kept; the decoy is out"
REMOVED = "removed: it was made for the decoy"
GONE = "was deleted already"
LEFT = "left as it is: the decoy in it was changed since; look for it there, and delete it"


@dataclass(frozen=True)
class PlantOutcome:
    """What became of one decoy."""

    path: str
    """Absolute."""
    kind: str
    what: str
    warnings: tuple[str, ...] = ()


def restore(  # noqa: PLR0913, PLR0917 - one call, from plant, remove and recover
    transaction: PlantTransaction,
    journal: PlantJournal,
    decoys_dir: Path,
    watch: Watch,
    on_step: Callable[[str], None],
    lock_fd: int,
    *,
    keep_journal: bool = False,
) -> PlantOutcome:
    """Undo a planting from whatever state it is in. See the module. The lock is held.

    Args:
        transaction: which.
        journal: of all.
        decoys_dir: the registry.
        watch: is told.
        on_step: called after each step.
        lock_fd: held by the process that acts as the user too.
        keep_journal: leave the journal in ``removing``, for whoever plants again at once.

    Raises:
        UnsafeFileError: what is there now may not be touched; it was not. The decoy is not watched any more.
        UnavailableError: the disk or the process that acts as the user did not do its part: run it again.
    """
    transaction = journal.write(msgspec.structs.replace(transaction, state="removing"))
    on_step("journal: removing")
    remove_planted(decoys_dir, transaction.decoy)
    on_step("unregistered")
    warnings = _reload(watch)
    on_step("unwatched")
    with UserFiles(transaction.owner, (lock_fd,)) as files:
        what = _Restorer(transaction, files).restore()
        on_step("restored")
        for folder in reversed(transaction.made_folders):
            files.remove_folder(folder)
        on_step("removed folders")
    if not keep_journal:
        journal.forget(transaction)
        on_step("journal: gone")
    return PlantOutcome(transaction.decoy.path, transaction.decoy.kind, what, warnings)


def _reload(watch: Watch) -> tuple[str, ...]:
    try:
        return watch.reload().problems
    except UnavailableError as error:
        return (f"the monitor was not told ({error.message}); it reads the registry when it starts",)


@dataclass(frozen=True)
class _Restorer:
    transaction: PlantTransaction
    files: UserFiles

    def restore(self) -> str:
        """Put the file back, durably; return what became of it."""
        path = self.transaction.path
        if self._has_no_folder():
            return GONE
        self._settle()
        current = self.files.read(path)
        what = GONE if current is None else self._take_out(current)
        self.files.discard(path, self.transaction.temporary("old"))
        return what

    def _has_no_folder(self) -> bool:
        parent, slash, _ = self.transaction.path.rpartition("/")
        return bool(slash) and self.files.look(parent) is None

    def _settle(self) -> None:
        """Clear what a killed planting left beside the file.

        If the exchange had happened, the temporary name holds what was there before it: the original, which follows
        from the new file, or, if the owner wrote at that very moment, a newer version, which goes back to its place.
        """
        path, temporary = self.transaction.path, self.transaction.temporary("new")
        parent, slash, _ = path.rpartition("/")
        beside = f"{parent}{slash}{temporary}"
        if self.files.look(beside) is None:
            return
        current = self.files.read(path)
        if current is not None and sha256_of(current.data) == self.transaction.new_sha256 and self._is_newer(beside):
            self.files.swap(path, temporary, version_of(current))
        self.files.discard(path, temporary)

    def _is_newer(self, path: str) -> bool:
        try:
            content = self.files.read(path)
        except UnsafeFileError:  # not what we left there, nor what we took out
            return False
        ours = (self.transaction.new_sha256, self.transaction.original_sha256)
        return content is not None and sha256_of(content.data) not in ours

    def _take_out(self, current: Content) -> str:
        transaction, digest = self.transaction, sha256_of(current.data)
        if digest == transaction.original_sha256:
            return AS_IT_WAS
        if digest == transaction.new_sha256:
            if transaction.original is None:
                return self._withdraw(current)
            original = without_texts(current.data, transaction.added.texts)
            if sha256_of(original) == transaction.original_sha256:
                self._replace(current, original, (transaction.original.atime_ns, transaction.original.mtime_ns))
                return AS_IT_WAS
        return self._clean(current)

    def _clean(self, current: Content) -> str:
        try:
            rest = without_entry(current.data, self.transaction.added)
        except NotEditableJsonError as error:
            return f"left as it is: {error.message}"
        if rest is None or rest == current.data:
            return LEFT
        if self.transaction.original is None and _is_empty(rest):
            return self._withdraw(current)
        self._replace(current, rest, None)
        return CLEANED

    def _withdraw(self, current: Content) -> str:
        version = version_of(current)
        if version is not None:
            self.files.withdraw(self.transaction.path, self.transaction.temporary("old"), version)
        return REMOVED

    def _replace(self, current: Content, data: bytes, times_ns: tuple[int, int] | None) -> None:
        path, temporary = self.transaction.path, self.transaction.temporary("old")
        state = current.state
        self.files.stage(path, temporary=temporary, data=data, mode=state.mode, gid=state.gid, times_ns=times_ns)
        self.files.swap(path, temporary, version_of(current))


def _is_empty(data: bytes) -> bool:
    if not data.strip():
        return True
    try:
        return not JsonDocument(data).value
    except NotEditableJsonError:
        return False
