"""Whether an interpreter runs the enrolled script, from the enrolled package: the judge of interpreted agents.

An image of an enrolled interpreter is its agent if, in this order:
1. its arguments name one script, behind enrolled options only (identity.script);
2. the path led to the enrolled script since before the exec (identity.resolution);
3. it sees the files that the monitor sees: the same mount namespace;
4. every file of the package is what was enrolled, changed last before the exec, and nobody wrote to it since
   (identity.package);
5. nothing happened to the way to the package, and there is no module where its interpreter looks for those that the
   package lacks (identity.surroundings).
Without 1 it is nobody; where only 2 to 5 fail it is the agent, tainted for as long as it runs. A package that was
another one already when the program was started, and only that, is said to be an update that nobody approved yet.

The path is walked once an image, as soon as the monitor hears of it. Package and surroundings are asked each time.
"""

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.agent import KnownFile
from agent_broker.identity.package import Package, TreeWatch
from agent_broker.identity.principal import ScriptVerdict
from agent_broker.identity.registry import EnrolledScript
from agent_broker.identity.resolution import Resolved, is_covered, mounted_by_users, resolve
from agent_broker.identity.script import started_script
from agent_broker.identity.surroundings import NameWatch, Surroundings
from agent_broker.identity.tree import open_below
from agent_broker.identity.wanted import places_of
from agent_broker.ids import ExecId
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.record import Captured, Image

SLACK_NS = 20_000_000
"""A change time is taken from a clock that may be a jiffy (10 ms) late."""
_REMEMBERED = 4096
_MAX_FOLLOWED = 16
"""A package may have so many inodes a file under watch, those that are gone included."""
_NOBODY = ScriptVerdict(genuine=False)
_NOT_ENROLLED = "its package is not what was enrolled"


class _Start:
    """One image that runs an enrolled script."""

    __slots__ = ("around", "began_ns", "exec_ns", "package", "taints", "verdict", "version")

    def __init__(
        self, package: Package, around: Surroundings, image: Image, began_ns: int, taints: tuple[str, ...]
    ) -> None:
        self.package = package
        self.around = around
        self.exec_ns = image.exec_ns
        self.began_ns = began_ns
        self.taints = taints
        self.version = (-1, -1)
        self.verdict = ScriptVerdict(genuine=True, taints=taints)

    @property
    def now(self) -> tuple[int, int]:
        """What the verdict is to be judged with."""
        return self.package.version, self.around.version

    @property
    def is_settled(self) -> bool:
        """Whether nothing that is found later changes the verdict: it is tainted, and not by an update alone."""
        return bool(self.taints) and not self.verdict.is_updated

    def taint(self, taints: Iterable[str]) -> None:
        """Judge it: what taints it once does so for good."""
        self.taints = tuple(dict.fromkeys((*self.taints, *taints)))
        is_updated, is_early = self.taints == (_NOT_ENROLLED,), self.exec_ns <= self.around.watched_ns
        self.verdict = ScriptVerdict(genuine=True, taints=self.taints, is_updated=is_updated, is_early=is_early)


