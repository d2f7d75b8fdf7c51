"""A small interpreted agent on the real kernel side: a Node package of an ordinary user, enrolled and watched."""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from agent_broker.enroll.roles import GEMINI
from agent_broker.identity.attest import Attestor
from agent_broker.identity.bundle import digest_of, hash_files
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import Bundle, EnrolledBinary, EnrolledScript, Enrollment, Outside, RoleRule
from agent_broker.identity.scripts import SLACK_NS
from agent_broker.identity.tree import Bounds, scan_tree
from agent_broker.identity.wanted import lookup_folders
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.script_starts import ScriptStarts

OWNER = 1500
# Each says that it has loaded the other file of its package, and stays.
SCRIPTS = {
    "perl": '#!/usr/bin/perl\nrequire "{package}/part";\n$| = 1; print "loaded\\n"; sleep;\n',
    "ruby": '#!/usr/bin/env ruby\nload "{package}/part"\n$stdout.sync = true; puts "loaded"; sleep\n',
    "sh": "#!/bin/sh\n. {package}/part\necho loaded; read -r word < {folder}/fifo\n",
}
_IDLE = "setInterval(() => {}, 1000);\n"
_NODE_SCRIPT = '#!/usr/bin/env node\nrequire("./part.js");\nconsole.log("loaded");\n' + _IDLE


class InterpretedWorld:
    """``package`` holds main.js, which loads part.js; ``link`` is what people start. Files are the user's."""

    interpreter = "node"
    role = GEMINI

    def __init__(self, folder: Path):
        self.folder = folder
        self.node = Path(shutil.which(self.interpreter)).resolve()
        self.modules = folder / "lib/node_modules"
        self.package = self.modules / "sample"
        self.script = self.package / "main.js"
        self.link = folder / "bin/sample"
        self.started = []
        self._make_package()
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.store.apply)
        self.store.link_seeded()
        self.starts = ScriptStarts(self.sensor, self.store)
        self.attestor = Attestor(
            epoch="e1", tier="observe+", sensor=self.sensor, store=self.store, hashes=HashCache(),
            scripts=self.starts.scripts,
        )  # fmt: skip

    def _make_package(self):
        (self.package / "sub").mkdir(parents=True)
        self.link.parent.mkdir()
        self.script.write_text(_NODE_SCRIPT)
        self.script.chmod(0o755)
        (self.package / "part.js").write_text("module.exports = 1;\n")
        (self.package / "package.json").write_text('{"name": "sample", "version": "1.0.0"}\n')
        (self.package / "sub/data.txt").write_text("text\n")
        (self.package / "sub/again").symlink_to("data.txt")
        self.link.symlink_to("../lib/node_modules/sample/main.js")
        self.owned(*self.folder.rglob("*"), self.folder)

    def owned(self, *paths):
        """Give files to the user."""
        for path in paths:
            os.chown(path, OWNER, OWNER, follow_symlinks=False)

    async def rest(self):
        """Wait until what was just written is old enough, and noted, as the monitor does all the time."""
        await asyncio.sleep(3 * SLACK_NS / 1e9)
        self.starts.drain()

    async def enroll(self):
        tree = scan_tree(str(self.package), Bounds())
        digest = digest_of(tree, hash_files(str(self.package), tree, {}))
        bundle = Bundle(str(self.package), digest, tree.files, tree.size_bytes, self._outside())
        script = EnrolledScript(str(self.script), _sha256(self.script), bundle)
        binary = EnrolledBinary(str(self.node), _sha256(self.node), self.node.stat().st_size, script=script)
        enrollment = Enrollment("sample", OWNER, "me", (binary,), self.role, (), (), 0)
        table, problems = await read_enrolled_files([enrollment], self.sensor, self.attestor.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        problems += await self.starts.take_over(table)
        await self.rest()
        return problems

    def _outside(self):
        folders = lookup_folders(str(self.package), str(self.folder), str(self.node))
        return Outside(("optional", "@a/b"), folders, str(self.folder))

    def start(self, *argv, **options):
        """Start a program as the user."""
        options.setdefault("env", {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)})
        process = subprocess.Popen(
            [str(each) for each in argv], user=OWNER, group=OWNER, extra_groups=(), cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options,
        )  # fmt: skip
        self.started.append(process)
        return process

    def start_as_root(self, *argv):
        """Start a program as root."""
        process = subprocess.Popen(
            [str(each) for each in argv], stdin=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"}
        )
        self.started.append(process)
        return process

    def adopt(self, pid):
        """Take over a process that somebody else started."""
        process = _Adopted(pid)
        self.started.append(process)
        return process

    @contextmanager
    def pidfd(self, process):
        fd = os.pidfd_open(process.pid)
        try:
            yield fd
        finally:
            os.close(fd)

    def as_user(self, code):
        """Run Python as the user to its end: an attacker."""
        subprocess.run(
            ["/usr/bin/python3", "-c", code], user=OWNER, group=OWNER, extra_groups=(), cwd=self.folder, check=True
        )

    @contextmanager
    def attacker(self, code):
        """Run Python as the user; what it holds it holds until the end of the block."""
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", f"{code}\nprint(flush=True)\ninput()"], user=OWNER, group=OWNER, extra_groups=(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(b"\n")

    async def loaded(self, process):
        """Wait until a process has loaded the package: without its files it would end."""
        await asyncio.to_thread(process.stdout.readline)

    async def runs(self, process):
        """Wait until a process runs Node, without a look at the kernel side."""
        while Path(f"/proc/{process.pid}/exe").readlink() != self.node:
            await asyncio.sleep(0.001)

    async def attest(self, process):
        """Ask until the process runs Node: scripts pass through env first."""
        pidfd = os.pidfd_open(process.pid)
        try:
            for _ in range(2000):
                self.starts.drain()
                verdict = await self.attestor.attest(pidfd)
                steps = getattr(verdict, "steps", ())
                if steps and (steps[0].image.file.ino == self.node.stat().st_ino):
                    return verdict
                await asyncio.sleep(0.001)
            return verdict
        finally:
            os.close(pidfd)

    async def close(self):
        for process in self.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        await self.starts.close()
        self.sensor.close()


