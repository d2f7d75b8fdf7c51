"""Which program an opener is: a file that root owns and an intact package of the distribution owns, or a hash.

The law:

1. What counts is the file that the kernel recorded at exec (or the executable that is held while the opener waits).
   Its path is believed only if it names the very same file, by all of the kernel's numbers, in the monitor's own view.
2. Only a file of root's that nobody else can write, on a file system that no user mounted, is asked after at the
   distribution. A copy of ``ssh`` in /tmp is nobody, whatever it is called.
3. A script is what its interpreter was given as first argument at exec, as the kernel captured it, if the interpreter
   is a package's itself and runs in the monitor's own mount namespace; the script's file must pass rule 2.

What it can't tell: what an environment variable (LD_PRELOAD, PYTHONPATH, NODE_OPTIONS), a user's own site-packages or a
debugger made of a genuine program. That is seen for enrolled agents only (identity.environment).
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.allowed import is_interpreter
from agent_broker.identity.distribution import Package
from agent_broker.ids import Sha256
from agent_broker.kernel.events import FUSE_MAGIC, FileFacts
from agent_broker.lineage.record import Image, Step
from agent_broker.monitor.actor import Actor
from agent_broker.monitor.fingerprint import Fingerprints

_MAX_KNOWN = 1024
_GROUP_OR_OTHERS_WRITE = 0o022


class PackageOwners(Protocol):
    """Who knows the distribution's packages (identity.distribution.Distribution); may block."""

    def owner_of(self, path: str, facts: FileFacts) -> Package | None:
        """Return the package that owns a file, by its resolved path; None: none does."""
        ...


class NoPackages:
    """A host whose package manager is not known."""

    def owner_of(self, path: str, facts: FileFacts) -> Package | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class Program:
    """What could be told of an executable file."""

    path: str
    """In the monitor's own view; empty: it has none there."""
    package: str = ""
    """Name of the intact package that owns it; empty: none, or none that can be trusted."""
    version: str = ""
    is_roots: bool = False
    """Root alone can change it."""

    @property
    def title(self) -> str:
        """The package and its version, for people."""
        return f"{self.package} {self.version}".strip()


UNKNOWN = Program("")


class Programs:
    """Identifies programs; answers are kept by the file's numbers. Belongs to the event loop."""

    def __init__(self, owners: PackageOwners, fingerprints: Fingerprints, facts_of: Callable[[int], FileFacts]) -> None:
        """Ask these.

        Args:
            owners: the distribution.
            fingerprints: hashes executables, bounded.
            facts_of: the kernel's numbers of a descriptor of ours.
        """
        self._owners = owners
        self._fingerprints = fingerprints
        self._facts_of = facts_of
        self._looking: dict[tuple[FileFacts, str], asyncio.Task[Program]] = {}
        self._known: OrderedDict[FileFacts, Program] = OrderedDict()
        self._mount_ns = Path("/proc/self/ns/mnt").stat().st_ino

    def forget(self) -> None:
        """Ask the distribution anew from now on: a package may have been removed."""
        self._known.clear()

    def known(self, facts: FileFacts) -> Program | None:
        """Return what was found out of a file before."""
        return self._known.get(facts)

    async def identify(self, facts: FileFacts, path: str) -> Program:
        """Return what an executable is. Never raises.

        Args:
            facts: what the kernel recorded of it.
            path: where it may be; believed only if it is there.
        """
        known = self._known.get(facts)
        if known is not None:
            return known
        looking = self._looking.get((facts, path))
        if looking is None:
            looking = asyncio.create_task(self._look_up(path, facts))
            self._looking[facts, path] = looking
            looking.add_done_callback(lambda _: self._looking.pop((facts, path), None))
        found = await asyncio.shield(looking)
        if found.is_roots:  # what was not found at this path may be found at another: nobody can have that remembered
            self._keep(facts, found)
        return found

    async def warm(self, paths: Iterable[str]) -> None:
        """Find out now what these files are, one after the other, so that who opens something needs not wait."""
        for path in paths:
            facts = self._facts_at(path)
            if facts is not None:
                await self.identify(facts, path)

    def held(self, actor: Actor) -> FileFacts | None:
        """Return the numbers of an executable that was held while its process waited: where nothing is recorded."""
        if actor.exe_fd is None:
            return None
        try:
            return self._facts_of(actor.exe_fd)
        except (AgentBrokerError, OSError):
            return None

    async def hash_of(self, facts: FileFacts, exe_fd: int, steps: tuple[Step, ...]) -> Sha256 | None:
        """Return the hash of the file behind a descriptor, if it is the recorded one; None: it could not be taken.

        ``steps``: the lineage of who opened something, as far as it is known.
        """
        known = self._fingerprints.known(facts)
        fingerprint = known if known is not None else await self._fingerprints.of(os.dup(exe_fd), facts, steps)
        return None if fingerprint.problem else fingerprint.sha256

    async def script_of(self, image: Image, interpreter: Program) -> tuple[str, Program]:
        """Return the script that an image runs, as it was given, and what that is; UNKNOWN if that is not sure."""
        given = image.args_head[0] if image.args_head else ""
        here = image.mount_ns == self._mount_ns and not image.user_namespace
        if not here or not given.startswith("/") or not interpreter.package or not is_interpreter(interpreter.path):
            return "", UNKNOWN
        resolved = os.path.realpath(given)  # noqa: ASYNC240 - given by a package's record only if it matches
        facts = self._facts_at(resolved)
        return ("", UNKNOWN) if facts is None else (given, await self.identify(facts, resolved))

    async def close(self) -> None:
        """Wait until no descriptor is in use any more, and nothing is asked."""
        await asyncio.gather(*self._looking.values())
        await self._fingerprints.close()

    async def _look_up(self, path: str, facts: FileFacts) -> Program:
        is_roots = facts.owner_uid == 0 and not facts.mode & _GROUP_OR_OTHERS_WRITE and facts.nlink > 0
        if not is_roots or facts.fs_magic == FUSE_MAGIC or self._facts_at(path) != facts:
            return Program(path)
        try:
            package = await asyncio.to_thread(self._owners.owner_of, path, facts)
        except (AgentBrokerError, OSError):
            package = None
        if package is None or not package.intact:
            return Program(path, is_roots=True)
        return Program(path, package.name.partition(":")[0], package.version, is_roots=True)

    def _facts_at(self, path: str) -> FileFacts | None:
        """Return the numbers of the file that a path names in the monitor's own view, without opening it."""
        try:
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None
        try:
            return self._facts_of(fd)
        except AgentBrokerError:
            return None
        finally:
            os.close(fd)

    def _keep(self, facts: FileFacts, program: Program) -> None:
        self._known[facts] = program
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
