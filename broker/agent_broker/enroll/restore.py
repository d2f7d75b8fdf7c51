"""Put one file back: exactly as it was if nobody has changed it since, member by member if somebody has.

May be repeated after a kill at any point: what is back already is recognised and left.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from agent_broker.enroll.document import new_text, open_document
from agent_broker.enroll.file_state import Attributes, sha256_of
from agent_broker.enroll.journal import FileRecord, MovedSecret, Transaction
from agent_broker.enroll.plan import version_of
from agent_broker.enroll.pointer import Format, NotEditableError, value_at
from agent_broker.enroll.ports import CredentialStore
from agent_broker.enroll.report import Outcome
from agent_broker.enroll.reverse import reverse_edits
from agent_broker.enroll.user_files import Content, UnsafeFileError, UserFiles
from agent_broker.errors import IntegrityError

KEPT_SUFFIX: Final = ".before-agent-broker-"
"""With the transaction's id: a copy of a file as it was, where the owner's newer value kept an old one out."""
_NEW_FILE_MODE = 0o600

AS_IT_WAS = "as it was: content, mode, owner, times"
"""Access lists and other attributes as well. A change time, a birth time and an inode number nobody can give back."""
REFRESHED = "as it was, with the credential as it was refreshed since"
CLEANED = "your later changes kept; what enroll changed is taken back"
REMOVED = "removed: enroll had made it"


@dataclass(frozen=True)
class Restorer:
    """Puts the files of one transaction back."""

    transaction: Transaction
    store: CredentialStore
    files: UserFiles

    def restore(self, record: FileRecord) -> Outcome:
        """Put one file back, durably.

        Raises:
            UnsafeFileError: what is there now may not be touched; it was not.
            UnavailableError: the vault or the disk did not do its part.
        """
        self._settle(record)
        current = self.files.read(record.path)
        what = self._restore_made(record, current) if record.original is None else self._restore_old(record, current)
        self.files.discard(record.path, self.transaction.temporary(record.path, "old"))
        return Outcome(self.files.absolute(record.path), what)

    def _settle(self, record: FileRecord) -> None:
        """Clear what a killed enrolment left beside the file.

        If the exchange had happened, the temporary name holds what was there before it: the original, which the
        vault has, or, if the owner wrote at that very moment, a newer version, which goes back to its place.
        """
        temporary = self.transaction.temporary(record.path, "new")
        beside = record.path.rpartition("/")[0] + "/" + temporary if "/" in record.path else temporary
        if self.files.look(beside) is None:
            return
        current = self.files.read(record.path)
        if current is not None and sha256_of(current.data) == record.new_sha256 and self._is_newer(beside, record):
            self.files.swap(record.path, temporary, version_of(current))
        self.files.discard(record.path, temporary)

    def _is_newer(self, path: str, record: FileRecord) -> bool:
        try:
            content = self.files.read(path)
        except UnsafeFileError:  # not what enroll left there, nor what it took out
            return False
        return content is not None and sha256_of(content.data) not in (record.new_sha256, record.original_sha256)

    def _restore_made(self, record: FileRecord, current: Content | None) -> str:
        if current is None:
            return "was made by enroll, and is gone"
        if sha256_of(current.data) != record.new_sha256:
            try:
                reversal = reverse_edits(
                    current.data, new_text(record.format), record.edits, record.made_objects, record.format
                )
            except NotEditableError as error:
                return f"left as it is: {error.message}"
            if not open_document(record.format, reversal.data).is_blank:
                self._replace(record, current, reversal.data)
                return CLEANED
        version = version_of(current)
        if version is not None:
            self.files.withdraw(record.path, self.transaction.temporary(record.path, "old"), version)
        return REMOVED

    def _restore_old(self, record: FileRecord, current: Content | None) -> str:
        if current is None and not record.put_back:
            return "was deleted by its owner: left so"
        original, refreshed = self._original(record)
        done = REFRESHED if refreshed else AS_IT_WAS
        if current is None or sha256_of(current.data) == record.new_sha256:
            self._replace(record, current, original, times=not refreshed)
            return done if current is not None else f"was deleted by its owner; made again {done}"
        if current.data == original:
            return done
        return self._clean(record, current, original)

    def _clean(self, record: FileRecord, current: Content, original: bytes) -> str:
        if not record.edits:  # it was replaced as a whole: nothing says what of it is ours
            return f"left as it is, changed since; as it was before enrolment: {self._keep(record, original)}"
        try:
            reversal = reverse_edits(current.data, original, record.edits, record.made_objects, record.format)
        except NotEditableError as error:
            kept = self._keep(record, original)
            return f"left as it is ({error.message}); as it was before enrolment: {kept}"
        self._replace(record, current, reversal.data)
        if not reversal.conflicts:
            return CLEANED
        names = ", ".join(".".join(path) for path in reversal.conflicts)
        return f"{CLEANED}; {names} is newer and stays; as it was before enrolment: {self._keep(record, original)}"

    def _original(self, record: FileRecord) -> tuple[bytes, bool]:
        """Return the file's original bytes with each credential as the vault has it now, and whether any differs."""
        if record.original_id is None:
            return new_text(record.format), False
        data = original = self.store.get_original(record.original_id).reveal()
        for moved in self.transaction.moved:
            if moved.file == record.path and moved.form != "fixed":
                data = self._refreshed(data, moved, record.format)
        return data, data != original

    def _refreshed(self, data: bytes, moved: MovedSecret, file_format: Format) -> bytes:
        now = self.store.get_credential(moved.id)
        if now is None:
            return data
        document = open_document(file_format, data)
        before = value_at(document.value, moved.path)
        if moved.form == "text":
            text = now.reveal().decode()
            return data if text == before else document.with_value(moved.path, text).data
        try:
            members = msgspec.json.decode(now.reveal(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise IntegrityError(f"the credential {moved.id} in the vault is not what was put there") from error
        for key, value in before.items() if isinstance(before, dict) else ():
            if members.get(key, value) != value:
                document = document.with_value((*moved.path, key), members[key])
        return document.data

    def _replace(self, record: FileRecord, current: Content | None, data: bytes, *, times: bool = False) -> None:
        """Put bytes in the file's place, with the mode that it has now, or had if it is gone."""
        if current is not None and current.data == data:
            return
        if current is None:
            self._make_folders(record.path)
        facts = current.state if current is not None else record.original
        was = record.original
        temporary = self.transaction.temporary(record.path, "old")
        self.files.stage(
            record.path,
            temporary=temporary,
            data=data,
            mode=facts.mode if facts else _NEW_FILE_MODE,
            gid=facts.gid if facts else self.transaction.owner_gid,
            times_ns=(was.atime_ns, was.mtime_ns) if times and was else None,
            attributes=self._attributes(record) if current is None else (),
        )
        self.files.swap(record.path, temporary, version_of(current))

    def _make_folders(self, path: str) -> None:
        """Make again what the owner deleted together with the file."""
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            if self.files.look(str(folder)) is None:
                self.files.make_folder(str(folder))

    def _attributes(self, record: FileRecord) -> Attributes:
        """Return the extended attributes and access lists that a file had which is gone now."""
        if record.attributes_id is None:
            return ()
        return msgspec.msgpack.decode(self.store.get_original(record.attributes_id).reveal(), type=Attributes)

    def _keep(self, record: FileRecord, original: bytes) -> str:
        """Write the original beside the file, so that nothing in it is lost, and return its name."""
        path = f"{record.path}{KEPT_SUFFIX}{self.transaction.id}"
        temporary = self.transaction.temporary(path, "old")
        mode = record.original.mode if record.original else _NEW_FILE_MODE
        self.files.stage(path, temporary=temporary, data=original, mode=mode & 0o700, gid=self.transaction.owner_gid)
        try:
            self.files.swap(path, temporary, None)
        except UnsafeFileError as error:
            if error.problem != "changed":  # there already: a killed run has put it there
                raise
            self.files.discard(path, temporary)
        return self.files.absolute(path)