class Scripts:
    """See the module (identity.principal.ScriptChecks). Lives in the monitor's event loop."""

    def __init__(
        self,
        sensor: Sensor,
        watch: TreeWatch,
        names: NameWatch,
        mount_ns: int,
        resolving: Callable[[bytes], Resolved] = resolve,
    ) -> None:
        """Make a judge that knows no package.

        Args:
            sensor: for the kernel's numbers of native files.
            watch: who tells what happens to files; stays the caller's to close, as the next.
            names: who tells what happens to folders' entries.
            mount_ns: inode number of the mount namespace whose files are looked at.
            resolving: follows a path.
        """
        self._sensor = sensor
        self._watch = watch
        self._names = names
        self._mount_ns = mount_ns
        self._resolve = resolving
        self._packages: dict[EnrolledScript, Package] = {}
        self._around: dict[EnrolledScript, Surroundings] = {}
        self._places: dict[bytes, set[tuple[Package, bytes]]] = {}
        self._natives: dict[EnrolledScript, frozenset[tuple[int, int]]] = {}
        self._mounted = mounted_by_users()
        self._starts: OrderedDict[tuple[ExecId, EnrolledScript | None], _Start | None] = OrderedDict()

    def verdict(self, image: Image, captured: Captured, known: KnownFile) -> ScriptVerdict | None:
        """See ScriptChecks."""
        del captured
        script = known.binary.script
        key = (image.exec_id, script)  # several programs may be of one package
        if key not in self._starts:
            return None
        start = self._starts[key]
        if start is None:
            return _NOBODY
        if start.is_settled:
            return start.verdict
        self.take_changes()
        if not start.package.is_current or not start.around.is_current:
            return None
        if start.version != start.now:
            self._judge(start)
        return start.verdict

    async def examine(self, image: Image, captured: Captured, known: KnownFile) -> None:
        """See ScriptChecks."""
        script = known.binary.script
        if script is None:
            return
        key = (image.exec_id, script)
        is_new = key not in self._starts
        if is_new:
            with suppress(OSError):  # out of descriptors or memory: not looked at, so not known
                start = await self._begin(image, captured, known)
                self._starts.setdefault(key, start)
            while len(self._starts) > _REMEMBERED:
                self._starts.popitem(last=False)
        start = self._starts.get(key)
        if start is None or start.is_settled:
            return
        await self._look(start.package, again=is_new)
        await start.around.look()
        self._judge(start)

    def owns(self, known: KnownFile, dev: int, ino: int) -> bool:
        """See ScriptChecks."""
        script = known.binary.script
        return script is not None and (dev, ino) in self._natives.get(script, frozenset())

    async def prepare(self, known: Iterable[KnownFile]) -> tuple[str, ...]:
        """Watch and hash the packages of a new table of agents, forget others; return a sentence for each problem."""
        problems = []
        scripts = {script: each for each in known if (script := each.binary.script) is not None}
        for script in self._packages.keys() - scripts.keys():
            self._forget_places(self._packages.pop(script))
            self._around.pop(script, None)
            self._set_natives(script, frozenset())
        for script, each in scripts.items():
            package, around = self._package_of(script), self._around_of(script)
            await self._look(package)
            await around.look()
            if not package.matches or around.present:
                why = package.problem or _NOT_ENROLLED
                if package.matches:
                    why = f"a module that it asks for and lacks lies above it: {around.present}"
                agent = each.enrollment.agent
                approve = f"if you updated it: sudo agent-broker approve {agent}"
                problems.append(f"{agent} of {each.enrollment.owner_name}: {script.bundle.root}: {why}; {approve}")
        return tuple(problems)

    def take_changes(self) -> None:
        """Note what happened to the packages' files since the last call. A microsecond if nothing did."""
        self._take_names()
        changes = self._watch.take()
        if changes is None:
            for package in self._packages.values():
                package.note_loss()
            return
        for key, kind in changes:
            if kind == "mounted":
                self._note_mounts()
            for package, path in tuple(self._places.get(key, ())):
                package.note(path, kind)

    def _take_names(self) -> None:
        names = self._names.take()
        for around in self._around.values():
            if names is None:
                around.note_loss()
            for key, name in names or ():
                around.note(key, name)

    def _note_mounts(self) -> None:
        """Take that the mounts changed: a user may mount, by a setuid helper, what shows an interpreter other files."""
        mounted = mounted_by_users()
        for package in self._packages.values():
            if is_covered(package.script.bundle.root, mounted | self._mounted):
                package.note_cover()
        for around in self._around.values():
            around.note_mounts(mounted ^ self._mounted)
        self._mounted = mounted

    async def _begin(self, image: Image, captured: Captured, known: KnownFile) -> _Start | None:
        """Look at the start of an image; None: it runs another script."""
        script = known.binary.script
        role = known.enrollment.role
        named = started_script(captured.arguments, role.interpreter_options, role.required_options)
        if script is None or not named.path:
            return None
        began_ns = image.exec_ns + time.time_ns() - _boottime_ns()
        try:
            found = await asyncio.to_thread(self._resolve, named.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if found.path != script.path:
            return None
        taints = (*_home_taints(script, captured), *self._path_taints(image, found, began_ns))
        return _Start(self._package_of(script), self._around_of(script), image, began_ns, taints)

    def _path_taints(self, image: Image, found: Resolved, began_ns: int) -> tuple[str, ...]:
        taints = []
        if found.problem:
            taints.append(f"the path of its script can't be verified: {found.problem}")
        if image.mount_ns != self._mount_ns:
            taints.append("it was started in another mount namespace, where its script's path can name other files")
        if found.newest_ns >= began_ns - SLACK_NS:
            taints.append(f"the path of its script was changed when or after it was started: {found.newest}")
        return tuple(taints)

    async def _look(self, package: Package, *, again: bool = False) -> None:
        self.take_changes()
        if package.followed > _MAX_FOLLOWED * (1 + package.script.bundle.files):
            self._forget_places(package)
            package.note_loss()
        version = package.version
        await package.look(again=again)
        if package.version != version:
            self._set_natives(package.script, frozenset(self._numbers_of(package)))
            self.take_changes()

    def _set_natives(self, script: EnrolledScript, numbers: frozenset[tuple[int, int]]) -> None:
        """Note a package's native files, and let its agent map them where the kernel side watches mappings."""
        before: set[tuple[int, int]] = set().union(*self._natives.values())
        self._natives[script] = numbers
        if not numbers:
            del self._natives[script]
        after: set[tuple[int, int]] = set().union(*self._natives.values())
        for key in before - after:
            self._sensor.unregister_part(*key)
        for key in after - before:
            with suppress(UnavailableError):  # no room: it taints when it is mapped
                self._sensor.register_part(*key)

    def _judge(self, start: _Start) -> None:
        """Judge the package for one image; while it can't be looked at, that is a taint which does not last."""
        package = start.package
        name = os.fsdecode(package.written) or "a file of the package"
        start.version = start.now
        if package.tree is None:
            start.verdict = ScriptVerdict(genuine=True, taints=(*start.taints, package.problem))
            return
        taints = []
        if not package.matches:
            taints.append(_NOT_ENROLLED)
        if package.tree.newest_ns >= start.began_ns - SLACK_NS:
            newest = os.fsdecode(package.tree.newest) or "the package's folder"
            taints.append(f"its package was changed when or after it was started: {newest}")
        if package.covered_ns >= start.exec_ns:
            taints.append("a file system that a user can answer for was mounted over its package while it ran")
        if package.written_ns >= start.exec_ns:
            taints.append(f"a program has, or had, {name} open for writing")
        start.taint((*taints, *start.around.taints(start.exec_ns)))

    def _package_of(self, script: EnrolledScript) -> Package:
        if script not in self._packages:
            self._packages[script] = Package(script, self._follow, _boottime_ns)
        return self._packages[script]

    def _around_of(self, script: EnrolledScript) -> Surroundings:
        if script not in self._around:
            outside = script.bundle.outside
            places = places_of(outside.folders, outside.modules) if outside else ()
            self._around[script] = Surroundings(script.bundle.root, places, self._names.follow, _boottime_ns)
        return self._around[script]

    def _follow(self, fd: int, package: Package, path: bytes) -> None:
        """Watch one file of a package; called from the thread that scans it."""

        def announce(key: bytes) -> None:
            places = self._places.setdefault(key, set())
            package.followed += (package, path) not in places
            places.add((package, path))

        self._watch.follow(fd, announce)

    def _forget_places(self, package: Package) -> None:
        """Forget which inodes are the package's: of one that is gone, or is full of inodes that are gone."""
        package.followed = 0
        for key, places in tuple(self._places.items()):
            places -= {place for place in places if place[0] is package}
            if not places:
                del self._places[key]

    def _numbers_of(self, package: Package) -> Iterable[tuple[int, int]]:
        """Yield the kernel's numbers of the files that its interpreter may map as code."""
        for path in package.natives:
            with suppress(OSError, AgentBrokerError):  # gone again: then it is not the package's
                fd = open_below(package.script.bundle.root, path)
                try:
                    facts = self._sensor.own_file(fd).file
                finally:
                    os.close(fd)
                yield facts.dev, facts.ino


def _home_taints(script: EnrolledScript, captured: Captured) -> tuple[str, ...]:
    outside = script.bundle.outside
    if outside is None or captured.home_sha256 is None:
        return ()
    if captured.home_sha256 == hashlib.sha256(os.fsencode(outside.home)).hexdigest():
        return ()
    return ("it was started with another HOME, where its interpreter looks for modules that its package lacks",)


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
