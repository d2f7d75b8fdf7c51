"""pnpm as a tool that can be enrolled: tokens of registries leave ``~/.npmrc`` for the vault.

Each registry that has an ``_authToken`` gets a ``tokenHelper`` instead: a link to the shim of its own, since pnpm tells
a helper nothing (agent_broker_shims.pnpm). pnpm takes helpers from its user's own files and from no project's.

The law of its role:
1. What pnpm runs for a folder, it runs in itself or in what looks like a helper: hooks (``.pnpmfile.cjs``), scripts in
   its own shell (``shellEmulator``), programs (``pnpm exec``). So it must have been told to run none, by options that
   no setting of a folder outranks, and the first word must be a command that talks to a registry.
2. Options that name a helper, other settings, a proxy or whom to believe make it another program; so does the
   environment (environment_table, pnpm), and another HOME.
3. pnpm up to 11 is a script of Node's with all of that inside: it is not enrolled.

What it can't tell: what a folder's own settings make pnpm do with the token (a proxy, a certificate).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Edit, FoundSecret, RemoveMember, Row, SetMember, Survey, SurveyedFile
from agent_broker.enroll.tool_plan import StartsItsHelper, names_for
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.policy.destination import Destination
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, PROFILE_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims.pnpm import TOOL, link_of

_TOOL: Final = AgentName(TOOL)
KIND: Final = "pnpm-token"
FILES: Final = (".npmrc", ".config/pnpm/auth.ini")
"""Where pnpm 12 looks for a user's tokens and helpers."""
_TOKEN: Final = ":_authToken"  # noqa: S105 - the end of an entry's name
_HELPER: Final = ":tokenHelper"
_OTHERS: Final = (":_auth", ":_password")
_LINK_PATH: Final = re.compile(r"/[A-Za-z0-9._/+@-]+")

_COMMANDS = (
    "add|audit|ci|dedupe|deprecate|dist-tag|fetch|i|info|install|ls|list|outdated|owner|ping|publish|remove|rm|s|search|"
    "show|un|undeprecate|uninstall|unpublish|up|update|upgrade|v|view|whoami"
)
_REFUSED = (
    "config|no-ignore|ignore-scripts=|ignore-pnpmfile=|pnpmfile|global-?(?:pnpmfile|config)|userconfig|npmrc|"
    "script-shell|shell-emulator|no-?proxy|proxy|https?-proxy|strict-ssl|no-strict-ssl|ca(?:file)?[=\\x00]|token|_"
)
_TOLD = r"(?=(?:(?!--\x00)[^\x00]*\x00)*--{}(?:\x00|\Z))"
"""An option is there, before what is none any more."""

LINE: Final = (
    _TOLD.format("ignore-scripts")
    + _TOLD.format("ignore-pnpmfile")
    + rf"(?!(?:.*\x00)?--(?:{_REFUSED}))(?!(?:.*\x00)?--//)"
    + r"(?:(?:-[rsw]|--recursive|--workspace-root|--silent|--ignore-scripts|--ignore-pnpmfile)\x00)*"
    + rf"(?:{_COMMANDS})(?:\x00.*)?"
)


_ROLE: Final = RoleRule(argv0_names=("pnpm", "pn"), runtimes=("loader", "node", "pnpm"), lines=(LINE,))


@dataclass(frozen=True)
class _Token:
    """One registry's."""

    file: str
    registry: str
    """``//HOST[:PORT]/[PATH/]``."""
    to: Destination
    value: str = field(repr=False)


