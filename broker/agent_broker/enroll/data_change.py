"""What happens to one file of an agent whose recipe is data, noted while the home is looked at."""

from dataclasses import dataclass, field

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import Edit, InjectionPath, RemoveMember, Row, SetMember, SurveyedFile, Wire
from agent_broker.enroll.recipe_file import Place
from agent_broker.honeytoken.likeness import decoy_like

_SHARED = frozenset({"shell", "fish", "systemd"})
"""Formats of files that every program of the user reads."""


@dataclass
class Change:
    """One file."""

    file: DocumentFile
    edits: dict[Pointer, Edit] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    will: list[str] = field(default_factory=list)
    decoys: list[str] = field(default_factory=list)
    watched: bool = False

    def replace(self, place: Place, text: str, *, phantom: bool) -> None:
        """Put in a secret's place what the recipe says; ``phantom``: this is the place that the agent reads."""
        if place.becomes == "removed":
            self.edits[place.pointer] = RemoveMember(place.pointer)
            self._note(place, "secret to the vault; its entry removed")
        elif place.becomes == "phantom" and phantom:
            self.put(place, Wire.PHANTOM, "secret to the vault; a phantom instead")
        else:
            decoy = decoy_like(text)
            self.decoys.append(decoy)
            self.put(place, decoy, "secret to the vault; a decoy of the same shape instead")

    def put(self, place: Place, value: str | Wire, will: str) -> None:
        """Put a value there; the file is watched if the recipe says so."""
        self.edits[place.pointer] = SetMember(place.pointer, value)
        self._note(place, will)

    def _note(self, place: Place, will: str) -> None:
        self.will.append(will)
        self.watched |= place.watch and place.format not in _SHARED

    @property
    def surveyed(self) -> SurveyedFile:
        """The file as the survey has it."""
        return SurveyedFile(self.file.path, self.file.content, tuple(self.edits.values()), format=self.file.format)

    @property
    def row(self) -> Row:
        """Its row of the plan."""
        made = "" if self.file.content is not None else "made: "
        holds = ", ".join(self.holds) or "no secret that is moved"
        will = "; ".join(dict.fromkeys(self.will)) + ("; watched" if self.watched else "")
        return Row(self.file.name, holds if self.file.content is not None else "does not exist", made + will)


def is_wired(edit: Edit) -> bool:
    """Whether an edit leads the agent to the broker."""
    return isinstance(edit, SetMember) and isinstance(edit.value, Wire | InjectionPath)
