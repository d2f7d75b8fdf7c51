"""Servers that a row's programs need, on loopback: OpenSSH's and Docker's. Each has ended when it is left."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.noise.world import World
from tests.e2e.patience import listens, until
from tests.fakes.ports import free_port
from tests.fakes.sshd import have_separation

_SSHD = """ListenAddress 127.0.0.1
Port {port}
HostKey {key}
PidFile none
UsePAM yes
PasswordAuthentication no
"""


@contextlib.contextmanager
def ssh_server(made: World) -> Iterator[int]:
    """Run a real sshd that lets the user in by their key; give its port."""
    folder = made.folder / "sshd"
    folder.mkdir()
    made.as_root("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host")
    port = free_port()
    (folder / "config").write_text(_SSHD.format(port=port, key=folder / "host"))
    keys = made.home / ".ssh/authorized_keys"
    keys.write_text((made.home / ".ssh/id_ed25519.pub").read_text())
    made.give(keys)
    have_separation()
    with _running(folder / "log", "/usr/sbin/sshd", "-D", "-e", "-f", folder / "config") as server:
        assert until(lambda: listens(port) or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()
        yield port


@contextlib.contextmanager
def docker_daemon(made: World) -> Iterator[Path]:
    """Run a real dockerd without network of its own; give the socket, which is the user's."""
    folder = made.folder / "docker"
    folder.mkdir()
    place = folder / "docker.sock"
    command = (
        "/usr/bin/dockerd" if Path("/usr/bin/dockerd").exists() else "/usr/sbin/dockerd",
        "--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid",
        "--host", f"unix://{place}", "--storage-driver", "vfs", "--bridge", "none",
        "--iptables=false", "--ip6tables=false",
    )  # fmt: skip
    with _running(folder / "log", *command) as daemon:
        assert until(lambda: _answers(made, place) or daemon.poll() is not None)
        assert daemon.poll() is None, (folder / "log").read_text()[-3000:]
        os.chown(place, made.uid, made.uid)
        yield place


@contextlib.contextmanager
def _running(log: Path, *command: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        yield server
    finally:
        server.terminate()
        server.wait()


def _answers(made: World, place: Path) -> bool:
    """Ask as root: the socket is not the user's yet."""
    try:
        made.as_root("docker", "--host", f"unix://{place}", "version")
    except AssertionError:
        return False
    return True
