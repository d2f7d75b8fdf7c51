"""The bytes behind a process: hashed by descriptor, believed only if the kernel's numbers agree.

A path is never hashed, only an open file; a file that changes while it is read is an error. The hash of an
unchanged file is kept under everything that the file system changes when it changes the file.
"""

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable

from agent_broker.errors import AgentBrokerError, IntegrityError
from agent_broker.ids import Sha256
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.record import Image

_CHUNK_BYTES = 1024 * 1024  # hashlib drops the GIL for the length of a chunk; larger gains nothing (measured)
_CACHE_ENTRIES = 4096
_RACY_NS = 50_000_000
"""A file must be unchanged this long before its hash is taken: until kernel 6.13 a timestamp moves only once a jiffy
(up to 10 ms), so a second change could leave the same ctime. Git calls such entries racily clean."""

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def hash_open_file(fd: int, progress: Progress | None = None) -> Sha256:
    """Return the SHA-256 of all bytes of an open regular file; its offset is not moved.

    Raises:
        IntegrityError: the file changed between the first and the last byte.
        OSError: it can't be read.
    """
    before = _version(fd)
    size_bytes = os.fstat(fd).st_size
    digest = hashlib.sha256()
    buffer = bytearray(min(_CHUNK_BYTES, size_bytes + 1))  # zeroed by Python: a package has thousands of small files
    view = memoryview(buffer)
    done = 0
    while count := os.preadv(fd, [buffer], done):
        digest.update(view[:count])
        done += count
        if progress is not None:
            progress(done, size_bytes)
    if done != size_bytes or _version(fd) != before:
        raise IntegrityError("the file changed while it was hashed", next_step="try again when it is at rest")
    return Sha256(digest.hexdigest())


def _version(fd: int) -> tuple[int, int, int]:
    facts = os.fstat(fd)
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


async def hash_at_rest(fd: int, facts: FileFacts, sensor: Sensor, hashes: "HashCache") -> Sha256:
    """Return the hash of an open file that nobody has open for writing, before or after.

    A writer with a shared mapping changes a page that is dirty already without a new change time (measured on ext4 and
    tmpfs), so a hash that is taken while there is one says nothing about the bytes later.

    Raises:
        IntegrityError: a writer, other numbers than ``facts``, or a file that changes.
        OSError: it can't be read.
    """
    for looks in range(2):
        found = sensor.own_file(fd)
        if found.writers > 0:
            raise IntegrityError("a program has the file open for writing", next_step="end it, then try again")
        if found.file != facts:
            raise IntegrityError("the file changed while it was hashed", next_step="try again when it is at rest")
        if looks == 0:
            sha256 = await hashes.hash_fd(fd, facts)
    return sha256


async def hash_running(image: Image, sensor: Sensor, hashes: "HashCache") -> str:
    """Take the hash of a running image's file, into ``hashes``; return why it can't be taken, or nothing."""
    try:
        fd = os.open(f"/proc/{image.pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"the executable of process {image.pid} can't be read ({error.strerror})"
    try:
        # Equal kernel numbers name the same unchanged bytes, whoever the pid belongs to by now.
        if sensor.own_file(fd).file != image.file:
            return "the executable changed after it was started"
        await hash_at_rest(fd, image.file, sensor, hashes)
    except (AgentBrokerError, OSError) as error:
        return f"the executable can't be hashed: {error}"
    finally:
        os.close(fd)
    return ""


class HashCache:
    """Hashes by FileFacts: equal facts, same bytes (as far as the file system tells). Bounded, oldest out."""

    def __init__(self, entries: int = _CACHE_ENTRIES) -> None:
        self._entries = entries
        self._hashes: OrderedDict[FileFacts, Sha256] = OrderedDict()

    def get(self, facts: FileFacts) -> Sha256 | None:
        """Return the hash of the file with exactly these facts, if it was taken before."""
        return self._hashes.get(facts)

    async def hash_fd(self, fd: int, facts: FileFacts) -> Sha256:
        """Return the hash of an open file whose kernel numbers the caller has compared with ``facts``.

        Waits until the file is old enough for its timestamps to be trusted, hashes in a thread, so that the event
        loop goes on answering, and keeps the result. The descriptor stays the caller's.

        Raises:
            IntegrityError, OSError: see hash_open_file.
        """
        known = self.get(facts)
        if known is None:
            age_ns = time.time_ns() - facts.ctime_ns
            if age_ns < _RACY_NS:
                await asyncio.sleep(_RACY_NS / 1e9)  # not longer: a clock that was set back makes any file young
            known = await asyncio.to_thread(hash_open_file, fd)
            self._put(facts, known)
        return known

    def _put(self, facts: FileFacts, sha256: Sha256) -> None:
        self._hashes[facts] = sha256
        while len(self._hashes) > self._entries:
            self._hashes.popitem(last=False)
