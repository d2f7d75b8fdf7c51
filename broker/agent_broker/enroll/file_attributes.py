"""What a file carries besides its bytes and times: group, mode, access lists and other extended attributes.

A new file gets those of the file that it replaces, or is refused: nothing is dropped silently. Attributes that only
the kernel or root may set (``security.``, ``trusted.``) are not copied: what vouches for the old bytes, or gives
rights to them, must not vouch for others. A file that has one which a new file does not get by itself is refused.
"""

import errno
import os
import stat

from agent_broker.enroll.file_facts import FileProblemError
from agent_broker.enroll.file_state import Attributes

MAX_ATTRIBUTES_BYTES = 256 * 1024  # of one file: names and values; ext4 holds 64 KiB in all
_KEPT_BY_KERNEL = ("security.", "trusted.")
_ACL = "system.posix_acl_"
_WITHOUT_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA)


def attributes_of(fd: int, path: str) -> Attributes:
    """Return all extended attributes of a file, ordered by name; it is not opened for it: ``fd`` may be an O_PATH one.

    Raises:
        FileProblemError: there are too many to keep.
        OSError: as getxattr(2).
    """
    place = f"/proc/self/fd/{fd}"
    try:
        found = tuple((name, os.getxattr(place, name)) for name in sorted(os.listxattr(place)))
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a file system without attributes has none to lose
            return ()
        raise
    if sum(len(name) + len(value) for name, value in found) > MAX_ATTRIBUTES_BYTES:
        raise FileProblemError("attribute", path, f"more than {MAX_ATTRIBUTES_BYTES} bytes of them")
    return found


def dress(fd: int, attributes: Attributes, mode: int, gid: int, path: str) -> None:
    """Give a new file group, attributes and mode; mode last, since a chown clears bits.

    Raises:
        FileProblemError: it can't be given one of the attributes.
        OSError: as fchown(2), fchmod(2).
    """
    if os.fstat(fd).st_gid != gid:
        os.fchown(fd, -1, gid)
    _give(fd, attributes, path)
    os.fchmod(fd, stat.S_IMODE(mode))


def _give(fd: int, attributes: Attributes, path: str) -> None:
    given = dict(attributes_of(fd, path))
    names = {name for name, _ in attributes}
    for name in given:
        if name.startswith(_ACL) and name not in names:  # inherited from the folder; the old file had none
            os.removexattr(fd, name)
    for name, value in sorted(
        attributes, key=lambda each: each[0].startswith(_ACL)
    ):  # they may take the right to write
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if name.startswith(_KEPT_BY_KERNEL) and given.get(name) == value:
                continue
            raise FileProblemError("attribute", path, name) from error
