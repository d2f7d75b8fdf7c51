"""What a file must be before we believe it, and how we replace one: durably, or not at all.

Every OSError leaves here as one of our own families; messages name paths and causes, never content.
"""

import os
import stat
import tempfile
from pathlib import Path

from agent_broker.errors import IntegrityError, UnavailableError

_RANDOM = "????????"  # tempfile's


def require_root_owned(path: Path, facts: os.stat_result) -> None:
    """Let pass what root alone could have written.

    Args:
        path: for the message.
        facts: of the opened file (fstat), or lstat of a folder: a symbolic link is refused.

    Raises:
        IntegrityError: another owner, writable by group or others, or a symbolic link.
    """
    if facts.st_uid != 0 or stat.S_ISLNK(facts.st_mode) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise IntegrityError(
            f"{path} could have been written by others than root",
            next_step=f"inspect it, then: chown root {path}; chmod go-w {path}",
        )


def require_private(path: Path, facts: os.stat_result) -> None:
    """Let pass a regular file that nobody but this process's user (and root) can read or write.

    Args:
        path: for the message.
        facts: fstat of the opened file.

    Raises:
        IntegrityError: not a regular file, not ours, or open to group or others.
    """
    mine = facts.st_uid == os.geteuid() or os.geteuid() == 0 == facts.st_uid
    if not stat.S_ISREG(facts.st_mode) or not mine or facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise IntegrityError(
            f"{path} must be a regular file of user {os.geteuid()} with mode 0600: others could read or change it",
            next_step=f"find out who did; then: chown {os.geteuid()} {path}; chmod 600 {path}",
        )


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file durably: after a kill or a power loss it has its old content or the new one.

    Raises:
        UnavailableError: the disk refused; the old content stands.
    """
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, mode)
                file.write(content)
                file.flush()
                os.fsync(fd)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise UnavailableError(
            f"{path} can't be written: {error.strerror}", next_step="check the disk's space and the folder's owner"
        ) from error


def sweep(folder: Path, name: str) -> None:
    """Delete what killed calls of ``replace_file`` left beside a file, or, of the name ``*``, in the whole folder.

    Only for whoever knows that nobody replaces it at this moment.

    Raises:
        UnavailableError: the disk refused.
    """
    try:
        for left in folder.glob(f".{name}.{_RANDOM}"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"{folder} can't be tidied: {error.strerror}", next_step="check the disk") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: as the disk says.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
