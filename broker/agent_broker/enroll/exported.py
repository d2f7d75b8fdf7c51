"""An agent's keys that shell profiles, .env files, environment.d and direnv set: found, and moved if the owner agrees.

Found by the inventory, which follows no link and opens no decoy. Moved like any other secret: the line is removed
through the format's own editor, the file's bytes lie in the vault until unenroll puts them back. A line that is no
plain literal is named and left: what it does is for its owner to say. So is one that another agent reads: see
enroll.variables.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from agent_broker.enroll.document import open_document
from agent_broker.enroll.inventory import Knowledge, take_inventory
from agent_broker.enroll.inventory_protocol import Sighting
from agent_broker.enroll.inventory_rows import shell_word
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Format, NotEditableError
from agent_broker.enroll.recipe import FoundSecret, Recipe, RemoveMember, Row, SurveyedFile
from agent_broker.enroll.user_files import UnsafeFileError, UserFiles
from agent_broker.enroll.variables import Carried, KeyReader, OwnLine, Variable
from agent_broker.errors import MisuseError
from agent_broker.ids import Uid
from agent_broker.lineage.text import plain
from agent_broker.monitor.catalogue import Catalogue
from agent_broker.vault.secret import Secret

_FORMATS: Mapping[str, Format] = {
    "profile": "shell",
    "direnv": "shell",
    "env-file": "env",
    "environment.d": "systemd",
}
_OTHER_SHELLS = (".cshrc", ".tcshrc", ".login", ".pam_environment")
_MAX_NAMED = 20


@dataclass(frozen=True)
class Taken:
    """What a survey does about exported variables."""

    files: tuple[SurveyedFile, ...] = ()
    secrets: tuple[FoundSecret, ...] = ()
    needles: tuple[Secret, ...] = ()
    rows: tuple[Row, ...] = ()
    warnings: tuple[str, ...] = ()
    movable: tuple[str, ...] = ()
    """Each ``NAME in FILE:LINE`` that moves, or would."""
    kept: tuple[str, ...] = ()
    """Each that stays since another agent reads it, and which."""


@dataclass(frozen=True)
class Exports:
    """Looks for exported variables, once for each survey."""

    move: bool = False
    """The owner agreed."""
    decoys: tuple[str, ...] = ()
    """Absolute paths that must not be opened."""
    machine: str = ""
    """The folder of what is set for everybody, ``/etc``; empty: it is not looked at."""
    phantom_prefix: str = ""
    """How a phantom begins: it is another enrolment's, and no key."""
    readers: tuple[KeyReader, ...] = ()
    """The other agents of the user."""
    carried: Carried = field(default_factory=Carried)
    """What the same command has moved for them."""

    def take(self, files: UserFiles, owner: Owner, variables: Mapping[str, Variable], own: Iterable[str] = ()) -> Taken:
        """Return what is to be done.

        Args:
            files: the home.
            owner: whose.
            variables: what the agent reads, the one that wins first.
            own: files that the recipe changes itself, relative to the home.

        Raises:
            MisuseError: a file that would be changed lies in a folder that can't be.
            UnavailableError: no process could be started.
        """
        places = self._places(owner, variables)
        taking = _Taking(self, files, owner, variables)
        taking.warnings += self._set_for_everybody(variables)
        order = [path for path in places if path not in set(own)]
        for path in order:
            taking.file(path, taking.not_others(path, places[path]))
        return taking.done(list(dict.fromkeys((*order, *taking.carry()))))

    def _places(self, owner: Owner, variables: Mapping[str, Variable]) -> dict[str, list[Sighting]]:
        """Return where the variables are set, by file."""
        found = take_inventory(
            owner,
            Catalogue({}, ()),
            knowledge=Knowledge(decoys=self.decoys, variables=frozenset(variables)),
            become=True,
            phantom_prefix=self.phantom_prefix,
            programs=False,
            bus="",
        )
        home = f"{owner.home.rstrip('/')}/".encode("utf-8", "surrogateescape")
        places: dict[str, list[Sighting]] = {}
        for seen in found.credentials:
            path = seen.path.removeprefix(home).decode("utf-8", "surrogateescape")
            if seen.state == "phantom":
                continue
            if seen.source in _FORMATS and seen.name in variables and variables[seen.name].moves_from(path):
                places.setdefault(path, []).append(seen)
        return places

    def _set_for_everybody(self, variables: Mapping[str, Variable]) -> list[str]:
        """Name what no enrolment of a user's moves."""
        if not Path(self.machine or "/nowhere").is_dir():
            return []
        anywhere = {name for name, variable in variables.items() if not variable.only_in}
        found = take_inventory(
            Owner(Uid(0), 0, (0,), "root", self.machine),
            Catalogue({}, ()),
            knowledge=Knowledge(variables=frozenset(anywhere), machine=True),
            become=False,
            phantom_prefix="",
            programs=False,
            bus="",
        )
        return [
            f"{plain(seen.path)}:{seen.line}: {seen.name} is set for every process of everybody; it stays until root "
            f'removes it: sudo "${{EDITOR:-vi}}" +{seen.line} {shell_word(seen.path)}'
            for seen in found.credentials
            if seen.name in anywhere
        ]


