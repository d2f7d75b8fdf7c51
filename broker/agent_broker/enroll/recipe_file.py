"""A recipe as data: one TOML file that says how an agent is enrolled, with complaints that name file and line.

The law: a recipe says where an agent's files are, never what is in them, and names only places below the home. It
can lead an agent to the broker and put a phantom or a decoy into a file; it can't name a command that is run.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct, field

from agent_broker.enroll.pointer import Format
from agent_broker.enroll.roles import INTERPRETERS
from agent_broker.identity.registry import RoleRule, SettingsFormat
from agent_broker.toml_document import KeyPath, TomlDocument

MAX_FILE_BYTES = 64 * 1024
NATIVE_RUNTIMES = ("loader", "bun")
ADDRESS, PHANTOM = "{address}", "{phantom}"
EXPORTED = "exported-"
"""How the names of credentials begin that were in variables."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_BASE_URL = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[\w.~/-]*)?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RUNTIMES = {*NATIVE_RUNTIMES, *(each.runtime for each in INTERPRETERS)}
_TAKEN = frozenset({"original", "phantom"})
"""Other records of an enrolment are called so."""
_LINE_FORMATS = frozenset({"env", "shell", "fish", "systemd"})
_NOT_BELOW = "file: a path relative to the home, without .. and empty parts"
_MAX_POINTER = 16
_MAX_SETTINGS = 16
_MAX_VARIABLE = 48  # it is part of a credential's id
Problem = tuple[KeyPath, str]
KeyKinds = Mapping[str, bool]
"""The kinds of credential that a recipe may name; True: it has no provider of its own, so base_url must be given."""


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """``[program]``: where its executable may be."""

    commands: tuple[str, ...] = ()
    """Names to look for in the PATH."""
    places: tuple[str, ...] = ()
    """``/...`` or ``~/...``; may hold ``*``."""
    script: bool = False
    """An interpreter runs it."""


class Role(Struct, frozen=True, forbid_unknown_fields=True):
    """``[role]``: which of its images are the main process; see RoleRule."""

    argv0_names: tuple[str, ...] = ()
    """May be left out for a script: then it is as its interpreter must be started."""
    runtimes: tuple[str, ...] = NATIVE_RUNTIMES
    interpreter_options: tuple[str, ...] = ()
    required_options: tuple[str, ...] = ()
    refused_arguments: tuple[str, ...] = ()

    @property
    def rule(self) -> RoleRule:
        """The rule as the registry keeps it."""
        return RoleRule(
            self.argv0_names,
            self.runtimes,
            self.interpreter_options,
            self.required_options,
            self.refused_arguments,
        )


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[credential.place]]``: where the credential may be."""

    file: str
    """Relative to the home."""
    format: Format
    pointer: tuple[str, ...]
    becomes: Literal["phantom", "decoy", "removed"] = "phantom"
    """What is there while enrolled. Of a credential that is not in use: a decoy instead of a phantom."""
    watch: bool = False
    """Whoever else opens the file raises an alert: for files that nothing but the agent reads."""


class Setting(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[credential.set]]``: what is set while this credential is the one in use."""

    file: str
    format: Format
    pointer: tuple[str, ...]
    value: str | bool | int
    """``{phantom}``, ``{address}`` with a path behind it, or anything else as it is."""


class Credential(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[credential]]``, likeliest first: the first that is found is the one that the agent uses."""

    name: str
    kind: str
    """A kind of inject.kinds that is no login: it says the header, and the provider."""
    place: tuple[Place, ...]
    base_url: str = ""
    """Where it belongs, if that is not the kind's own provider."""
    set: tuple[Setting, ...] = ()
    variables: tuple[str, ...] = ()
    """Of the environment, that the agent reads it from, too: moved out of profiles if their owner agrees."""
    variables_first: bool = False
    """They beat the files."""

    @property
    def phantom_place(self) -> Place | None:
        """Where a phantom goes if the credential itself was in no file; None: a setting holds it."""
        return next((place for place in self.place if place.becomes == "phantom"), None)

    @property
    def can_be_wired(self) -> bool:
        """Whether the recipe says where a phantom goes, wherever the credential was."""
        return self.phantom_place is not None or any(each.value == PHANTOM for each in self.set)


