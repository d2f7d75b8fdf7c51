"""The machine's own systemd-journald, a second one, in a mount namespace where its folders are empty."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "/lib/systemd/systemd-journald"
_START = """
set -e
mount --make-rprivate /
mkdir -p /run/systemd /run/log
mount --bind "$1" /run/systemd
mount -t tmpfs tmpfs /run/log
mkdir -p /var/log/journal && mount -t tmpfs -o ro tmpfs /var/log/journal
echo ready
read -r _
exec "$0"
"""


class RealJournald:
    """Its socket is in a folder of ours, its files are in a mount namespace that a waiting process keeps."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "journal/socket"
        self.socket.parent.mkdir()
        self._process = subprocess.Popen(
            ["unshare", "--mount", "/bin/sh", "-c", _START, PROGRAM, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout.readline() == "ready\n"

    def start(self) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        while not self._serves():
            assert self._process.poll() is None
            time.sleep(0.01)

    def entries(self, *matches: str) -> list[dict]:
        """What it has stored, oldest first; what its socket still holds is stored first."""
        subprocess.run(self._inside("journalctl", "--sync"), check=True, capture_output=True)
        command = self._inside("journalctl", "--directory=/run/log/journal", "--output=json", "--all", *matches)
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in found.splitlines()]

    def _serves(self) -> bool:
        """Whether it is past its start: its socket has a name before it asks for who sends."""
        if not self.socket.exists():
            return False
        return subprocess.run(self._inside("journalctl", "--sync"), check=False, capture_output=True).returncode == 0

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", *command]

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


@contextmanager
def real_journald(folder: Path) -> Iterator[RealJournald]:
    """``folder``: an empty one that stands for /run/systemd."""
    made = RealJournald(folder)
    try:
        yield made
    finally:
        made.end()