@runtime_checkable
class ReadsEnvironment(Protocol):
    """A recipe whose agent reads keys from its environment."""

    @property
    def exported(self) -> Mapping[str, Variable]:
        """Which ones, by the variable's name."""
        ...

    @property
    def own_lines(self) -> frozenset[OwnLine]:
        """Which lines of its own files hold its keys."""
        ...

    def with_exports(self, exports: Exports) -> Recipe:
        """Return the recipe with a way to look for variables that are set elsewhere."""
        ...


@dataclass
class _Taking:
    """One pass over the files that were found."""

    exports: Exports
    files: UserFiles
    owner: Owner
    variables: Mapping[str, Variable]
    changed: dict[str, SurveyedFile] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    movable: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    carried: set[OwnLine] = field(default_factory=set)
    """What the same command has moved already, for another agent."""

    def not_others(self, path: str, seen: list[Sighting]) -> list[Sighting]:
        """Return the lines that no other agent would miss; the others are named, with the way to move them."""
        ours = []
        for each in seen:
            needing = [reader for reader in self.exports.readers if reader.needs(path, each.name)]
            keeping = [reader for reader in needing if reader.keeps(path, each.name)]
            if keeping:
                self._keep(path, each, keeping)
                continue
            ours.append(each)
            if needing:
                others = " and ".join(reader.agent for reader in needing)
                self.warnings.append(
                    f"{plain(each.path)}:{each.line}: {each.name} is {others}'s, too: each has the use of it while "
                    "enrolled; the one that is enrolled first puts the line back at unenroll"
                )
        return ours

    def _keep(self, path: str, seen: Sighting, keeping: list[KeyReader]) -> None:
        others = " and ".join(reader.agent for reader in keeping)
        by_itself = [reader.agent for reader in keeping if reader.owns(path, seen.name)]
        if by_itself:
            how = f"enroll {by_itself[0]} moves it"
        else:
            how = f"enroll {others.replace(' and ', ' ')} in the same command, and it moves for each"
        place = f"{plain(seen.path)}:{seen.line}"
        self.kept.append(f"{seen.name} in {place} is {others}'s, too")
        self.warnings.append(f"{place}: {seen.name} stays, for every process to read: {others} reads it there; {how}")

    def carry(self) -> list[str]:
        """Take what the same command has moved for another agent, and return the files that it was in."""
        files = []
        for path, name, value in self.exports.carried.of(self.owner.uid) if self.exports.move else ():
            variable = self.variables.get(name)
            if variable is None or not variable.moves_from(path) or name in self.texts.get(path, {}):
                continue
            self.texts.setdefault(path, {})[name] = value.reveal().decode()
            self.carried.add((path, name))
            where = self.files.absolute(path)
            self.rows.setdefault(path, []).append(
                Row(where, f"{variable.kind} ({name})", "in the vault for another agent; now for this one as well")
            )
            files.append(path)
        return files

    def file(self, path: str, seen: list[Sighting]) -> None:
        """Look at one file."""
        if not seen:
            return
        try:
            content = self.files.read(path)
            if content is None:
                return
            document = open_document(_format_of(path, seen[0].source), content.data)
            held = {name: document.value.get(name) for name in dict.fromkeys(each.name for each in seen)}
            texts = {name: value for name, value in held.items() if isinstance(value, str) and self._is_key(value)}
            for name in texts:
                document = document.without((name,))
        except (NotEditableError, UnsafeFileError) as error:
            self._left(seen, error)
            return
        self._left([each for each in seen if each.name not in texts], None)
        if not texts:
            return
        self.texts[path] = texts
        for name, text in texts.items():
            self.exports.carried.see(self.owner.uid, path, name, Secret(text.encode()))
        self.rows[path] = [self._row(path, name, seen) for name in texts]
        if self.exports.move:
            self.files.check_folder(str(PurePosixPath(path).parent))
            edits = tuple(RemoveMember((name,)) for name in texts)
            self.changed[path] = SurveyedFile(path, content, edits, format=_format_of(path, seen[0].source))

    def _is_key(self, value: str) -> bool:
        prefix = self.exports.phantom_prefix
        return bool(value) and not (prefix and prefix in value)

    def done(self, order: list[str]) -> Taken:
        """Return the result, the files in the order in which they were found."""
        secrets, needles = self._secrets(order) if self.exports.move else ([], [])
        if len(self.warnings) > _MAX_NAMED:
            self.warnings[_MAX_NAMED:] = [f"{len(self.warnings) - _MAX_NAMED} more such lines: agent-broker scan"]
        if self.changed:
            names = ", ".join(sorted({name for texts in self.texts.values() for name in texts}))
            self.warnings.append(f"shells and sessions that run now still have {names}: log out and in again")
        return Taken(
            files=tuple(self.changed[path] for path in order if path in self.changed),
            secrets=tuple(secrets),
            needles=tuple(needles),
            rows=tuple(row for path in order for row in self.rows.get(path, ())),
            warnings=tuple(self.warnings),
            movable=tuple(self.movable),
            kept=tuple(self.kept),
        )

    def _row(self, path: str, name: str, seen: list[Sighting]) -> Row:
        line = next(each.line for each in seen if each.name == name)
        self.movable.append(f"{name} in {plain(self.files.absolute(path).encode('utf-8', 'surrogateescape'))}:{line}")
        will = "secret to the vault; its line removed, back at unenroll"
        if not self.exports.move:
            will = "stays, for every process to read, unless you agree (--profiles)"
        return Row(self.files.absolute(path), f"{self.variables[name].kind} ({name}, line {line})", will)

    def _left(self, seen: list[Sighting], error: MisuseError | None) -> None:
        """Name what is not edited, and how to do it by hand."""
        for each in seen:
            place = plain(each.path)
            why = "its line is not a plain literal" if error is None else error.message.removeprefix(f"{place} ")
            self.warnings.append(
                f"{place}:{each.line}: {each.name} stays, for every process to read: {why}; remove it by hand: "
                f'"${{EDITOR:-vi}}" +{each.line} {shell_word(each.path)}'
            )

    def _secrets(self, order: list[str]) -> tuple[list[FoundSecret], list[Secret]]:
        """Return each distinct value once, named after its variable; the first of a variable is the one in use."""
        found: list[FoundSecret] = []
        needles: list[Secret] = []
        for name, variable in self.variables.items():
            places = [(path, self.texts[path][name]) for path in order if name in self.texts.get(path, {})]
            distinct = list(dict.fromkeys(value for _, value in places))
            for number, value in enumerate(distinct, 1):
                path = next(path for path, held in places if held == value)
                secret = variable.secret if number == 1 else f"{variable.secret}-{number}"
                sealed = Secret(variable.wrap(value).encode())
                form = "fixed" if (path, name) in self.carried else variable.form
                found.append(FoundSecret(secret, variable.kind, sealed, path, (name,), form))
                needles.append(Secret(value.encode()))
            if len(distinct) > 1:
                first = plain(self.files.absolute(places[0][0]).encode("utf-8", "surrogateescape"))
                self.warnings.append(f"{name} is set to {len(distinct)} values; in use while enrolled: that of {first}")
        return found, needles


def _format_of(path: str, source: str) -> Format:
    """Return how a file is written.

    Raises:
        NotEditableError: in a way that has no editor here.
    """
    if path.endswith(".fish"):
        return "fish"
    if path in _OTHER_SHELLS:
        raise NotEditableError("files of this kind are not edited")
    return _FORMATS[source]
