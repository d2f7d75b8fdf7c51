"""The process that acts as the user while a transaction is under way, as /proc shows it."""

import os
from collections.abc import Iterator
from pathlib import Path


def acting_processes() -> Iterator[tuple[int, dict[str, str]]]:
    """Pids and status lines of our children that act as the user."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if lines["PPid"] == str(os.getpid()) and b"agent_broker.enroll.user_process" in command:
            yield int(lines["Pid"]), lines
