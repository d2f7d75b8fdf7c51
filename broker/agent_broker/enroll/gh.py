"""gh: the file of its logins becomes a view that gh alone reads (enroll.view_plan); it has no helper to ask.

The law of its role:
1. A command of an alias is none: gh would take any other from it, ``auth token`` too. So the first word must be one of
   gh's own commands, which gh looks for before it looks for an alias.
2. What prints a login (``auth token``, ``auth status --show-token``, ``config get oauth_token``), or answers git with
   it (``auth git-credential``), is another program, and reads the decoy.
3. Its settings are those of its user's home: config.yml can name a socket that gets what gh sends. gh has read them
   before it opens the file of its logins, so a look at them then would come too late; only the plan tells of it.
"""

from pathlib import PurePosixPath
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.registry import RoleRule

TOOL: Final = "gh"
HOSTS: Final = PurePosixPath(".config/gh/hosts.yml")
PROGRAM: Final = "/usr/bin/gh"
_CONFIG: Final = ".config/gh/config.yml"
_SOCKET: Final = "http_unix_socket"

_ANY = r"(?:\x00.*)?"
_COMMANDS = (
    "actions|api|attestation|browse|cache|codespace|cs|completion|environment|exit-codes|extension|formatting|gist|"
    "gpg-key|help|issue|label|mintty|org|pr|project|reference|release|repo|ruleset|rs|run|search|secret|ssh-key|"
    "status|variable|version|workflow|--version|--help|alias"
)
_NO_TOKEN = r"(?!.*oauth_token)"  # noqa: S105 - a pattern: no word that begins with that name follows
_HIDES = r"(?:\x00(?!--show-token|-[A-Za-z]*t)[^\x00]*)*"
"""Options of ``auth status``, without the one that shows the token, however it is written."""

LINES: Final = (
    rf"(?:(?:{_COMMANDS}){_ANY})?",
    rf"auth\x00(?:login|logout|refresh|setup-git|switch){_ANY}",
    rf"auth\x00status{_HIDES}",
    rf"config\x00{_NO_TOKEN}.*",
)


def role_for(home: str) -> RoleRule:
    """Return which images of gh read the logins in this home."""
    return RoleRule(argv0_names=(TOOL,), runtimes=("loader", "go-tls", "gh"), lines=LINES, home=home)


def socket_warnings(files: UserFiles) -> tuple[str, ...]:
    """Return what a person must know of a socket that gh's settings name now, or may name."""
    try:
        socket = DocumentFile.load(files, _CONFIG, "yaml").text((_SOCKET,))
    except AgentBrokerError as error:
        return (f"whether {_SOCKET} is set is not known: {error.message}",)
    told = f"{files.absolute(_CONFIG)}: {_SOCKET} is set: gh sends its token there, in clear"
    return (told,) if socket else ()
