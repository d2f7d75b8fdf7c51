"""cargo as a tool that can be enrolled: tokens of registries leave ``~/.cargo/credentials.toml`` for the vault.

Each registry that has a token gets ``credential-provider = "SHIM"`` in ``~/.cargo/config.toml``, so that cargo
asks nobody else for it. No decoy stays in the credentials' file: cargo warns, whenever it runs, of a token that a
provider outranks. Who opens the file is told by the monitor's catalogue.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import FoundSecret, RemoveMember, Row, SetMember, Survey, SurveyedFile
from agent_broker.enroll.tool_plan import StartsItsHelper, names_for
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.policy.destination import Destination
from agent_broker.vault.record import DESTINATION_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims.cargo import destination_of

_TOOL: Final = AgentName("cargo")
KIND: Final = "cargo-token"
_CREDENTIALS: Final = (".cargo/credentials.toml", ".cargo/credentials")
_CONFIGS: Final = (".cargo/config.toml", ".cargo/config")
"""cargo reads the older name in place of the newer if both are there; so it is the one that counts."""
_CRATES_IO: Final = "https://github.com/rust-lang/crates.io-index"
"""What cargo calls crates.io by, however it reads its index."""
_SHIM_PATH: Final = re.compile(r"/[A-Za-z0-9._/+-]+")

_ROLE: Final = RoleRule(
    argv0_names=("cargo",),
    runtimes=("loader", "cargo"),
    refused_arguments=("--config", "--config=*"),
    leading_options=(
        "-[vqV]+", "--verbose", "--quiet", "--version", "--list", "--offline", "--locked", "--frozen", "--help", "-h",
        "--color=[a-z]+", "--explain",
    ),
)  # fmt: skip
"""Another configuration or folder (``--config``, ``-C``): another program, as far as a token goes."""


@dataclass(frozen=True)
class _Token:
    """One registry's."""

    file: str
    table: Pointer
    to: Destination
    value: str = field(repr=False)


@dataclass(frozen=True)
class CargoRecipe(StartsItsHelper):
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = False

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "index.example.com", "https://index.example.com/"

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: what rustup's own ``cargo`` starts, then the distribution's."""
        toolchains = Path(owner.home) / ".rustup/toolchains"
        yield from sorted(toolchains.glob("stable-*/bin/cargo"))
        yield from (Path("/usr/bin/cargo"), Path("/usr/local/bin/cargo"))
        yield from (folder / "cargo" for folder in search_path)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: no token is there, or a file can't be edited.
        """
        del owner
        if not _SHIM_PATH.fullmatch(str(self.shim)):
            raise MisuseError(f"{self.shim} has characters that cargo's configuration would read otherwise")
        credentials = _first(files, _CREDENTIALS)
        config = _first(files, _CONFIGS)
        tokens, warnings = _tokens(credentials, config)
        if not tokens:
            raise MisuseError(
                f"{credentials.name} holds no token" + "".join(f"; {each}" for each in warnings),
                next_step="cargo login, then try again",
            )
        names = names_for(str(each.to).partition("://")[2] for each in tokens)
        secrets = tuple(_secret(name, each) for name, each in zip(names, tokens, strict=True))
        provider = str(self.shim)
        what = f"{len(tokens)} token" + ("s" if len(tokens) > 1 else "")
        return Survey(
            files=(
                SurveyedFile(
                    credentials.path, credentials.content,
                    tuple(RemoveMember((*each.table, "token")) for each in tokens), format="toml",
                ),
                SurveyedFile(
                    config.path, config.content,
                    tuple(SetMember((*each.table, "credential-provider"), provider) for each in tokens), format="toml",
                ),
            ),
            secrets=secrets,
            active=names[0],
            decoys=(),
            needles=tuple(each.value for each in secrets),
            scan_first=(credentials.path, config.path),
            rows=(
                Row(credentials.name, what, "to the vault; taken out of the file"),
                Row(config.name, "cargo's settings" if config.content else "does not exist", "the broker is asked"),
            ),
            warnings=tuple(warnings),
        )  # fmt: skip


def _first(files: UserFiles, paths: tuple[str, str]) -> DocumentFile:
    """Return the file that cargo reads."""
    path = next((each for each in reversed(paths) if files.read(each) is not None), paths[0])
    return DocumentFile.load(files, path, "toml")


def _tokens(credentials: DocumentFile, config: DocumentFile) -> tuple[list[_Token], list[str]]:
    found, warnings = [], []
    tables: list[Pointer] = [("registry",)]
    registries = credentials.value(("registries",))
    tables += [("registries", name) for name in (registries if isinstance(registries, dict) else ())]
    for table in tables:
        token = credentials.text((*table, "token"))
        if not token:
            continue
        index = _CRATES_IO if table == ("registry",) else config.text((*table, "index"))
        if index is None:
            warnings.append(f"the token of {table[-1]!a} stays: {config.name} says no index of that registry")
            continue
        try:
            to = Destination.parse(destination_of(index))
        except MisuseError as error:
            warnings.append(f"the token of {table[-1]!a} stays: its index: {error.message}")
            continue
        found.append(_Token(credentials.path, table, to, token))
    return found, warnings


def _secret(name: str, token: _Token) -> FoundSecret:
    attributes = {DESTINATION_ATTRIBUTE: str(token.to)}
    value = Secret(token.value.encode())
    return FoundSecret(name, KIND, value, token.file, (*token.table, "token"), "fixed", attributes)
