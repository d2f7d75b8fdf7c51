"""A real sshd on loopback with its own configuration, keys and port, for tests of SSH clients."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.patience import listens, until
from tests.fakes.ports import free_port

_CONFIG = """ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/{host_key}
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM yes
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowAgentForwarding yes
LogLevel VERBOSE
"""
_SEPARATION = Path("/run/sshd")  # where its unprivileged child is locked in; a distribution makes it at boot


@dataclass(frozen=True)
class Sshd:
    """One that runs."""

    folder: Path
    port: int
    host_key: Path

    def authorize(self, *lines: str) -> None:
        """Let these keys in, and no others."""
        (self.folder / "authorized_keys").write_text("".join(f"{line}\n" for line in lines))

    @property
    def known_hosts_line(self) -> str:
        """Return its line for a known_hosts file."""
        return f"[127.0.0.1]:{self.port} {self.host_key.with_suffix('.pub').read_text()}"

    @property
    def fingerprint(self) -> str:
        """Return its host key's fingerprint."""
        done = subprocess.run(["ssh-keygen", "-lf", self.host_key], capture_output=True, text=True, check=True)
        return done.stdout.split()[1]

    def log(self) -> str:
        """Return what it said."""
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def running_sshd(folder: Path, host_key: str = "ed25519") -> Iterator[Sshd]:
    """Run one; it has ended when the block is left."""
    folder.mkdir()
    key = folder / f"host_{host_key}"
    subprocess.run(["ssh-keygen", "-q", "-t", host_key, "-N", "", "-f", key], check=True)
    made = Sshd(folder, free_port(), key)
    made.authorize()
    config = folder / "config"
    config.write_text(_CONFIG.format(port=made.port, folder=folder, host_key=key.name))
    have_separation()
    with (folder / "log").open("wb") as log:
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", config]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            assert until(lambda: listens(made.port) or server.poll() is not None)
            assert server.poll() is None, made.log()
            yield made
        finally:
            server.terminate()
            server.wait()


def have_separation() -> None:
    """Have the folder that every sshd of the machine needs. It stays: another one may run that needs it too."""
    with contextlib.suppress(FileExistsError):
        _SEPARATION.mkdir(mode=0o755)