class Watched(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[settings]]``: a file that decides what the agent runs, or whom it asks; a change by others is told."""

    file: str
    """Relative to the home."""
    format: SettingsFormat
    hot: bool = False
    """The agent's own other processes write it all the time: only what matters is told (registry.SettingsFile)."""


class Warn(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[warn]]``: a variable that would defeat the wiring if a profile exports it."""

    variable: str
    because: str


class Need(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[need]]``: a variable without which the broker refuses the agent; a profile must export it."""

    variable: str
    value: str
    because: str


class RecipeFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    name: str
    program: Program
    role: Role
    credential: tuple[Credential, ...]
    title: str = ""
    settings: tuple[Watched, ...] = ()
    warn: tuple[Warn, ...] = ()
    need: tuple[Need, ...] = ()
    format: Literal[1] = field(default=1)


def parse_recipe(data: bytes, name: str, kinds: KeyKinds) -> RecipeFile:
    """Return a recipe.

    Args:
        data: the file's bytes.
        name: how messages call the file.
        kinds: what its credentials may be.

    Raises:
        MisuseError: it is not one; ``name:line: what is wrong, and what is allowed``.
    """
    document = TomlDocument(data, name)
    recipe = document.decode(RecipeFile)
    for path, sentence in _problems(recipe, kinds):
        raise document.misuse(path, sentence)
    return recipe


def _problems(recipe: RecipeFile, kinds: KeyKinds) -> Iterator[Problem]:
    if not _NAME.fullmatch(recipe.name):
        yield ("name",), "name: lower-case letters, digits and - only, at most 32, a letter first"
    if not recipe.title.isprintable():
        yield ("title",), "title: printable characters only"
    yield from _program_problems(recipe)
    if not recipe.credential:
        yield ("credential",), "a recipe needs at least one [[credential]]"
    formats: dict[str, Format] = {}
    names: set[str] = set()
    variables: set[str] = set()
    for index, credential in enumerate(recipe.credential):
        at: KeyPath = ("credential", index)
        if credential.name in names:
            yield (*at, "name"), "name: another credential has it already"
        if not variables.isdisjoint(credential.variables):
            yield (*at, "variables"), "variables: another credential has one of them already"
        names.add(credential.name)
        variables.update(credential.variables)
        yield from _kind_problems(credential, at, kinds)
        yield from _credential_problems(credential, at, formats)
    yield from _settings_problems(recipe, formats)
    for index, warn in enumerate(recipe.warn):
        yield from _note_problems(warn, ("warn", index))
    for index, need in enumerate(recipe.need):
        yield from _note_problems(need, ("need", index))


def _settings_problems(recipe: RecipeFile, formats: Mapping[str, Format]) -> Iterator[Problem]:
    if len(recipe.settings) > _MAX_SETTINGS:
        yield ("settings", _MAX_SETTINGS), f"settings: at most {_MAX_SETTINGS} files"
    seen: set[str] = set()
    for index, watched in enumerate(recipe.settings):
        if not _is_below_home(watched.file):
            yield ("settings", index, "file"), _NOT_BELOW
        if watched.file in seen:
            yield ("settings", index, "file"), "file: it is among the settings already"
        if formats.get(watched.file, watched.format) != watched.format:
            yield (
                ("settings", index, "format"),
                f"format: the same file is {formats[watched.file]} elsewhere in this recipe",
            )
        seen.add(watched.file)


def _note_problems(note: Warn | Need, at: KeyPath) -> Iterator[Problem]:
    if not _VARIABLE.fullmatch(note.variable):
        yield (*at, "variable"), "variable: the name of an environment variable"
    if not note.because.isprintable():
        yield (*at, "because"), "because: printable characters only"
    if isinstance(note, Need) and not re.fullmatch(r"[A-Za-z0-9_./:-]+", note.value):
        yield (*at, "value"), "value: letters, digits and _ . / : - only"


