"""git as a tool that can be enrolled: what git-credential-store kept moves, and our shim becomes the only helper.

git hands a credential that worked to *every* configured helper, and asks the next one if ours says nothing. So the
list is emptied first, behind everything that the user's own files say; what a repository's own configuration adds comes
later and can't be kept out (docs/protocols/git.md says what that means).

With ``useHttpPath`` git says which repository it is about, so that a rule can be about one. ``~/.git-credentials``
keeps its servers and user names with other passwords: nobody who is wired reads it, so whoever opens it is told.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from agent_broker.enroll.block_document import OURS
from agent_broker.enroll.document import open_document
from agent_broker.enroll.netrc_file import netrc_warnings
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import NotEditableError
from agent_broker.enroll.recipe import Decoy, FoundSecret, ReplaceFile, Row, SetMember, Survey, SurveyedFile
from agent_broker.enroll.tool_plan import names_for
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import decoy_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.policy.destination import Destination
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, USERNAME_ATTRIBUTE
from agent_broker.vault.secret import Secret

TOOL: Final = AgentName("git")
KIND: Final = "git-password"
WIRING: Final = ".gitconfig.agent-broker"
_STORES: Final = (".git-credentials", ".config/git/credentials")
_CONFIGS: Final = (".gitconfig", ".config/git/config")
"""The later one is read first; a file that is not there is not made if the other is."""
_SHIM_PATH = re.compile(r"/[A-Za-z0-9._/+-]+")
_HELPER = re.compile(r"^[ \t]*helper[ \t]*=[ \t]*(?P<value>[^\r\n#;]*)", re.MULTILINE | re.IGNORECASE)
_STORE_FILE = re.compile(r"store[ \t]+.*--file[= \t]+['\"]?~/(?P<path>[^'\"\s]+)")

ROLE: Final = RoleRule(
    argv0_names=("git-remote-http", "git-remote-https", "git-remote-ftp", "git-remote-ftps"),
    runtimes=("loader", "git-http"),
)
"""What git starts to talk to a server. ``git credential fill``, which prints a password, is not it."""


@dataclass(frozen=True)
class _Line:
    """One password of a store."""

    file: str
    number: int
    user: str
    password: str = field(repr=False)
    to: Destination = field(default_factory=lambda: Destination("", "", 0))


@dataclass(frozen=True)
class GitRecipe:
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = TOOL
    role: RoleRule = ROLE
    is_script: bool = False

    @property
    def commands(self) -> tuple[str, ...]:
        """See ToolRecipe: git adds the operation to the helper's command and gives both to ``sh -c``."""
        return tuple(f"{self.shim} git {operation}" for operation in ("get", "store", "erase"))

    def sets(self, program: Path) -> dict[str, str]:
        """See ToolRecipe: git tells its parts where they lie."""
        return {"GIT_EXEC_PATH": str(program.parent)}

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "github.com", "https://github.com/OWNER/REPOSITORY"

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: the part of git that speaks HTTP."""
        del owner
        for folder in ("/usr/lib/git-core", "/usr/libexec/git-core", "/usr/local/libexec/git-core"):
            yield Path(folder) / "git-remote-http"
        yield from (folder.parent / "libexec/git-core/git-remote-http" for folder in search_path)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe; a home without any password is wired all the same."""
        del owner
        if not _SHIM_PATH.fullmatch(str(self.shim)):
            raise MisuseError(f"{self.shim} has characters that git's configuration would read otherwise")
        return _Survey(files, self.shim).survey()


