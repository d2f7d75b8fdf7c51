"""Find out before anything is touched whether a file could be replaced, by doing it with a file that has no name.

Whatever would make the real thing fail half-way fails here, with its reason and nothing to undo: no room, a quota, a
read-only mount, ``chattr +i``, a group or an attribute that the user can't give. Neither the file nor its folder is
opened for reading, written or changed, and no watch wakes.
"""

import errno
import os

from agent_broker.enroll.beneath import open_beneath
from agent_broker.enroll.file_attributes import attributes_of, dress
from agent_broker.enroll.file_facts import FileProblemError, problem_of, require_changeable, require_plain, state_of
from agent_broker.enroll.file_protocol import Rehearse
from agent_broker.enroll.file_state import Attributes

_NEW_FILE_MODE = 0o600
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR)  # open(2), O_TMPFILE
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def rehearse(folder: int, name: str, order: Rehearse) -> None:
    """Do what staging and exchanging would do to ``name`` of an open folder, and leave nothing.

    Raises:
        FileProblemError: it could not be done, or may not.
        OSError: the disk has no room.
    """
    place = os.path.split(order.path)[0] or "."
    try:
        require_changeable(folder, place)
        mode, gid, attributes = _worn(folder, name, order)
        draft = _unnamed(folder, place)
        if draft is None:
            return
        try:
            os.posix_fallocate(draft, 0, order.size_bytes)
            dress(draft, attributes, mode, gid, order.path)
        finally:
            os.close(draft)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        raise problem_of(error, order.path) from error


def _worn(folder: int, name: str, order: Rehearse) -> tuple[int, int, Attributes]:
    """Return mode, group and attributes of what would be replaced, or of what would be made."""
    try:
        fd = open_beneath(folder, name, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _NEW_FILE_MODE, order.gid, ()
    try:
        state = state_of(fd)
        require_plain(state, order.path)
        require_changeable(fd, order.path)
        return state.mode, state.gid, attributes_of(fd, order.path)
    finally:
        os.close(fd)


def _unnamed(folder: int, place: str) -> int | None:
    """Return a new file without a name; None: this file system has none, and only the rights could be looked at."""
    try:
        return open_beneath(folder, ".", os.O_TMPFILE | os.O_WRONLY, _NEW_FILE_MODE)
    except OSError as error:
        allowed = error.errno not in (errno.EACCES, errno.EPERM)
        if error.errno in _NO_UNNAMED_FILES:
            allowed = os.access(".", os.W_OK | os.X_OK, dir_fd=folder)
        elif allowed:
            raise
        if not allowed:
            raise FileProblemError("unwritable-folder", place) from error
        return None
