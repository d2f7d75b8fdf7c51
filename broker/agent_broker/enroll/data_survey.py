"""What a recipe that is data finds in a home, and what it does there."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.pointer import MISSING, Pointer
from agent_broker.enroll.profile import exports
from agent_broker.enroll.recipe import (
    Decoy,
    Edit,
    FoundSecret,
    InjectionPath,
    RemoveMember,
    Row,
    SetMember,
    Survey,
    SurveyedFile,
    Wire,
)
from agent_broker.enroll.recipe_file import ADDRESS, PHANTOM, Credential, Place, RecipeFile, Setting
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import decoy_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.vault.record import BASE_URL_ATTRIBUTE
from agent_broker.vault.secret import Secret

_SHARED = frozenset({"shell", "fish", "systemd"})
"""Formats of files that every program of the user reads."""


@dataclass
class _Change:
    """What happens to one file."""

    file: DocumentFile
    edits: dict[Pointer, Edit] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    will: list[str] = field(default_factory=list)
    decoys: list[str] = field(default_factory=list)
    watched: bool = False


@dataclass
class DataSurvey:
    """One look at one home."""

    files: UserFiles
    recipe: RecipeFile
    secrets: list[FoundSecret] = field(default_factory=list)
    needles: list[Secret] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changes: dict[str, _Change] = field(default_factory=dict)

    def survey(self) -> Survey:
        """Return what is there and what shall be done.

        Raises:
            MisuseError: see Recipe.survey.
        """
        active: Credential | None = None
        for credential in self.recipe.credential:
            found = [(place, text) for place, text in self._texts(credential) if text]
            if not found:
                continue
            active = active or credential
            for place, text in found:
                self._take(credential, place, text, in_use=credential is active)
        if active is None:
            raise self._nothing_to_enroll()
        for setting in active.set:
            self._set(setting)
        self._tell(active)
        changes = [change for change in self.changes.values() if change.edits]
        for change in changes:
            self.files.check_folder(str(PurePath(change.file.path).parent))
        return Survey(
            files=tuple(_surveyed(change) for change in changes),
            secrets=tuple(self.secrets),
            active=active.name,
            decoys=tuple(
                Decoy(change.file.path, f"{self.recipe.name}-credential", digests_of(change.decoys))
                for change in changes
                if change.watched
            ),
            needles=tuple(self.needles),
            scan_first=tuple(change.file.path for change in changes),
            rows=tuple(_row(change) for change in changes),
            warnings=tuple(self.warnings),
        )

    def _texts(self, credential: Credential) -> Iterator[tuple[Place, str | None]]:
        for place in credential.place:
            change = self._change(place)
            yield place, change.file.text(place.pointer)

    def _change(self, place: Place | Setting) -> _Change:
        if place.file not in self.changes:
            self.changes[place.file] = _Change(DocumentFile.load(self.files, place.file, place.format))
        return self.changes[place.file]

    def _take(self, credential: Credential, place: Place, text: str, *, in_use: bool) -> None:
        """Note a secret; the first place of a credential is the one that the agent reads."""
        held = [each for each in self.secrets if each.name.split("+")[0] == credential.name]
        secret = Secret(text.encode())
        if not any(each.value.reveal() == secret.reveal() for each in held):
            name = f"{credential.name}-{len(held) + 1}" if held else credential.name
            attributes = {BASE_URL_ATTRIBUTE: credential.base_url} if credential.base_url else {}
            self.secrets.append(
                FoundSecret(name, credential.kind, secret, place.file, place.pointer, "text", attributes)
            )
            self.needles.append(secret)
        if held and len(held) < len(self.secrets) and self.secrets[-1].name != held[-1].name:
            self.warnings.append(f"{self.files.absolute(place.file)} holds another {credential.name}: only kept")
        change = self._change(place)
        change.holds.append(f"{credential.kind} ({'.'.join(place.pointer)})")
        change.watched |= place.watch and place.format not in _SHARED
        self._replace(change, place, text, phantom=in_use and not held)

    def _replace(self, change: _Change, place: Place, text: str, *, phantom: bool) -> None:
        if place.becomes == "removed":
            change.edits[place.pointer] = RemoveMember(place.pointer)
            change.will.append("secret to the vault; its entry removed")
        elif place.becomes == "phantom" and phantom:
            change.edits[place.pointer] = SetMember(place.pointer, Wire.PHANTOM)
            change.will.append("secret to the vault; a phantom instead")
        else:
            decoy = decoy_like(text)
            change.decoys.append(decoy)
            change.edits[place.pointer] = SetMember(place.pointer, decoy)
            change.will.append("secret to the vault; a decoy of the same shape instead")

    def _set(self, setting: Setting) -> None:
        change = self._change(setting)
        wired = next((path for path, edit in change.edits.items() if _is_wired(edit)), None)
        value = setting.value
        if isinstance(value, str) and value.startswith(ADDRESS):
            path = value.removeprefix(ADDRESS)
            edit = SetMember(setting.pointer, InjectionPath(path) if path else Wire.INJECTION_URL)
            if change.file.value(setting.pointer) is not MISSING:
                self.warnings.append(
                    f"{change.file.name} sets {'.'.join(setting.pointer)} already; while enrolled, requests go to the "
                    "credential's own upstream instead: make sure that it is the same"
                )
        elif value == PHANTOM:
            edit = SetMember(setting.pointer, Wire.PHANTOM)
        else:
            edit = SetMember(setting.pointer, value, follows=wired)
        change.edits[setting.pointer] = edit
        if _is_wired(edit):
            change.will.append("wired to the broker")

    def _tell(self, active: Credential) -> None:
        others = [each.name for each in self.secrets if each.name != active.name]
        if others:
            self.warnings.append(f"in use while enrolled: {active.name}; only kept: {', '.join(others)}")
        because = {each.variable: each.because for each in self.recipe.warn}
        for export in exports(self.files, tuple(because)):
            self.warnings.append(f"{export.place}: {export.name} {because[export.name]}")
        there = {export.name for export in exports(self.files, tuple(each.variable for each in self.recipe.need))}
        self.warnings += [
            f"the broker refuses the agent until your shell's profile has: export {each.variable}={each.value} "
            f"({each.because})"
            for each in self.recipe.need
            if each.variable not in there
        ]

    def _nothing_to_enroll(self) -> MisuseError:
        places = [place for credential in self.recipe.credential for place in credential.place]
        named = dict.fromkeys(f"{self.files.absolute(place.file)} ({'.'.join(place.pointer)})" for place in places)
        return MisuseError(
            f"no credential of {self.recipe.title or self.recipe.name} was found; looked into: {', '.join(named)}",
            next_step="log in with the agent once, or put the key there, then try again",
        )


def _is_wired(edit: Edit) -> bool:
    return isinstance(edit, SetMember) and isinstance(edit.value, Wire | InjectionPath)


def _surveyed(change: _Change) -> SurveyedFile:
    file = change.file
    return SurveyedFile(file.path, file.content, tuple(change.edits.values()), format=file.format)


def _row(change: _Change) -> Row:
    made = "" if change.file.content is not None else "made: "
    holds = ", ".join(change.holds) or "no secret that is moved"
    will = "; ".join(dict.fromkeys(change.will)) + ("; watched" if change.watched else "")
    return Row(change.file.name, holds if change.file.content is not None else "does not exist", made + will)
