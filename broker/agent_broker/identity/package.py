"""One enrolled package as the monitor knows it: hashed once, watched from then on, looked at again where it changed.

The law:
1. Files are watched before they are looked at, so a digest is of what is there until a change is told.
2. Between two changes a question costs a read of an empty queue. An opened file is asked for writers; anything else
   is a new scan, in which only files with another entry (inode, size, times, mode) are hashed again.
3. A writer is a change at the time when it is noticed, whatever it wrote: it can write through a mapping that no
   time records. So a package is only good for programs that were started after its last writer left.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.identity.bundle import Hashes, digest_of, hash_files, lasting, now_ns
from agent_broker.identity.registry import EnrolledScript
from agent_broker.identity.resolution import file_system_problem, is_covered, mounted_by_users
from agent_broker.identity.tree import MAX_BYTES, Bounds, Tree, has_writer, open_in, open_root, path_in, scan_tree

_NATIVE = (b".node", b".so")  # what an interpreter maps as code
_MAX_OPENED = 64  # more opened files: a scan of all is cheaper
_MORE_TIMES, _MORE_FILES = 2, 1000
"""A next version that has more files is still looked at, so that it can be told from a change under a running one."""
_LOOKS = 5

ChangeKind = Literal["opened", "written", "changed", "mounted"]
"""``opened``: perhaps for writing; ``written``: a descriptor or mapping for writing was closed; ``mounted``: the mounts
of this namespace changed (of no file)."""


class TreeWatch(Protocol):
    """Who tells what happens to files (monitor.tree_watch)."""

    def follow(self, fd: int, announce: Callable[[bytes], None]) -> None:
        """Watch the inode behind a descriptor; its key is announced before the first event. Thread-safe.

        Raises:
            AgentBrokerError: it can't be watched.
        """
        ...

    def take(self) -> Iterable[tuple[bytes, ChangeKind]] | None:
        """Return what happened since the last call, without waiting; None: some of it was lost."""
        ...

    def close(self) -> None:
        """Watch nothing any more."""
        ...


class Package:
    """See the module. Lives in the monitor's event loop; looks in threads.

    Attributes:
        version: counts the looks that found something; what was judged with another one is judged again.
        tree: as last scanned; None: it could not be.
        matches: it is what was enrolled.
        problem: why it can't be told; empty if ``tree`` is there.
        written_ns: CLOCK_BOOTTIME when a writer was last noticed; 0: never.
        written: the file.
        covered_ns: CLOCK_BOOTTIME when its path was last seen to lead to a file system of a user's; 0: never.
        natives: the files that its interpreter may map as code.
        followed: how many inodes were put under watch; its owner counts it down.
    """

    def __init__(
        self,
        script: EnrolledScript,
        follow: Callable[[int, "Package", bytes], None],
        boottime_ns: Callable[[], int],
    ) -> None:
        self.script = script
        self.version = 0
        self.tree: Tree | None = None
        self.matches = False
        self.problem = ""
        self.written_ns = 0
        self.written = b""
        self.covered_ns = 0
        self.natives: frozenset[bytes] = frozenset()
        self.followed = 0
        self._follow = follow
        self._boottime_ns = boottime_ns
        self._hashes: Hashes = {}
        self._changed = True
        self._opened: set[bytes] = set()
        self._held = False
        self._looking = asyncio.Lock()

    @property
    def is_current(self) -> bool:
        """Whether nothing happened since the last look."""
        return not self._changed and not self._opened

    def note(self, path: bytes, kind: ChangeKind) -> None:
        """Take what was told about a file."""
        if kind == "opened":
            self._opened.add(path)
            self._changed |= len(self._opened) > _MAX_OPENED
            return
        self._changed = True
        if kind == "written":
            self._note_writer(path)

    def note_loss(self) -> None:
        """Take that something may have happened to any file."""
        self.note(b"", "written")

    def note_cover(self) -> None:
        """Take that a file system that a user answers for was mounted, or is no longer, where its path leads."""
        self._changed = True
        self.covered_ns = self._boottime_ns()

    async def look(self, *, again: bool = False) -> None:
        """Look at what changed, until nothing changes meanwhile (bounded).

        Args:
            again: a new program asks; a writer that was there is looked for once more.
        """
        async with self._looking:
            self._changed |= again and (self._held or bool(self.problem))
            for _ in range(_LOOKS):
                if self.is_current:
                    return
                opened, changed = self._opened, self._changed
                self._opened, self._changed = set(), False
                if changed:
                    await self._scan()
                else:
                    await self._ask_for_writers(opened)

    async def _scan(self) -> None:
        self.version += 1
        try:
            await asyncio.to_thread(self._scan_now)
        except MisuseError as error:  # far more files than were enrolled, or kinds that never are
            self._fail(f"its package is not what was enrolled: {error.message}")
        except (AgentBrokerError, OSError) as error:
            why = error.message if isinstance(error, AgentBrokerError) else error.strerror or str(error)
            self._fail(f"its package can't be verified: {why}")

    def _fail(self, problem: str) -> None:
        self.tree, self.matches, self.problem = None, False, problem

    def _scan_now(self) -> None:
        """Scan, hash what is new, compare. In a thread; ``look`` lets one at a time."""
        bundle = self.script.bundle
        if is_covered(bundle.root, mounted_by_users()):  # it may not answer for ever
            raise OSError("a file system that a user can answer for is mounted over it")
        root_fd = open_root(bundle.root)
        try:
            problem = file_system_problem(root_fd)
        finally:
            os.close(root_fd)
        if problem:
            raise OSError(problem)
        files = _MORE_TIMES * bundle.files + _MORE_FILES
        tree = scan_tree(bundle.root, Bounds(files, max(MAX_BYTES, bundle.size_bytes)), self._watch)
        is_alike = (tree.files, tree.size_bytes) == (bundle.files, bundle.size_bytes)  # else nothing need be read
        self.matches = is_alike and self._has_enrolled_bytes(tree)
        self.natives = frozenset(path for path in tree.entries if path.endswith(_NATIVE))
        self.tree, self.problem = tree, ""
        self._held = bool(tree.written)
        if tree.written:
            self._note_writer(tree.written[0])

    def _has_enrolled_bytes(self, tree: Tree) -> bool:
        bundle = self.script.bundle
        taken_ns = now_ns()
        hashes = hash_files(bundle.root, tree, self._hashes)
        self._hashes = lasting(hashes, taken_ns)
        entry = tree.entries.get(path_in(bundle.root, self.script.path))
        is_script = entry is not None and hashes.get(entry, b"").hex() == self.script.sha256
        return is_script and digest_of(tree, hashes) == bundle.digest

    async def _ask_for_writers(self, paths: set[bytes]) -> None:
        found = await asyncio.to_thread(self._writers_of, paths)
        if found is not None:
            self.version += 1
            self._held = True
            self._note_writer(found)

    def _writers_of(self, paths: set[bytes]) -> bytes | None:
        try:
            root_fd = open_root(self.script.bundle.root)
        except OSError:
            return b""
        try:
            return next((path for path in sorted(paths) if _is_written(root_fd, path)), None)
        finally:
            os.close(root_fd)

    def _watch(self, fd: int, path: bytes) -> None:
        self._follow(fd, self, path)

    def _note_writer(self, path: bytes) -> None:
        self.written_ns = self._boottime_ns()
        self.written = path


def _is_written(root_fd: int, path: bytes) -> bool:
    """Tell whether a file has a writer; True also if that can't be told: it was there a moment ago."""
    try:
        fd = open_in(root_fd, path)
    except OSError:
        return True
    try:
        return has_writer(fd)
    except OSError:
        return True
    finally:
        os.close(fd)
