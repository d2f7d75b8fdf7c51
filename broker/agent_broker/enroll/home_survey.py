"""What every agent's look at a home notes, whatever its files are: one place for what becomes of a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.exported import Exports, Taken
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import AbsentError, Decoy, Edit, FoundSecret, Row, Survey, SurveyedFile
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.variables import Variable
from agent_broker.errors import MisuseError
from agent_broker.vault.secret import Secret


@dataclass(kw_only=True)
class HomeSurvey:
    """One look at one home. An agent's own survey fills it."""

    files: UserFiles
    owner: Owner
    exports: Exports | None = None
    """Takes the keys that profiles export; None: nobody asked for them."""
    movable: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Keys that stay since another agent reads them."""
    secrets: list[FoundSecret] = field(default_factory=list)
    changed: list[SurveyedFile] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    needles: list[Secret] = field(default_factory=list)

    def take_exported(self, variables: Mapping[str, Variable], own: Iterable[str]) -> tuple[FoundSecret, ...]:
        """Take the keys that profiles export, if the owner agreed; otherwise show them.

        Args:
            variables: what the agent reads.
            own: the agent's own files, which its survey edits itself.

        Returns:
            The keys, for the survey to put among its secrets: their order is the agent's precedence.
        """
        if self.exports is None:
            return ()
        taken: Taken = self.exports.take(self.files, self.owner, variables, own)
        self.changed += taken.files
        self.needles += taken.needles
        self.rows += taken.rows
        self.warnings += taken.warnings
        self.movable, self.kept = taken.movable, taken.kept
        return taken.secrets

    def change(self, file: DocumentFile, edits: list[Edit], holds: str, will: str) -> None:
        """Note what becomes of a file, and its row of the plan."""
        self.changed.append(SurveyedFile(file.path, file.content, tuple(edits), format=file.format))
        made = "" if file.content is not None else "made: "
        self.rows.append(Row(file.name, holds if file.content is not None else "does not exist", made + will))

    def nothing(self, message: str, next_step: str) -> MisuseError:
        """Return the error of a home without a credential that moves."""
        if self.movable:
            return MisuseError(
                f"{message}; but {', '.join(self.movable)}", next_step="add --profiles, which moves what profiles set"
            )
        if self.kept:
            return MisuseError(
                f"{message}; but {', '.join(self.kept)}", next_step="enroll the agents in one command, with --profiles"
            )
        return AbsentError(message, next_step=next_step)

    def result(self, active: str, decoys: tuple[Decoy, ...], scan_first: tuple[str, ...]) -> Survey:
        """Return the survey, once everything is noted."""
        return Survey(
            files=tuple(self.changed),
            secrets=tuple(self.secrets),
            active=active,
            decoys=decoys,
            needles=tuple(self.needles),
            scan_first=scan_first,
            rows=tuple(self.rows),
            warnings=tuple(self.warnings),
            movable=self.movable,
        )