@dataclass(frozen=True)
class PnpmRecipe(StartsItsHelper):
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = False

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "registry.npmjs.org", "npm://registry.npmjs.org"

    def role_for(self, owner: Owner) -> RoleRule:
        """See tool_plan.HasHome."""
        return RoleRule(self.role.argv0_names, self.role.runtimes, lines=self.role.lines, home=owner.home)

    def executable_of(self, named: Path) -> Path:
        """See Recipe.

        Raises:
            MisuseError: it is a script.
        """
        if _is_script(named):
            raise MisuseError(
                f"{named} is a script of Node's: pnpm up to 11 runs .pnpmfile.cjs of its folder in its own process, "
                "which could take the token",
                next_step="sudo npm install --global pnpm@12, or give it a token for one run: agent-broker run --with",
            )
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: root's own first."""
        folders = (Path("/usr/bin"), Path("/usr/local/bin"), *search_path, Path(owner.home) / ".local/share/pnpm")
        there = [each / "pnpm" for each in folders if (each / "pnpm").is_file()]
        yield from [each for each in there if not _is_script(each)] or map(self.executable_of, there)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: no token is there, or a file can't be edited.
        """
        tokens: list[_Token] = []
        warnings: list[str] = []
        documents = [DocumentFile.load(files, path, "ini") for path in FILES]
        for each in documents:
            tokens += _tokens(each, warnings)
        if not tokens:
            raise MisuseError(
                f"{documents[0].name} holds no token that can be moved" + "".join(f"; {each}" for each in warnings),
                next_step="pnpm login, then try again",
            )
        names = names_for(str(each.to).partition("://")[2] for each in tokens)
        links = [self._link(owner, name) for name in names]
        secrets = tuple(_secret(name, each) for name, each in zip(names, tokens, strict=True))
        changed = [_changed(each, tokens, links) for each in documents if any(each.path == one.file for one in tokens)]
        warnings.append(
            "npm and yarn read the same files, and have no helper: agent-broker run --with, or a login of their own"
        )
        warnings.append("pnpm gets a token when it is started with --ignore-scripts and --ignore-pnpmfile")
        return Survey(
            files=tuple(changed), secrets=secrets, active=names[0], decoys=(),
            needles=tuple(each.value for each in secrets), scan_first=tuple(each.path for each in changed),
            rows=tuple(_row(each, tokens) for each in documents if any(each.path == one.file for one in tokens)),
            warnings=tuple(warnings), links=tuple(links),
        )  # fmt: skip

    def _link(self, owner: Owner, name: str) -> str:
        link = str(self.shim.with_name(link_of(owner.uid, name)))
        if not _LINK_PATH.fullmatch(link):
            raise MisuseError(f"{link} has characters that pnpm's settings would read otherwise")
        return link


def _tokens(file: DocumentFile, warnings: list[str]) -> Iterator[_Token]:
    for key in file.members():
        registry = key.removesuffix(_TOKEN)
        if registry == key or not key.startswith("//"):
            if key.startswith("//") and key.endswith(_OTHERS):
                warnings.append(f"{file.name}: {key} stays: only an _authToken is moved")
            continue
        if file.has((registry + _HELPER,)):
            warnings.append(f"{file.name}: {key} stays: that registry has a tokenHelper already")
            continue
        try:
            to = Destination.parse(f"npm:{registry}")
        except MisuseError as error:
            warnings.append(f"{file.name}: {key} stays: {error.message}")
            continue
        if token := file.text((key,)):
            yield _Token(file.path, registry, to, token)
    odd = [path[-1] for path in file.refused_members() if path[-1].endswith(_TOKEN)]
    warnings += [f"{file.name}: {each} stays: it is not plain text" for each in odd]


def _changed(file: DocumentFile, tokens: list[_Token], links: list[str]) -> SurveyedFile:
    edits: list[Edit] = []
    for token, link in zip(tokens, links, strict=True):
        if token.file == file.path:
            edits += [RemoveMember((token.registry + _TOKEN,)), SetMember((token.registry + _HELPER,), link)]
    return SurveyedFile(file.path, file.content, tuple(edits), format="ini")


def _row(file: DocumentFile, tokens: list[_Token]) -> Row:
    count = sum(each.file == file.path for each in tokens)
    return Row(file.name, f"{count} token" + ("s" if count > 1 else ""), "to the vault; the broker is asked for it")


def _secret(name: str, token: _Token) -> FoundSecret:
    attributes = {DESTINATION_ATTRIBUTE: str(token.to), PROFILE_ATTRIBUTE: name}
    value = Secret(token.value.encode())
    return FoundSecret(name, KIND, value, token.file, (token.registry + _TOKEN,), "fixed", attributes)


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False
