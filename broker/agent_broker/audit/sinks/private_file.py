"""Files that hold secrets for a sink: read once, while the broker is still root."""

import os
import stat
from pathlib import Path
from typing import Final

from agent_broker.errors import IntegrityError, MisuseError

MAX_BYTES: Final = 64 << 10


def private_lines(path: Path, key: str) -> tuple[tuple[int, str], ...]:
    """Return (number, text) of a file's lines; empty ones and those that begin with ``#`` are left out.

    Args:
        path: root's own, mode 0600 or 0400.
        key: of config.toml that names it, for messages. They name lines and quote nothing.

    Raises:
        MisuseError: it can't be read, is too long or not UTF-8.
        IntegrityError: others than root can read or write it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != 0 or facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise IntegrityError(
                    f"{path} holds secrets, and others than root can read it",
                    next_step=f"replace the secrets in it, then: chown root {path}; chmod 600 {path}",
                )
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MisuseError(f"{key}: {path} can't be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise MisuseError(f"{key}: {path} is longer than {MAX_BYTES} bytes")
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise MisuseError(f"{key}: {path} is not UTF-8") from None
    return tuple(
        (number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")
    )
