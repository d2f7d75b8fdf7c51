"""A view on a real mount, between real processes and fakes: a vault in memory, a monitor that reads /proc.

Whoever runs the reader's program (Python) is the verified reader; everybody else is a stranger. The file belongs to the
user of the test, which is root.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.grant.ledger import Grant, Holder
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.viewed import ViewedFile
from agent_broker.ids import AgentName, Uid
from agent_broker.issue import Ask, Issued, require_identity
from agent_broker.monitor.view_mount import ViewMount, take_away
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret
from agent_broker.view.channel import Channel
from agent_broker.view.content import KIND, Content, attributes_of
from agent_broker.view.gate import Gate
from agent_broker.view.server import ViewServer
from agent_broker.view.tree import FileFolder
from tests.fakes.issuer import AGENT
from tests.fakes.sign import ToolMonitor

READER = os.path.realpath("/usr/bin/python3")
REAL, DECOY = b"real content\n", b"FAKE content\n"
Journal = Callable[[Content], Awaitable[None]]


class ViewVault:
    """Implements view.content.Store in memory; ``failure`` is raised by every ``put``."""

    def __init__(self) -> None:
        self.content = REAL
        self.attributes = attributes_of(len(REAL), 0o640)
        self.puts = 0
        self.failure: Exception | None = None

    def describe(self, credential: str) -> Credential:
        now = time.time_ns()
        return Credential(credential, KIND, AgentName("file.test"), Uid(os.getuid()), 1, now, now, self.attributes)

    def unseal(self, credential: str) -> Secret:
        del credential
        return Secret(self.content)

    def put(self, viewed: ViewedFile, attributes: dict[str, str], content: Secret) -> None:
        del viewed
        if self.failure is not None:
            raise self.failure
        self.puts += 1
        self.content, self.attributes = content.reveal(), attributes


class ViewIssuer:
    """Gives what the identity rules allow, unless ``refusal`` is set."""

    def __init__(self, vault: ViewVault) -> None:
        self._vault = vault
        self.refusal: RefusedError | None = None
        self.changes = 0
        """How often the second look is not like the first, from now on."""
        self.given = 0

    async def issue(self, ask: Ask) -> Issued:
        verdict = await ask.caller.attest()
        assert not isinstance(verdict, Unchanged)
        evidence = require_identity(verdict, ask.credential, ask.mode, readers=ask.readers)
        if self.refusal is not None:
            raise self.refusal
        freshness = evidence.freshness
        if self.changes or not isinstance(await ask.caller.attest(freshness), Unchanged):
            self.changes = max(0, self.changes - 1)
            raise RefusedError("changed", "the process changed while it was looked at")
        self.given += 1
        holder = Holder(freshness.epoch, freshness.proc_id, freshness.exec_id)
        grant = Grant("g1", holder, AGENT, evidence.uid, ask.credential, ask.mode, 0, expires_ns=1, uses=1)
        return Issued(grant, self._vault.describe(ask.credential), self._vault.unseal(ask.credential))


class Told:
    """Remembers refusals."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    async def refused(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> None:
        del ask, verdict
        self.sentences.append(refusal.message)


class ViewWorld:
    """One viewed file, served; made by ``viewing``."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "files"
        self.vault = ViewVault()
        self.monitor = ToolMonitor([READER])
        self.issuer = ViewIssuer(self.vault)
        self.told = Told()
        self.written = 0
        self.viewed = ViewedFile(AgentName("file.test"), Uid(os.getuid()), 0, "root", "/root", "test", (AGENT,))
        self.path = Path(self.viewed.target(self.mount))
        self.mounter = ViewMount(self.mount)
        self.gate = Gate(self.monitor, self.issuer, self.told)
        self.server = ViewServer(self.gate, self._note)
        self.channel: Channel | None = None

    async def _note(self, content: Content) -> None:
        del content
        self.written += 1

    def serve(self) -> None:
        """Mount it."""
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self.channel = Channel(fd, self.server)
        problem = self.mounter.mount(fd, os.getpid())
        assert not problem, problem
        self.server.show({FileFolder(self.viewed.owner_uid, self.viewed.name): Content(self.viewed, self.vault, DECOY)})
        self.channel.start()

    async def stop(self) -> None:
        """End as a broker does that dies: the mount stays, and answers ENOTCONN."""
        assert self.channel is not None
        await self.channel.close()
        await self.gate.close()

    async def read(self, script: str, *arguments: str) -> str:
        """Run a script as the reader, with PATH and FOLDER set; return what it printed, or the error's name."""
        head = f"import os, errno\nPATH = {str(self.path)!r}\nFOLDER = {str(self.path.parent)!r}\n"
        return await self.run(READER, "-I", "-c", head + _CAUGHT.format("\n    ".join(script.splitlines())), *arguments)

    @asynccontextmanager
    async def asking(self, script: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a script as the reader until its standard input ends."""
        pipe = asyncio.subprocess.PIPE
        head = f"import os\nPATH = {str(self.path)!r}\n"
        process = await asyncio.create_subprocess_exec(READER, "-I", "-c", head + script, stdin=pipe, stdout=pipe)
        try:
            yield process
        finally:
            await process.communicate(b"")  # ends its standard input

    async def run(self, *command: str | Path) -> str:
        """Run any other program: a stranger."""
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd="/"
        )
        said, _ = await process.communicate()
        await asyncio.sleep(0)
        return said.decode(errors="replace").strip()

    async def cat(self) -> str:
        """Return what a stranger reads."""
        return await self.run("/bin/cat", self.path)


_CAUGHT = """try:
    {}
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@asynccontextmanager
async def viewing() -> AsyncIterator[ViewWorld]:
    """Serve a view; in the end nothing is mounted."""
    folder = Path(tempfile.mkdtemp(prefix="ab-view-", dir="/tmp"))
    world = ViewWorld(folder)
    try:
        world.serve()
        yield world
    finally:
        await world.stop()
        world.server.close()
        world.mounter.close()
        take_away(world.mount)
        shutil.rmtree(folder)


def disk_full() -> UnavailableError:
    """What a vault says whose disk is full."""
    return UnavailableError("the disk refused")