class ScriptWorld(InterpretedWorld):
    """The same of another interpreter: ``package`` holds main, which loads part. Nothing is known of its modules."""

    def __init__(self, folder: Path, interpreter: str):
        self.interpreter = interpreter
        names = (interpreter, Path(shutil.which(interpreter)).resolve().name)
        runtimes = ("loader", "shell" if interpreter == "sh" else interpreter)
        self.role = RoleRule(names, runtimes=runtimes)
        super().__init__(folder)

    def _make_package(self):
        self.package.mkdir(parents=True)
        self.link.parent.mkdir()
        self.script = self.package / "main"
        self.script.write_text(SCRIPTS[self.interpreter].format(package=self.package, folder=self.folder))
        self.script.chmod(0o755)
        (self.package / "part").write_text("true;\n")  # of all three
        self.link.symlink_to("../lib/node_modules/sample/main")
        os.mkfifo(self.folder / "fifo")
        self.owned(*self.folder.rglob("*"), self.folder)

    def _outside(self):
        return None


@asynccontextmanager
async def enrolled_world(make=InterpretedWorld):
    """Make the world, enrolled; in the end nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="interpreted-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        world = make(folder)
        try:
            await world.rest()
            assert await world.enroll() == ()
            yield world
        finally:
            await world.close()
    finally:
        shutil.rmtree(folder)


def is_agent(verdict):
    """Whether it says that the caller is an agent's main process."""
    return verdict.principal is not None and verdict.principal.is_caller


class _Adopted:
    stdout = None

    def __init__(self, pid):
        self.pid = pid

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """Somebody else's child: nothing to wait for."""


def _sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
