"""One enrolment under way: its steps, in the order that apply says, each durable before the next begins."""

import dataclasses
import secrets
from pathlib import Path

import msgspec

from agent_broker.enroll.entry import enrollment_of
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.helper_links import make_links
from agent_broker.enroll.journal import FileRecord, MovedSecret, Transaction, TransactionFolder
from agent_broker.enroll.plan import Plan, credential_id, version_of
from agent_broker.enroll.policy_file import policy_path, policy_text, write_policy
from agent_broker.enroll.ports import Site
from agent_broker.enroll.recipe import Survey, SurveyedFile, Wire
from agent_broker.enroll.report import Outcome, Report
from agent_broker.enroll.rewrite import rewritten
from agent_broker.enroll.undo import undo
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.verify import search, verify
from agent_broker.errors import AgentBrokerError, IntegrityError
from agent_broker.identity.registry import save_enrollment
from agent_broker.ids import CredentialId
from agent_broker.vault.secret import Secret

NEW_FILE_MODE = 0o600


class Enrolling:
    """One enrolment under way: ``run`` once, and ``undo_after`` whatever it raised."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of one transaction, made in one place
        self,
        plan: Plan,
        site: Site,
        injection_url: str,
        journal: TransactionFolder,
        files: UserFiles,
        survey: Survey,
    ) -> None:
        self._plan = plan
        self._site = site
        self._injection_url = injection_url
        self._journal = journal
        self._files = files
        self._survey = survey
        self._transaction = self._begin()

    def run(self) -> Report:
        """Carry out every step.

        Raises:
            MisuseError, UnavailableError, IntegrityError: one failed; nothing is undone yet.
        """
        self._write()
        self._step("journal: sealing")
        phantom = self._seal()
        contents = self._design({Wire.PHANTOM: phantom, Wire.INJECTION_URL: self._injection_url})
        self._write()
        self._step("journal: rewriting")
        for record, data in zip(self._transaction.files, contents, strict=True):
            self._rewrite(record, data)
        leaks = search(self._plan.owner, self._survey, self._site, self._files)
        verify(self._transaction, self._files)
        self._step("verified")
        problems = self._register()
        self._change(state="enrolled")
        self._step("journal: enrolled")
        return Report(
            agent=self._plan.agent,
            owner_name=self._plan.owner.name,
            summary="enrolled",
            outcomes=tuple(Outcome(row.file, row.will) for row in self._plan.rows),
            warnings=(*leaks, *problems),
        )

    def undo_after(self, error: BaseException) -> None:
        """Put everything back, with a fresh process for the files.

        The present one may be the reason, and may be stopped with a request in its queue: it has to be gone first.
        """
        self._files.close()
        if self._journal.find(self._plan.agent, self._plan.owner.uid) is None:
            return  # not even begun
        what = error.message if isinstance(error, AgentBrokerError) else type(error).__name__
        try:
            quiet = dataclasses.replace(self._site, on_step=lambda _: None)
            undo(self._transaction, self._journal, quiet, self._plan.folders)
        except AgentBrokerError as second:
            raise IntegrityError(
                f"the enrolment failed ({what}), and could not be undone yet ({second.message})",
                next_step="agent-broker enroll --recover",
            ) from error

    def _begin(self) -> Transaction:
        plan, owner = self._plan, self._plan.owner
        return Transaction(
            id=secrets.token_hex(6),
            state="sealing",
            agent=plan.agent,
            owner_uid=owner.uid,
            owner_gid=owner.gid,
            owner_groups=owner.groups,
            owner_name=owner.name,
            home=owner.home,
            started_ns=self._site.clock.wall_ns(),
            files=tuple(self._record(place, file) for place, file in enumerate(self._survey.files)),
            moved=tuple(
                MovedSecret(credential_id(plan.agent, owner.uid, secret.name), secret.file, secret.path, secret.form)
                for secret in self._survey.secrets
            ),
            links=self._survey.links,
        )

    def _record(self, place: int, file: SurveyedFile) -> FileRecord:
        version = version_of(file.content)
        name = credential_id(self._plan.agent, self._plan.owner.uid, f"original/{place}")
        return FileRecord(
            path=file.path,
            original=version.state if version else None,
            original_sha256=sha256_of(file.content.data) if file.content else None,
            original_id=name if version else None,
            attributes_id=CredentialId(f"{name}/attributes") if file.content and file.content.attributes else None,
            put_back=file.put_back,
            format=file.format,
        )

    def _seal(self) -> str:
        store = self._site.store
        for record, file in zip(self._transaction.files, self._survey.files, strict=True):
            if record.original_id is not None and file.content is not None:
                store.put_original(record.original_id, self._files.absolute(file.path), Secret(file.content.data))
                self._step(f"sealed original {file.path}")
            if record.attributes_id is not None and file.content is not None:
                attributes = Secret(msgspec.msgpack.encode(file.content.attributes))
                store.put_original(record.attributes_id, self._files.absolute(file.path), attributes)
                self._step(f"sealed attributes {file.path}")
        for secret, moved in zip(self._survey.secrets, self._transaction.moved, strict=True):
            store.put_credential(moved.id, secret.kind, secret.value, secret.attributes)
            self._step(f"sealed credential {secret.name}")
        if self._plan.tool is not None:  # nothing is injected for it
            make_links(self._transaction.links, self._plan.tool.serving.shim)
            return ""
        phantom = store.make_phantom(self._plan.agent, self._plan.owner.uid, self._plan.active)
        self._step("made the phantom")
        return phantom.reveal().decode()

    def _design(self, wiring: dict[Wire, str]) -> list[bytes]:
        records, contents = [], []
        for record, file in zip(self._transaction.files, self._survey.files, strict=True):
            data, edits, made = rewritten(file.content.data if file.content else None, file.edits, wiring, file.format)
            digest = sha256_of(data)
            records.append(msgspec.structs.replace(record, edits=edits, made_objects=made, new_sha256=digest))
            contents.append(data)
        self._transaction = msgspec.structs.replace(self._transaction, state="rewriting", files=tuple(records))
        return contents

    def _rewrite(self, record: FileRecord, data: bytes) -> None:
        temporary = self._transaction.temporary(record.path, "new")
        mode = record.original.mode if record.original else NEW_FILE_MODE
        gid = record.original.gid if record.original else self._plan.owner.gid
        self._files.stage(record.path, temporary=temporary, data=data, mode=mode, gid=gid)
        self._step(f"staged {record.path}")
        planned = next(file for file in self._plan.files if file.path == record.path)
        self._files.swap(record.path, temporary, planned.version)
        self._step(f"swapped {record.path}")
        self._files.discard(record.path, temporary)
        self._step(f"rewrote {record.path}")

    def _register(self) -> tuple[str, ...]:
        plan = self._plan
        path = policy_path(self._site.policy_dir, plan.agent, plan.owner.uid)
        problems = []
        if path.exists():
            problems.append(f"{path} was there already and stays: make sure that it allows {plan.active}")
        else:
            made_by = f"enroll {plan.agent} --user {plan.owner.name}"
            text = policy_text(plan.agent, plan.owner.uid, plan.active, made_by)
            text = text if plan.tool is None else plan.tool.policy
            self._change(policy_sha256=sha256_of(text))
            write_policy(path, text)
        self._step("wrote the policy")
        folder = self._site.registry_dir
        if plan.tool is not None and self._site.tools_dir is not None:
            folder = self._site.tools_dir
        _make_folder(folder)
        enrollment = enrollment_of(plan, self._survey, self._files, self._transaction.started_ns)
        save_enrollment(folder, enrollment)
        self._step("registered")
        answer = self._site.watch.reload()
        self._step("reloaded")
        return (*problems, *answer.problems)

    def _change(self, **changes: object) -> None:
        self._transaction = msgspec.structs.replace(self._transaction, **changes)
        self._write()

    def _write(self) -> None:
        self._journal.write(self._transaction)

    def _step(self, name: str) -> None:
        self._site.on_step(name)


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
