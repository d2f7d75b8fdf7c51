"""Where everything lies: the one home of every path of the product's own state.

All paths hang below one root, ``/`` on a real machine; a test or a demo moves all of them with ``--root DIR`` or
``AGENT_BROKER_ROOT=DIR``. Nothing here touches the disk. Owners and modes are those that the code which makes the
file sets; they are repeated here so that one page shows them all.
"""

import os
from pathlib import Path

from agent_broker.errors import MisuseError

ENVIRONMENT_VARIABLE = "AGENT_BROKER_ROOT"
MAX_SOCKET_PATH_BYTES = 107  # sizeof(sockaddr_un.sun_path) less the final NUL, unix(7)


class Layout:
    """The paths below one root."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Hang the layout below ``root``.

        Raises:
            MisuseError: the root's path is so long that no socket could be bound below it.
        """
        self.root = root.absolute()
        longest = max(len(os.fsencode(path)) for path in (self.monitor_socket, self.inject_socket, self.admin_socket))
        if longest > MAX_SOCKET_PATH_BYTES:
            raise MisuseError(
                f"the root {self.root} is too long: sockets below it would need {longest} bytes of path, "
                f"Linux allows {MAX_SOCKET_PATH_BYTES}",
                next_step="choose a shorter --root",
            )

    @classmethod
    def from_environment(cls, root_option: Path | None = None) -> "Layout":
        """Return the layout of ``--root`` if given, else of AGENT_BROKER_ROOT, else of ``/``."""
        return cls(root_option or Path(os.environ.get(ENVIRONMENT_VARIABLE) or "/"))

    def __repr__(self) -> str:
        return f"Layout({str(self.root)!r})"

    # -- what the operator writes ----------------------------------------------------------------------------

    @property
    def config_folder(self) -> Path:
        """Configuration: root:root 0755."""
        return self.root / "etc/agent-broker"

    @property
    def config_file(self) -> Path:
        """``config.toml``: root-owned, writable by root alone, may be missing."""
        return self.config_folder / "config.toml"

    @property
    def policy_folder(self) -> Path:
        """``policy.d/*.toml``: root-owned, writable by root alone; empty or missing denies everything."""
        return self.config_folder / "policy.d"

    @property
    def recipes_folder(self) -> Path:
        """``agents.d/*.toml``: recipes of agents that root added; root-owned, writable by root alone."""
        return self.config_folder / "agents.d"

    @property
    def root_key_file(self) -> Path:
        """The embedded default root key of the vault: root:root 0600."""
        return self.config_folder / "root.key"

    @property
    def managed_folder(self) -> Path:
        """Claude Code's own settings for every user: root:root 0755, made by ``managed set`` if need be."""
        return self.root / "etc/claude-code"

    # -- what the product keeps ------------------------------------------------------------------------------

    @property
    def state_folder(self) -> Path:
        """Durable state: root:root 0755; its folders have their own owners."""
        return self.root / "var/lib/agent-broker"

    @property
    def registry_folder(self) -> Path:
        """Enrolments, one JSON file each: root:root 0755, files 0644."""
        return self.state_folder / "registry/agents"

    @property
    def tools_folder(self) -> Path:
        """Enrolled tools (git, docker), one JSON file each, as the enrolments of agents."""
        return self.state_folder / "registry/tools"

    @property
    def registries(self) -> tuple[Path, Path]:
        """Everything that is enrolled, whichever it is: agents, and tools."""
        return self.registry_folder, self.tools_folder

    @property
    def files_folder(self) -> Path:
        """Files that are views, one JSON file each (never a value): root:root 0755, files 0644."""
        return self.state_folder / "registry/files"

    @property
    def decoys_folder(self) -> Path:
        """Planted decoys, one JSON file each (never a value): root:broker's group 0750, files 0644."""
        return self.state_folder / "registry/decoys"

    @property
    def allowed_folder(self) -> Path:
        """Programs that root allowed to open credential paths, one JSON file each: root:root 0755, files 0644."""
        return self.state_folder / "registry/allowed"

    @property
    def vault_folder(self) -> Path:
        """Of the broker's user, 0700."""
        return self.state_folder / "vault"

    @property
    def vault_file(self) -> Path:
        """The sealed records."""
        return self.vault_folder / "vault.sqlite3"

    @property
    def audit_folder(self) -> Path:
        """Of the broker's user, 0700."""
        return self.state_folder / "audit"

    @property
    def audit_log(self) -> Path:
        """The hash-chained journal of decisions; older segments lie beside it (audit.segments)."""
        return self.audit_folder / "audit.log"

    @property
    def alerts_log(self) -> Path:
        """The hash-chained journal of incidents; older segments lie beside it."""
        return self.audit_folder / "alerts.log"

    @property
    def alerts_store(self) -> Path:
        """Incidents for queries (SQLite), kept for a chosen time."""
        return self.audit_folder / "alerts.sqlite3"

    @property
    def outbox_folder(self) -> Path:
        """What alert sinks have not taken yet, one file a sink."""
        return self.audit_folder / "outbox"

    @property
    def frozen_file(self) -> Path:
        """Who is frozen."""
        return self.audit_folder / "frozen.json"

    @property
    def spool(self) -> Path:
        """The monitor's incidents that the broker has not acknowledged: root:root 0700."""
        return self.state_folder / "monitor/spool"

    @property
    def updates_file(self) -> Path:
        """Who wrote new versions of enrolled agents, as the last monitor saw it: root:root 0600."""
        return self.state_folder / "monitor/updates"

    @property
    def learnt_file(self) -> Path:
        """What learn mode proposes, and how long it goes on: root:root 0600."""
        return self.state_folder / "monitor/learnt.json"

    @property
    def enroll_folder(self) -> Path:
        """Journals of enrolments under way: root:root 0700."""
        return self.state_folder / "enroll"

    # -- sockets ---------------------------------------------------------------------------------------------

    @property
    def run_folder(self) -> Path:
        """Sockets: root:root 0755, so that nobody else can put one there."""
        return self.root / "run/agent-broker"

    @property
    def monitor_socket(self) -> Path:
        """The monitor's answers: SEQPACKET, root:broker's group 0660."""
        return self.run_folder / "monitor.sock"

    @property
    def agent_socket(self) -> Path:
        """Requests of shims: SEQPACKET, 0666; every message is attested."""
        return self.run_folder / "agent.sock"

    @property
    def inject_socket(self) -> Path:
        """The injection endpoint: HTTP, 0666; every connection is attested."""
        return self.run_folder / "inject.sock"

    @property
    def sign_socket(self) -> Path:
        """The ssh-agent: 0666; every request is attested."""
        return self.run_folder / "ssh.sock"

    @property
    def view_folder(self) -> Path:
        """The file view (FUSE): a folder for each user who has one; mounted by the monitor, served by the broker."""
        return self.run_folder / "files"

    @property
    def admin_socket(self) -> Path:
        """The control plane, both services: gRPC, root:root 0600."""
        return self.run_folder / "admin.sock"

    @property
    def read_socket(self) -> Path:
        """The control plane, reading only: gRPC, root:``agent-broker`` group 0660."""
        return self.run_folder / "read.sock"
