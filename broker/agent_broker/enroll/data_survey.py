"""What a recipe that is data finds in a home, and what it does there."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import PurePath

from agent_broker.enroll.data_change import Change, is_wired
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import MISSING
from agent_broker.enroll.profile import exports
from agent_broker.enroll.recipe import (
    Decoy,
    FoundSecret,
    InjectionPath,
    SetMember,
    Survey,
    Wire,
)
from agent_broker.enroll.recipe_file import ADDRESS, EXPORTED, PHANTOM, Credential, Place, RecipeFile, Setting
from agent_broker.enroll.variables import OwnLine, Variable
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digests_of
from agent_broker.vault.record import BASE_URL_ATTRIBUTE
from agent_broker.vault.secret import Secret


@dataclass(kw_only=True)
class DataSurvey(HomeSurvey):
    """One look at one home."""

    recipe: RecipeFile
    changes: dict[str, Change] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    """By credential: what each of its values in files is called; the first is the one that the agent reads."""
    exported: dict[str, list[FoundSecret]] = field(default_factory=dict)
    """By credential: what was in variables, and moves."""

    def survey(self) -> Survey:
        """Return what is there and what shall be done.

        Raises:
            MisuseError: see Recipe.survey.
        """
        found = {each.name: list(self._texts(each)) for each in self.recipe.credential}
        self._take_variables()
        active = next((each for each in self.recipe.credential if found[each.name] or self._is_read(each)), None)
        if active is None:
            raise self._nothing_to_enroll()
        for credential in self.recipe.credential:
            for place, text in found[credential.name]:
                self._take(credential, place, text, in_use=credential is active)
        in_use = self._in_use(active)
        for setting in active.set:
            self._set(setting)
        self._tell(in_use)
        changes = [change for change in self.changes.values() if change.edits]
        for change in changes:
            self.files.check_folder(str(PurePath(change.file.path).parent))
        self.changed += (change.surveyed for change in changes)
        self.rows += (change.row for change in changes)
        decoys = tuple(
            Decoy(change.file.path, f"{self.recipe.name}-credential", digests_of(change.decoys))
            for change in changes
            if change.watched
        )
        return self.result(in_use, decoys, tuple(change.file.path for change in changes))

    def _take_variables(self) -> None:
        variables = variables_of(self.recipe)
        own = [place.file for each in self.recipe.credential for place in each.place]
        own += [setting.file for each in self.recipe.credential for setting in each.set]
        taken = self.take_exported(variables, own) if variables else ()
        for credential in self.recipe.credential:
            mine = [
                replace(each, attributes=_attributes(credential))
                for each in taken
                if each.path[0] in credential.variables
            ]
            self.exported[credential.name] = mine
            self.secrets += mine

    def _is_read(self, credential: Credential) -> bool:
        """Whether the agent uses a variable that moves: not if its file says something else in the phantom's place."""
        place = credential.phantom_place
        if not self.exported[credential.name] or place is None:
            return bool(self.exported[credential.name])
        return len(place.pointer) == 1 or self._change_of(place).file.value(place.pointer[:-1]) is MISSING

    def _in_use(self, active: Credential) -> str:
        """Return the secret that the phantom stands for; one that was in no file gets a place for its phantom."""
        exported = self.exported[active.name]
        place = active.phantom_place
        if exported and active.name not in self.names and place is not None:
            change = self._change_of(place)
            change.put(place, Wire.PHANTOM, "a phantom is put there")
        from_file = active.name in self.names and not (exported and active.variables_first)
        return active.name if from_file else exported[0].name

    def _texts(self, credential: Credential) -> Iterator[tuple[Place, str]]:
        for place in credential.place:
            text = self._change_of(place).file.text(place.pointer)
            if text:
                yield place, text

    def _change_of(self, place: Place | Setting) -> Change:
        if place.file not in self.changes:
            self.changes[place.file] = Change(DocumentFile.load(self.files, place.file, place.format))
        return self.changes[place.file]

    def _take(self, credential: Credential, place: Place, text: str, *, in_use: bool) -> None:
        """Note a secret; the first place of a credential is the one that the agent reads."""
        names = self.names.setdefault(credential.name, {})
        known = text in names
        if not known:
            names[text] = self._further_name(credential) if names else credential.name
            self._keep(names[text], credential, place, text)
        if not known and len(names) > 1:
            self.warnings.append(f"{self.files.absolute(place.file)} holds another {credential.name}: only kept")
        change = self._change_of(place)
        change.holds.append(f"{credential.kind} ({'.'.join(place.pointer)})")
        change.replace(place, text, phantom=in_use and not known and len(names) == 1)

    def _further_name(self, credential: Credential) -> str:
        used = {each.name for each in self.recipe.credential} | {each.name for each in self.secrets}
        return next(name for number in count(2) if (name := f"{credential.name}-{number}") not in used)

    def _keep(self, name: str, credential: Credential, place: Place, text: str) -> None:
        secret, attributes = Secret(text.encode()), _attributes(credential)
        self.secrets.append(FoundSecret(name, credential.kind, secret, place.file, place.pointer, "text", attributes))
        self.needles.append(secret)

    def _set(self, setting: Setting) -> None:
        change = self._change_of(setting)
        wired = next((path for path, edit in change.edits.items() if is_wired(edit)), None)
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
        if is_wired(edit):
            change.will.append("wired to the broker")

    def _tell(self, in_use: str) -> None:
        others = [each.name for each in self.secrets if each.name != in_use]
        if others:
            self.warnings.append(f"in use while enrolled: {in_use}; only kept: {', '.join(others)}")
        shown = () if self.exports is None else variables_of(self.recipe)
        because = {each.variable: each.because for each in self.recipe.warn if each.variable not in shown}
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
        title = self.recipe.title or self.recipe.name
        return self.nothing(
            f"no credential of {title} was found; looked into: {', '.join(named)}",
            next_step="log in with the agent once, or put the key there, then try again",
        )


def variables_of(recipe: RecipeFile) -> dict[str, Variable]:
    """Return what the agent reads from its environment, the variable that wins first."""
    return {
        name: Variable(f"{EXPORTED}{name}", credential.kind)
        for credential in recipe.credential
        for name in credential.variables
    }


def own_lines_of(recipe: RecipeFile) -> frozenset[OwnLine]:
    """Return the lines of its files that hold its keys."""
    places = (place for credential in recipe.credential for place in credential.place)
    return frozenset((place.file, place.pointer[0]) for place in places if len(place.pointer) == 1)


def _attributes(credential: Credential) -> dict[str, str]:
    return {BASE_URL_ATTRIBUTE: credential.base_url} if credential.base_url else {}
