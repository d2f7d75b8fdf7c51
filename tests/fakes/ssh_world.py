"""A user's home with keys of SSH in it, and everything their enrolment works with (see enroll_world)."""

import os
import subprocess
from pathlib import Path

import msgspec

from agent_broker.enroll.plan import Plan
from agent_broker.enroll.ports import Site
from agent_broker.enroll.ssh import SshRecipe
from agent_broker.enroll.ssh_survey import Passphrases
from agent_broker.enroll.tool_plan import make_tool_plan
from tests.fakes.enroll_world import GID, UID, EnrollWorld

PASSPHRASE = "correct horse"


class SshWorld(EnrollWorld):
    """``answers``: what a person answers who is asked for a passphrase; None: nobody is there."""

    def __init__(self) -> None:
        super().__init__()
        self.ssh = self.home / ".ssh"
        self.ssh.mkdir(mode=0o700)
        os.chown(self.ssh, UID, GID)
        self.answers: list[str] | None = None
        self.asked: list[str] = []
        self.socket = Path("/run/agent-broker/ssh.sock")
        self.config = self.ssh / "config"
        self.recipe = SshRecipe(self.socket)

    def key(self, name: str, kind: str = "ed25519", *options: str, passphrase: str = "") -> str:
        """Make a key pair of the user's; return its public line."""
        path = self.ssh / name
        made = ("-t", kind, "-N", passphrase, "-C", f"{name}@test", "-f", str(path), *options)
        subprocess.run(["ssh-keygen", "-q", *made], check=True)
        for each in (path, path.with_name(f"{name}.pub")):
            self.make(each, each.read_bytes())
        return path.with_name(f"{name}.pub").read_text().strip()

    def site(self, on_step=lambda _: None) -> Site:
        """See EnrollWorld."""
        return Site(**{**vars(super().site(on_step)), "tools_dir": self.state / "registry/tools"})

    def plan(self, *binaries: Path) -> Plan:
        """See EnrollWorld; the recipe is new, as it is for each command. ``binaries``: as ``--binary`` names them."""
        ask = None if self.answers is None else self._ask
        self.recipe = SshRecipe(self.socket, Passphrases(ask))
        tools = self.state / "registry/tools"
        return make_tool_plan(self.recipe, self.owner, shim=Path("/nowhere"), tools_dir=tools, binaries=binaries)

    def credential(self, name: str):
        """Return a record of the vault."""
        return self.store.records[f"ssh/{UID}/{name}"]

    def limits(self, name: str) -> dict[str, object]:
        """Return a key's limits as they are stored."""
        return msgspec.json.decode(self.credential(name).attributes["limits"])

    def _ask(self, path: str) -> bytes | None:
        self.asked.append(path)
        return self.answers.pop(0).encode() if self.answers else None