@dataclass
class _Survey:
    """One look at one home."""

    files: UserFiles
    shim: Path
    lines: list[_Line] = field(default_factory=list)
    changed: list[SurveyedFile] = field(default_factory=list)
    decoys: list[Decoy] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done."""
        configs = {path: self.files.read(path) for path in _CONFIGS}
        for path in (*_STORES, *self._other_stores(configs.values())):
            self._store(path)
        self._wire(configs)
        self.warnings += netrc_warnings(self.files, "git uses", TOOL)
        names = names_for(str(line.to).partition("://")[2] for line in self.lines)
        secrets = tuple(_secret(name, line) for name, line in zip(names, self.lines, strict=True))
        return Survey(
            files=tuple(self.changed),
            secrets=secrets,
            active=names[0] if names else "",
            decoys=tuple(self.decoys),
            needles=tuple(each.value for each in secrets),
            scan_first=tuple(each.path for each in self.changed),
            rows=tuple(self.rows),
            warnings=tuple(self.warnings),
        )

    def _other_stores(self, configs: Iterable[Content | None]) -> Iterator[str]:
        """Yield the files that ``store --file`` names below the home; tell of helpers that are not asked any more."""
        for content in configs:
            text = "" if content is None else content.data.decode("utf-8", "replace")
            for found in _HELPER.finditer(text):
                helper = found["value"].strip().strip("\"'")
                store = _STORE_FILE.match(helper)
                if store is not None:
                    yield store["path"]
                elif helper and helper.split()[0] not in {"store", str(self.shim)}:
                    shown = helper.split()[0] if helper[:1] != "!" else "a command"
                    self.warnings.append(
                        f"the helper {shown} is not asked while git is enrolled; what it keeps stays there, and is not "
                        "the broker's: to move it, let git-credential-store have it before you enroll"
                    )

    def _store(self, path: str) -> None:
        content = self.files.read(path)
        if content is None or not content.data.strip():
            return
        kept, made = [], []
        lines = content.data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        for number, text in enumerate(lines, 1):
            line = _parsed(path, number, text)
            if line is None:
                kept.append(text)
                if text.strip():
                    self.warnings.append(
                        f"{self.files.absolute(path)}: line {number} is no password of a server; it stays"
                    )
                continue
            decoy = decoy_like(line.password)
            self.lines.append(line)
            made.append(decoy)
            kept.append(_line_with(text, decoy))
        if not made:
            return
        self.changed.append(
            SurveyedFile(path, content, (ReplaceFile("".join(kept).encode("utf-8", "surrogateescape")),))
        )
        self.decoys.append(Decoy(path, "git-credentials", digests_of(made)))
        what = f"{len(made)} password" + ("s" if len(made) > 1 else "")
        name = self.files.absolute(path)
        self.rows.append(Row(name, what, "to the vault; decoys of the same shape instead; watched"))

    def _wire(self, configs: dict[str, Content | None]) -> None:
        path = next((each for each in _CONFIGS if configs[each] is not None), _CONFIGS[0])
        content = configs[path]
        try:
            open_document("block", b"" if content is None else content.data)  # refused here, not half-way
        except NotEditableError as error:
            raise MisuseError(
                f"{self.files.absolute(path)}: {error.message}", next_step="repair it, then try again"
            ) from error
        wiring = f"[credential]\n\thelper =\n\thelper = {self.shim} git\n\tuseHttpPath = true\n".encode()
        include = f"[include]\n\tpath = ~/{WIRING}\n"
        self.changed += [
            SurveyedFile(WIRING, self.files.read(WIRING), (ReplaceFile(wiring),)),
            SurveyedFile(path, content, (SetMember(OURS, include),), format="block"),
        ]
        made = "does not exist" if content is None else "your settings of git"
        self.rows.append(Row(self.files.absolute(WIRING), "does not exist", "made: the broker is git's only helper"))
        self.rows.append(Row(self.files.absolute(path), made, f"includes ~/{WIRING}, at its end"))


def _parsed(file: str, number: int, text: str) -> _Line | None:
    """Return what a line says as git-credential-store writes it: ``PROTOCOL://USER:PASSWORD@HOST[/PATH]``."""
    try:
        parts = urlsplit(text.strip())
        credential, _, host = parts.netloc.rpartition("@")
        user, colon, password = credential.partition(":")
        to = Destination.parse(f"{parts.scheme}://{unquote(host)}{unquote(parts.path)}")
    except (ValueError, MisuseError):
        return None
    if not colon or not password:
        return None
    return _Line(file, number, unquote(user), unquote(password), to)


def _line_with(text: str, password: str) -> str:
    """Return a store's line with another password, everything else as it was."""
    before, _, rest = text.partition("://")
    credential, at, host = rest.partition("@") if rest.count("@") == 1 else rest.rpartition("@")
    user = credential.partition(":")[0]
    return f"{before}://{user}:{quote(password, safe='')}{at}{host}"


def _secret(name: str, line: _Line) -> FoundSecret:
    attributes = {DESTINATION_ATTRIBUTE: str(line.to), USERNAME_ATTRIBUTE: line.user}
    place = (f"line {line.number}",)
    return FoundSecret(name, KIND, Secret(line.password.encode()), line.file, place, "fixed", attributes)