def _program_problems(recipe: RecipeFile) -> Iterator[Problem]:
    program, role = recipe.program, recipe.role
    if not program.commands and not program.places:
        yield ("program",), "the program needs commands, places, or both"
    if any("/" in each or not each for each in program.commands):
        yield ("program", "commands"), "commands: names without a slash; paths go into places"
    if any(not each.startswith(("/", "~/")) or "/../" in f"{each}/" for each in program.places):
        yield ("program", "places"), "places: paths that begin with / or ~/, without .."
    if not role.argv0_names and not program.script:
        yield ("role",), "argv0_names: a native program needs the names that it is started by"
    unknown = sorted(set(role.runtimes) - _RUNTIMES)
    if unknown:
        yield ("role", "runtimes"), f"runtimes: allowed are {', '.join(sorted(_RUNTIMES))}"
    for key in ("interpreter_options", "required_options"):
        if any(not _is_pattern(each) for each in getattr(role, key)):
            yield ("role", key), f"{key}: regular expressions"


def _credential_problems(credential: Credential, at: KeyPath, formats: dict[str, Format]) -> Iterator[Problem]:
    if not _LABEL.fullmatch(credential.name) or credential.name in _TAKEN or credential.name.startswith(EXPORTED):
        yield (*at, "name"), f"name: letters, digits, . _ and - only, at most 32; not: original, phantom, {EXPORTED}..."
    if any(not _VARIABLE.fullmatch(each) or len(each) > _MAX_VARIABLE for each in credential.variables):
        yield (*at, "variables"), f"variables: names of environment variables, of at most {_MAX_VARIABLE} characters"
    if credential.variables and not credential.can_be_wired:
        yield (*at, "variables"), "variables: where does the phantom go? a place or a setting must become one"
    if not credential.place:
        yield at, "a credential needs at least one [[credential.place]]"
    for index, place in enumerate(credential.place):
        yield from _member_problems(place, (*at, "place", index), formats)
    for index, setting in enumerate(credential.set):
        yield from _member_problems(setting, (*at, "set", index), formats)
        if isinstance(setting.value, str) and not _is_template(setting.value):
            yield (
                (*at, "set", index, "value"),
                "value: {phantom} alone, or {address} with a path behind it, or text without either",
            )
        if setting.format in _LINE_FORMATS | {"ini"} and not isinstance(setting.value, str):
            yield (*at, "set", index, "value"), f"value: a file of the format {setting.format} holds text only"


def _kind_problems(credential: Credential, at: KeyPath, kinds: KeyKinds) -> Iterator[Problem]:
    if credential.kind not in kinds:
        yield (*at, "kind"), f"kind: allowed are {', '.join(sorted(kinds))}"
    elif credential.base_url and not _BASE_URL.fullmatch(credential.base_url):
        yield (*at, "base_url"), "base_url: https, a host, and at most a path"
    elif kinds[credential.kind] and not credential.base_url:
        yield (*at, "kind"), "kind: this one has no provider of its own, so base_url must say where it belongs"


def _member_problems(member: Place | Setting, at: KeyPath, formats: dict[str, Format]) -> Iterator[Problem]:
    if not _is_below_home(member.file):
        yield (*at, "file"), _NOT_BELOW
    if formats.setdefault(member.file, member.format) != member.format:
        yield (*at, "format"), f"format: the same file is {formats[member.file]} elsewhere in this recipe"
    pointer = member.pointer
    if not 0 < len(pointer) <= _MAX_POINTER or not all(pointer):
        yield (*at, "pointer"), f"pointer: one to {_MAX_POINTER} keys, none of them empty"
    elif member.format in _LINE_FORMATS and not (len(pointer) == 1 and _VARIABLE.fullmatch(pointer[0])):
        yield (*at, "pointer"), f"pointer: in a file of the format {member.format} it is one variable's name"
    elif member.format == "ini" and len(pointer) > 2:  # noqa: PLR2004 - section and key
        yield (*at, "pointer"), "pointer: in an INI file it is a section and a key, or a key"


def _is_below_home(file: str) -> bool:
    return all(part not in {"", ".", ".."} for part in file.split("/")) and file.isprintable()


def _is_template(value: str) -> bool:
    if value.startswith(ADDRESS):
        return bool(re.fullmatch(r"(/[\w.~/-]*)?", value.removeprefix(ADDRESS), re.ASCII))
    return value == PHANTOM or (ADDRESS not in value and PHANTOM not in value)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
