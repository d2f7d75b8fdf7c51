"""The hash of an offender's executable: taken while it runs, or an honest sentence why not.

How the bytes are held: ``hold`` gets an O_PATH descriptor of ``/proc/PID/exe`` while the offender waits for our
answer, so they stay reachable when it deletes itself or ends. O_PATH raises no event: an executable that is itself
a marked decoy can't make the monitor wait for itself. Opening it for reading, and hashing, happen in threads.

What is compared: the link can be pointed elsewhere by its owner (PR_SET_MM_MAP in a user namespace), so the file
must be the one that the kernel recorded at exec: device, inode, generation, size and mtime.

Bounds: files over MAX_HASHED_BYTES are not hashed, nor files of a user's own file system (FUSE), whose read may never
end. MAX_AT_ONCE are hashed at a time; whose turn it is, the lineage decides (identity.look_turns). An incident waits
for its hash no longer than DEADLINE_S; the hash is finished all the same, so that the next one of the file has it.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent_broker.errors import AgentBrokerError, IntegrityError
from agent_broker.identity.look_turns import LookTurns
from agent_broker.ids import Sha256
from agent_broker.kernel.events import FUSE_MAGIC, FileFacts
from agent_broker.lineage.record import Step

MAX_HASHED_BYTES = 1 << 30  # about 1 s; interpreters and agents have up to 400 MB
MAX_AT_ONCE = 2  # of the event loop's worker threads, which the attestation needs too
DEADLINE_S = 1.0


class HashStore(Protocol):
    """What is asked of the hash cache that is shared with the attestation (identity.executable.HashCache)."""

    def get(self, facts: FileFacts) -> Sha256 | None:
        """Return the hash taken under exactly these facts."""
        ...

    async def hash_fd(self, fd: int, facts: FileFacts) -> Sha256:
        """Hash an open file that has these facts, and keep the result."""
        ...


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A hash, or a reason; both if the hash must be doubted."""

    sha256: Sha256 | None
    problem: str = ""


def hold(pid: int) -> int | None:
    """Return an O_PATH descriptor of a process's executable; None if it has none, or ended.

    Whose pid it is must be checked, by a pidfd that still lives afterwards (``is_alive``) or by the recorded file.
    """
    try:
        return os.open(f"/proc/{pid}/exe", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None


def is_alive(pidfd: int) -> bool:
    """Whether the process behind a pidfd was not reaped yet, so that its pid is its own."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except PermissionError:  # it lives, and is not ours to signal: the monitor has no CAP_KILL
        return True
    except OSError:
        return False
    return True


def facts_by_stat(fd: int) -> FileFacts:
    """Return what stat says of an open file, for hosts without BPF: not comparable with the kernel's records."""
    return FileFacts.by_stat(os.fstat(fd))


class Fingerprints:
    """Hashes executables for incidents; see the module."""

    def __init__(self, hashes: HashStore, facts_of: Callable[[int], FileFacts]) -> None:
        """Use a hash cache.

        Args:
            hashes: where hashes are kept.
            facts_of: the kernel's numbers of a descriptor of ours (Sensor.own_file), or ``facts_by_stat``; may raise
                an AgentBrokerError.
        """
        self._hashes = hashes
        self._facts_of = facts_of
        self._turns = LookTurns(MAX_AT_ONCE)
        self._running: set[asyncio.Task[Fingerprint]] = set()

    def known(self, recorded: FileFacts | None) -> Fingerprint | None:
        """Return the fingerprint of a recorded image's file if it was hashed before."""
        sha256 = self._hashes.get(recorded) if recorded is not None else None
        return Fingerprint(sha256) if sha256 is not None else None

    async def of(self, exe_fd: int | None, recorded: FileFacts | None, steps: tuple[Step, ...] = ()) -> Fingerprint:
        """Return the fingerprint of an executable; never raises for what a file or an attacker does.

        Args:
            exe_fd: from ``hold``; closed here, in any case.
            recorded: the file of the image that the kernel recorded at exec; None if that is unknown.
            steps: the lineage of who is the cause, as far as it is known.
        """
        if exe_fd is None:
            return Fingerprint(None, "its executable could not be opened")
        task = asyncio.create_task(self._hash(exe_fd, recorded, steps))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
        except TimeoutError:
            return Fingerprint(None, f"its executable was not hashed within {DEADLINE_S:g} s")

    async def close(self) -> None:
        """Wait until no descriptor is in use any more."""
        await asyncio.gather(*self._running)

    async def _hash(self, exe_fd: int, recorded: FileFacts | None, steps: tuple[Step, ...]) -> Fingerprint:
        try:
            async with self._turns.turn(steps) as refused:
                return Fingerprint(None, refused) if refused else await self._hash_file(exe_fd, recorded)
        except (AgentBrokerError, OSError) as error:
            return Fingerprint(None, f"its executable could not be hashed: {error}")
        finally:
            os.close(exe_fd)

    async def _hash_file(self, exe_fd: int, recorded: FileFacts | None) -> Fingerprint:
        facts = self._facts_of(exe_fd)
        if recorded is not None and _content(facts) != _content(recorded):
            return Fingerprint(None, "its executable is not, or no longer, what it executed")
        if facts.size_bytes > MAX_HASHED_BYTES:
            return Fingerprint(None, f"its executable is too large to hash ({facts.size_bytes} bytes)")
        if FUSE_MAGIC in {facts.fs_magic, recorded.fs_magic if recorded is not None else 0}:
            return Fingerprint(None, "its executable lies on a file system that a user can answer for")
        # In a thread: the file may be a decoy itself, and then this open waits for our own event loop's answer.
        fd = await asyncio.to_thread(os.open, f"/proc/self/fd/{exe_fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await self._hash_twice(fd, facts)
        finally:
            os.close(fd)

    async def _hash_twice(self, fd: int, facts: FileFacts) -> Fingerprint:
        """Hash; if only names, owners or modes changed meanwhile (a program that deletes itself), once more."""
        try:
            return Fingerprint(await self._hashes.hash_fd(fd, facts))
        except IntegrityError:
            now = self._facts_of(fd)
            if _content(now) != _content(facts):
                return Fingerprint(None, "its executable was changed before it could be hashed")
            doubt = "its executable's metadata changed while it was hashed, so the hash may be of changed bytes"
            return Fingerprint(await self._hashes.hash_fd(fd, now), doubt)


def _content(facts: FileFacts) -> tuple[int, int, int, int, int]:
    """Return what stays the same when a file is only renamed or deleted."""
    return facts.dev, facts.ino, facts.generation, facts.size_bytes, facts.mtime_ns
