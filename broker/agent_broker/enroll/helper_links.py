"""Links of root's to the shim, for a tool that tells its helper nothing: their names say what is meant.

They open nothing: who asks through one is looked at as anybody else. They are journalled, made before the first file is
changed, and taken away when all files are back.
"""

from collections.abc import Iterable
from pathlib import Path

from agent_broker.errors import MisuseError, UnavailableError


def make_links(links: Iterable[str], shim: str) -> None:
    """Make each link beside the shim; one that is there already is fine.

    Raises:
        MisuseError: something else is in its place.
        UnavailableError: the disk refuses.
    """
    for each in map(Path, links):
        try:
            if each.is_symlink() and str(each.readlink()) == Path(shim).name:
                continue
            each.symlink_to(Path(shim).name)
        except FileExistsError as error:
            raise MisuseError(f"{each} is in the way", next_step="move it away, then try again") from error
        except OSError as error:
            raise UnavailableError(f"{each} can't be made: {error.strerror}", next_step="check the disk") from error


def remove_links(links: Iterable[str]) -> None:
    """Take them away; what is no link stays.

    Raises:
        UnavailableError: the disk refuses.
    """
    for each in map(Path, links):
        try:
            if each.is_symlink():
                each.unlink()
        except OSError as error:
            raise UnavailableError(f"{each} can't be removed: {error.strerror}", next_step="try again") from error
