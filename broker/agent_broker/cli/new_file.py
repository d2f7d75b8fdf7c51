"""Writes a file that a person named on the command line, perhaps as root in a folder of somebody else.

The law: what is there is not overwritten unless told; root follows no symbolic link anywhere in the path, since a
user could point one at a folder where a file means something; the file appears whole or not at all.
"""

import errno
import os
import secrets
import stat
from pathlib import Path

from agent_broker.enroll.beneath import open_without_links
from agent_broker.errors import MisuseError, UnavailableError

MODE = 0o600


def write_new(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file with mode 0600.

    Args:
        path: where; its folder must exist.
        content: all of it.
        replace: take the place of a regular file that is there.

    Raises:
        MisuseError: something is there, the folder is not, or the path has a symbolic link and root runs this.
        UnavailableError: the disk refuses.
    """
    folder = _open_folder(path)
    draft = f".{path.name[:100]}.{secrets.token_hex(8)}"
    try:
        if replace:
            _require_regular(folder, path)
        _write(folder, draft, content)
        try:
            if replace:
                os.rename(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            else:  # a link is made only where nothing is
                os.link(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            _remove(folder, draft)
    except FileExistsError as error:
        raise MisuseError(f"{path} is there already", next_step="--force replaces it") from error
    except OSError as error:
        raise UnavailableError(f"{path} can't be written: {error.strerror}", next_step="choose another -o") from error
    finally:
        os.close(folder)


def _open_folder(path: Path) -> int:
    if not path.name or path.name == "..":
        raise MisuseError(f"{path} names no file")
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - resolves no link, which is the point
    try:
        if os.geteuid() == 0:
            return open_without_links(folder, os.O_RDONLY | os.O_DIRECTORY)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise MisuseError(
                f"{folder} has a symbolic link in it, which root does not follow",
                next_step="name the real folder, or run it without sudo",
            ) from error
        raise MisuseError(f"{folder} can't be opened: {error.strerror}", next_step="choose another -o") from error


def _require_regular(folder: int, path: Path) -> None:
    try:
        facts = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(facts.st_mode):
        raise MisuseError(f"{path} is not a regular file, so it is not replaced", next_step="choose another -o")


def _write(folder: int, name: str, content: bytes) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, MODE, dir_fd=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:  # it was renamed to its place
        return
