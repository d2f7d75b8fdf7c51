"""Google Cloud's application default credentials as a tool's: the login moves, and the file names the broker instead.

The file is where Google's libraries look first, so it can't become a decoy that is used. It becomes an external account
whose token endpoint is the broker's (inject.google_metadata), and keeps decoys in members that such an account does
not have. That endpoint exchanges nothing: who asks, the kernel says. So it needs no workload pool at Google's, which
Google's own endpoint for external accounts, and a file whose token comes from an executable, would need.

Programs that use Google's libraries are not one tool: those that may ask are named (``--binary``). A Python program is
its interpreter, its script and its package (enroll.program).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.google_adc import DEFAULT_PATH, decoy_edits, kind_of, needle_of, title_of
from agent_broker.enroll.owner import Owner
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
)
from agent_broker.enroll.session import session_exports
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.vault.record import PROJECT_ATTRIBUTE, USERNAME_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims.gcp import SUBJECT_PATH, TOKEN_PATH

_TOOL: Final = AgentName("gcp")
NAME: Final = "adc"
"""The last part of the credential's id."""
VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_NATIVE: Final = ("terraform", "tofu", "packer", "pulumi", "rclone", "restic", "sops", "skaffold")
"""Executables of Google's library for Go: none of them hands a token to whoever asks."""
_ROLE: Final = RoleRule(argv0_names=_NATIVE, runtimes=("loader", "go-tls", "google"))
_USED: Final = ("client_id", "client_secret")
"""Of an external account: it would show them to the endpoint."""
_AUDIENCE: Final = "//iam.googleapis.com/agent-broker"
_SUBJECT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"


@dataclass(frozen=True)
class GcpRecipe:
    """See ToolRecipe."""

    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = True

    @property
    def commands(self) -> tuple[str, ...]:
        """See ToolRecipe: the program asks itself."""
        return ()

    def programs_with(self, named: tuple[Path, ...]) -> tuple[Path, ...]:
        """See AsksItself: none that it must be."""
        return named

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe: a token is good anywhere at Google's."""
        return NAME, ""

    def sets(self, program: Path) -> dict[str, str]:
        """See ToolRecipe."""
        del program
        return {}

    def executable_of(self, named: Path) -> Path:
        """See Recipe.

        Raises:
            MisuseError: a native executable that is not known to keep its token.
        """
        try:
            with named.open("rb") as file:
                is_script = file.read(2) == b"#!"
        except OSError as error:
            raise MisuseError(
                f"{named} can't be read: {error.strerror}", next_step="name another with --binary"
            ) from error
        if not is_script and named.resolve().name not in _NATIVE:
            known = ", ".join(_NATIVE)
            raise MisuseError(f"{named} is no program that is known to use Google's library for itself: {known}")
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: what is named, and nothing else."""
        del owner, search_path
        yield from ()

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: there is no login, or one that can't be moved.
        """
        path, warnings = _path_of(files, owner)
        if files.look(path) is None:
            raise MisuseError(
                f"there is no {files.absolute(path)}",
                next_step="gcloud auth application-default login, or put a service account's key there; then try again",
            )
        file = DocumentFile.load(files, path)
        kind, members = kind_of(file)
        secret = FoundSecret(NAME, kind, _whole(file), path, members[0], "fixed", _attributes(file))
        decoys = decoy_edits(file, members)
        row = Row(file.name, title_of(kind), "secret to the vault; the file names the broker; decoys in it, watched")
        return Survey(
            files=(SurveyedFile(path, file.content, (*decoys, *_edits(file))),),
            secrets=(secret,),
            active=NAME,
            decoys=(Decoy(path, kind, digests_of(str(each.value) for each in decoys), shared=path == DEFAULT_PATH),),
            needles=(needle_of(file.text(members[0]) or ""),),
            scan_first=(path,),
            rows=(row,),
            warnings=tuple(warnings),
        )


def _path_of(files: UserFiles, owner: Owner) -> tuple[str, list[str]]:
    """Return the file that Google's libraries read in the owner's session, and what is to be said of it."""
    home = owner.home.rstrip("/") + "/"
    named = next((each.value for each in session_exports(owner.uid) if each.name == VARIABLE), None)
    if not named:
        return DEFAULT_PATH, []
    if not named.startswith(home) or "/../" in named:
        raise MisuseError(f"{named}, which {VARIABLE} names, is not below the home", next_step="move it there")
    path = named.removeprefix(home)
    if path != DEFAULT_PATH and files.look(DEFAULT_PATH) is not None:
        return path, [f"{home}{DEFAULT_PATH} stays as it is: {VARIABLE} names {named}, and one login can be enrolled"]
    return path, []


def _whole(file: DocumentFile) -> Secret:
    return Secret(json.dumps({name: file.value((name,)) for name in file.members()}).encode())


def _attributes(file: DocumentFile) -> dict[str, str]:
    found = {
        USERNAME_ATTRIBUTE: file.text(("client_email",)) or "",
        PROJECT_ATTRIBUTE: file.text(("project_id",)) or file.text(("quota_project_id",)) or "",
    }
    return {name: text for name, text in found.items() if text}


def _edits(file: DocumentFile) -> Iterator[Edit]:
    yield SetMember(("type",), "external_account")
    yield SetMember(("audience",), _AUDIENCE)
    yield SetMember(("subject_token_type",), _SUBJECT_TYPE)
    yield SetMember(("token_url",), InjectionPath(TOKEN_PATH))
    yield SetMember(("credential_source", "url"), InjectionPath(SUBJECT_PATH))
    for name in _USED:
        if file.has((name,)):
            yield RemoveMember((name,))
