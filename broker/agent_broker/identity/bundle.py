r"""One digest for a package: a Merkle tree over every name, type, permission, link target and content below a folder.

    file    SHA-256("agent-broker bundle 1 file\n"   + mode + SHA-256(content))
    link    SHA-256("agent-broker bundle 1 link\n"   + mode + target)
    folder  SHA-256("agent-broker bundle 1 folder\n" + mode + for each entry, by its name's bytes:
                    length of the name (4 bytes, big-endian) + name + digest of the entry)

``mode`` is the permission bits (07777), four bytes, big-endian. Owners and times are not part of it: installing the
same version again gives the same digest. The bundle's digest is its root folder's.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable

from agent_broker.errors import IntegrityError
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.tree import Entry, Tree, open_in, open_root
from agent_broker.ids import Sha256

_DOMAIN = b"agent-broker bundle 1 "
_RACY_NS = 50_000_000  # as executable: until a file is so old, a change may leave its change time as it was

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

Hashes = dict[Entry, bytes]
"""The SHA-256 of files by what they were."""


def hash_files(root: str, tree: Tree, known: Hashes, progress: Progress | None = None) -> Hashes:
    """Return the hash of every file of a tree; those that are known are not read again. Blocks: for a thread.

    Raises:
        IntegrityError: a file is not what the tree says any more.
        OSError: a file can't be read.
    """
    found: Hashes = {}
    done = 0
    root_fd = open_root(root)
    try:
        for path, entry in tree.entries.items():
            if not stat.S_ISREG(entry.mode):
                continue
            found[entry] = known.get(entry) or _hash(root_fd, path, entry)
            done += entry.size_bytes
            if progress is not None:
                progress(done, tree.size_bytes)
    finally:
        os.close(root_fd)
    return found


def lasting(hashes: Hashes, taken_ns: int) -> Hashes:
    """Return those that may be used again: of files that were old enough when they were read.

    Args:
        hashes: of files.
        taken_ns: CLOCK_REALTIME before the first was read.
    """
    return {entry: digest for entry, digest in hashes.items() if entry.ctime_ns < taken_ns - _RACY_NS}


def now_ns() -> int:
    """Return CLOCK_REALTIME, which change times are taken from."""
    return time.time_ns()


def digest_of(tree: Tree, hashes: Hashes) -> Sha256:
    """Return the digest of a tree whose files were all hashed."""
    children: dict[bytes, list[tuple[bytes, bytes]]] = {}
    digest = b""
    for path, entry in reversed(tree.entries.items()):  # what is in a folder comes after it
        digest = _digest(entry, hashes, children.pop(path, []))
        folder, _, name = path.rpartition(b"/")
        if path:
            children.setdefault(folder, []).append((name, digest))
    return Sha256(digest.hex())


def _digest(entry: Entry, hashes: Hashes, children: list[tuple[bytes, bytes]]) -> bytes:
    mode = stat.S_IMODE(entry.mode).to_bytes(4, "big")
    if stat.S_ISREG(entry.mode):
        return hashlib.sha256(_DOMAIN + b"file\n" + mode + hashes[entry]).digest()
    if stat.S_ISLNK(entry.mode):
        return hashlib.sha256(_DOMAIN + b"link\n" + mode + entry.target).digest()
    listing = b"".join(len(name).to_bytes(4, "big") + name + digest for name, digest in sorted(children))
    return hashlib.sha256(_DOMAIN + b"folder\n" + mode + listing).digest()


def _hash(root_fd: int, path: bytes, entry: Entry) -> bytes:
    fd = open_in(root_fd, path)
    try:
        facts = os.fstat(fd)
        if (facts.st_dev, facts.st_ino, facts.st_ctime_ns) != (entry.dev, entry.ino, entry.ctime_ns):
            raise IntegrityError(f"{os.fsdecode(path)} changed while it was looked at", next_step="try again")
        return bytes.fromhex(hash_open_file(fd))
    finally:
        os.close(fd)
