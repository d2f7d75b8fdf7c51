"""Both daemons end by themselves and well when told to, whatever goes on meanwhile."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.demo.check import eventually
from tests.demo.processes import BROKER, Background

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

ACCOUNT = 64_123
"""A number that no user of the machine has; the broker needs no entry for it."""


@pytest.fixture
def root():
    with tempfile.TemporaryDirectory(prefix="ab-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        config = Path(path) / "etc/agent-broker/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f"[daemon]\nuser = {ACCOUNT}\ngroup = {ACCOUNT}\n\n[inject]\nport = 1019\n")
        yield Path(path)


@pytest.fixture
def burst():
    """Execs without a pause, so that the kernel's ring always holds something."""
    shell = subprocess.Popen(["/bin/sh", "-c", "while :; do /bin/true; done"])
    yield
    shell.kill()
    shell.wait()


def start(root: Path, name: str, socket_name: str) -> Background:
    program = Background(name, [str(BROKER), "--root", str(root), name], root / f"{name}.log", os.environ)

    def answers() -> bool:
        program.require_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(str(root / "run/agent-broker" / socket_name))
        return "ready" in program.said()

    try:
        eventually(answers, f"the {name} to be ready", within_s=90, seen=program.said)
    except BaseException:
        program.stop(signal.SIGKILL)
        raise
    return program


@pytest.mark.usefixtures("burst")
@pytest.mark.parametrize(
    ("number", "monitor_first"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
def test_both_end_well_in_the_middle_of_a_burst(root, number, monitor_first):
    with contextlib.ExitStack() as undo:
        monitor = start(root, "monitor", "monitor.sock")
        undo.callback(monitor.stop, signal.SIGKILL)
        daemon = start(root, "daemon", "agent.sock")
        undo.callback(daemon.stop, signal.SIGKILL)
        first, second = (monitor, daemon) if monitor_first else (daemon, monitor)
        assert (first.stop(number), first.said()) == (0, first.said())
        assert (second.stop(number), second.said()) == (0, second.said())
