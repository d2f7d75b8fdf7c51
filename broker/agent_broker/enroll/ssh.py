"""SSH as a tool that can be enrolled: private keys move into the vault, and ssh asks the broker's agent for signatures.

Each private key's file below ``~/.ssh``, and each that the configuration names, becomes a decoy; its ``.pub`` stays, or
is made, since ssh finds out from it which key of the agent is meant. ssh opens the decoy too, and never uses it: it
compares the private half with the public one. What is done to the files is in ssh_survey.

Scripts that speak the agent's protocol (paramiko, asyncssh) are enrolled beside ssh if the operator names them: each is
its interpreter, its script and its package (enroll.program). A native executable that is named takes ssh's place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.owner import Owner
from agent_broker.enroll.program import is_script
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.ssh_survey import Passphrases, SshSurvey
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.ssh.record import AGENT

_PROGRAMS: Final = ("ssh", "ssh-keygen", "ssh-add")
_ROLE: Final = RoleRule(argv0_names=_PROGRAMS, runtimes=("loader", "sasl"))
"""ssh loads Kerberos, whose settings name plug-ins."""
_FOLDERS: Final = ("/usr/bin", "/usr/local/bin", "/bin")


@dataclass(frozen=True)
class SshRecipe:
    """See ToolRecipe."""

    socket: Path
    """Of the broker's agent."""
    passphrases: Passphrases = field(default_factory=Passphrases)
    agent: AgentName = AgentName(AGENT)  # noqa: RUF009 - a NewType is the string
    role: RoleRule = _ROLE
    is_script: bool = True
    """It may be one, if the operator names it."""

    @property
    def commands(self) -> tuple[str, ...]:
        """See ToolRecipe: ssh asks itself."""
        return ()

    def programs_with(self, named: tuple[Path, ...]) -> tuple[Path, ...]:
        """See AsksItself: scripts come beside OpenSSH, whose keys move too; what is native is in its place.

        Raises:
            MisuseError: nothing is named and ssh is not installed; or what is named can't be read.
        """
        own = _openssh()
        if not named and not own:
            raise MisuseError("ssh is not installed", next_step="install openssh-client, or name it with --binary PATH")
        return (*own, *named) if all(map(is_script, named)) else named

    def sets(self, program: Path) -> dict[str, str]:
        """See ToolRecipe."""
        del program
        return {}

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "id_ed25519", "ssh://github.com"

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe."""
        del owner, search_path
        yield from _openssh()

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe."""
        return SshSurvey(files, owner, self.socket, self.passphrases).survey()


def _openssh() -> tuple[Path, ...]:
    """Return OpenSSH's programs as the distribution installs them; empty: there is no ssh."""
    folder = next((Path(each) for each in _FOLDERS if (Path(each) / "ssh").exists()), None)
    return () if folder is None else tuple(folder / name for name in _PROGRAMS if (folder / name).exists())
