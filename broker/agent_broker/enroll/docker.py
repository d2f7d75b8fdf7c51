"""docker as a tool that can be enrolled: the logins of ``~/.docker/config.json`` move, ``credHelpers`` names our shim.

A server of ``credHelpers`` is asked of its helper, and its entry in ``auths`` is not used any more: so that entry keeps
a login of the same shape that opens nothing. docker itself opens the file all the time, so it is no decoy; who else
opens it is told by the monitor's catalogue. Logins that another helper keeps (``credsStore``) stay where they are.

docker looks for ``docker-credential-agent-broker`` on its PATH. Whoever puts another one in front of it gets a server's
address, and nothing that was not typed there.
"""

import base64
import binascii
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import Edit, FoundSecret, Row, SetMember, Survey, SurveyedFile
from agent_broker.enroll.tool_plan import StartsItsHelper, names_for
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import decoy_like, login_token_like
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.policy.destination import Destination
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, USERNAME_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims.docker import destination_of

_TOOL: Final = AgentName("docker")
HELPER: Final = "agent-broker"
_CONFIG: Final = ".docker/config.json"
_IDENTITY: Final = "<token>"
_INSECURE: Final = tuple(f"--insecure{end}" for end in ("", "=1", "=t", "=T", "=true", "=True", "=TRUE"))

_ROLE: Final = RoleRule(
    argv0_names=("docker",),
    runtimes=("loader", "go-tls", "docker"),
    refused_arguments=_INSECURE,
    leading_options=("-D", "--debug", "-v", "--version", "--help"),
)
"""Another engine (``--host``, ``--context``), other settings (``--config``), or a server that nobody checked: another
program, as far as a password goes."""


@dataclass(frozen=True)
class _Login:
    """One server's."""

    address: str
    user: str
    secret: str = field(repr=False)
    edit: SetMember = field(repr=False)


@dataclass(frozen=True)
class DockerRecipe(StartsItsHelper):
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = False

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "ghcr.io", "docker://ghcr.io"

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: the distribution's first."""
        del owner
        yield from (Path("/usr/bin/docker"), Path("/usr/local/bin/docker"))
        yield from (folder / "docker" for folder in search_path)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: no login is there.
        """
        del owner
        config = DocumentFile.load(files, _CONFIG)
        logins, warnings = _logins(config)
        if not logins:
            raise MisuseError(
                f"{config.name} holds no login" + "".join(f"; {each}" for each in warnings),
                next_step="docker login, then try again",
            )
        warnings += _path_warnings(self.shim)
        names = names_for(str(Destination.parse(destination_of(each.address))).partition("://")[2] for each in logins)
        secrets = tuple(_secret(name, login) for name, login in zip(names, logins, strict=True))
        edits: list[Edit] = [each.edit for each in logins]
        edits += [SetMember(("credHelpers", each.address), HELPER) for each in logins]
        what = f"{len(logins)} login" + ("s" if len(logins) > 1 else "")
        return Survey(
            files=(SurveyedFile(_CONFIG, config.content, tuple(edits)),),
            secrets=secrets,
            active=names[0],
            decoys=(),
            needles=tuple(each.value for each in secrets),
            scan_first=(_CONFIG,),
            rows=(Row(config.name, what, "to the vault; worthless ones instead; the broker is their helper"),),
            warnings=tuple(warnings),
        )


def _logins(config: DocumentFile) -> tuple[list[_Login], list[str]]:
    config.require_object(("auths",))
    auths = config.value(("auths",))
    found, warnings = [], []
    for address in auths if isinstance(auths, dict) else ():
        config.require_object(("auths", address))
        token = config.text(("auths", address, "identitytoken"))
        auth = config.text(("auths", address, "auth"))
        if token:
            decoy = login_token_like(token)
            place: Pointer = ("auths", address, "identitytoken")
            found.append(_Login(address, _IDENTITY, token, SetMember(place, decoy)))
        elif auth:
            user, password = _user_and_password(auth, f"{config.name}: auths.{address}")
            decoy = decoy_like(password)
            text = base64.b64encode(f"{user}:{decoy}".encode()).decode()
            found.append(_Login(address, user, password, SetMember(("auths", address, "auth"), text)))
    store = config.text(("credsStore",))
    if store:
        warnings.append(f"the logins that docker-credential-{store} keeps stay there and are not the broker's")
    return found, warnings


def _user_and_password(auth: str, where: str) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon or not password:
        raise MisuseError(f"{where} is no login", next_step="docker logout and log in again, then try again")
    return user, password


def _path_warnings(shim: Path) -> list[str]:
    name = f"docker-credential-{HELPER}"
    found = shutil.which(name)
    if found is not None and os.path.realpath(found) == str(shim):
        return []
    return [f"docker must find {name} on its PATH: sudo ln -s {shim} /usr/local/bin/{name}"]


def _secret(name: str, login: _Login) -> FoundSecret:
    attributes = {
        DESTINATION_ATTRIBUTE: str(Destination.parse(destination_of(login.address))),
        USERNAME_ATTRIBUTE: login.user,
    }
    path = login.edit.path
    return FoundSecret(name, "docker-password", Secret(login.secret.encode()), _CONFIG, path, "fixed", attributes)
