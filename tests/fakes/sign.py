"""The ssh-agent socket on a real path, between real SSH clients and the fakes of tests.fakes.issuer.

Whoever runs one of ``tools`` is the verified tool; everybody else is not. Keys are made by ssh-keygen.
"""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agent_broker.clock import SystemClock
from agent_broker.grant.ledger import Grant, Holder
from agent_broker.identity.evidence import Evidence, ToolUse, Unknown
from agent_broker.ids import ExecId, Sha256
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.peer import PeerFinder, SocketLike
from agent_broker.inject.sock_diag import SockDiag
from agent_broker.issue import Ask, Issued, require_identity
from agent_broker.sign.agent import SshAgent, known
from agent_broker.sign.book import KeyBook
from agent_broker.sign.connections import SignSocket
from agent_broker.ssh.binding import Limits
from agent_broker.ssh.keys import blob_of_line, load_private_key, sealed_form
from agent_broker.ssh.record import KIND, KeyFacts
from tests.fakes.issuer import AGENT, MemoryVault, PlainIssuer, ProcMonitor

OPENSSH = frozenset({"/usr/bin/ssh", "/usr/bin/ssh-add", "/usr/bin/ssh-keygen"})


class ToolMonitor(ProcMonitor):
    """Calls those the enrolled tool that run one of ``tools``, by what /proc says now."""

    def __init__(self, tools: Iterable[str] = OPENSSH) -> None:
        super().__init__()
        self.tools = set(tools)

    def evidence(self, pid: int) -> Evidence:
        """See ProcMonitor."""
        evidence = super().evidence(pid)
        image = ExecId(Path(f"/proc/{pid}/exe").stat().st_ino)  # another one after an exec, as the kernel's
        freshness = msgspec.structs.replace(evidence.freshness, exec_id=image)
        evidence = msgspec.structs.replace(evidence, freshness=freshness)
        if os.path.realpath(f"/proc/{pid}/exe") not in self.tools:
            return evidence
        which = (freshness.proc_id, freshness.exec_id, Sha256("0" * 64))
        tool = ToolUse(AGENT, evidence.uid, *which, is_caller=True)
        return msgspec.structs.replace(evidence, tool=tool)


class ToolIssuer(PlainIssuer):
    """As the issuer decides about a tool, without policy and journal."""

    async def issue(self, ask: Ask) -> Issued:
        """See issue.Issuer."""
        self.asks.append(ask)
        credential = self._vault.describe(ask.credential)
        evidence = require_identity(known(await ask.caller.attest()), ask.credential, ask.mode, tool=ask.tool)
        freshness = evidence.freshness
        holder = Holder(freshness.epoch, freshness.proc_id, freshness.exec_id)
        grant = Grant("g1", holder, AGENT, credential.owner_uid, credential.id, ask.mode, 0, expires_ns=1, uses=1)
        self.given += 1
        return Issued(grant, credential, self._vault.unseal(credential.id))


class Refused:
    """Remembers refusals: (rule, credential, what it was about)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def refused(self, ask, refusal, verdict: Evidence | Unknown) -> None:
        """See issue.Refusals."""
        del verdict
        self.seen.append((refusal.rule, ask.about))

    @property
    def rules(self) -> list[str]:
        """The rules that failed, in order."""
        return [rule for rule, _ in self.seen]


class SignWorld:
    """Keys, and an agent that serves them on ``path``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "ssh.sock"
        self.vault = MemoryVault()
        self.monitor = ToolMonitor()
        self.issuer = ToolIssuer(self.vault)
        self.refused = Refused()
        self.book = KeyBook(self.vault)
        self.socket: SignSocket | None = None

    def add_key(self, name: str = "id", kind: str = "ed25519", limits: Limits | None = None, bits: int = 0) -> str:
        """Make a key with ssh-keygen, put it into the vault; return its public line. The private file is deleted."""
        path = self.folder / name
        size = ["-b", str(bits)] if bits else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", name, "-f", path], check=True)
        return self.take_key(path, limits)

    def take_key(self, path: Path, limits: Limits | None = None) -> str:
        """Move a private key's file into the vault."""
        line = path.with_name(path.name + ".pub").read_text().strip()
        blob, comment = blob_of_line(line)
        facts = KeyFacts(blob, comment, limits or Limits())
        self.vault.put(path.name, KIND, sealed_form(load_private_key(path.read_bytes())), facts.attributes())
        path.unlink()
        self.book.reload()
        return line

    def limit(self, name: str, limits: Limits) -> None:
        """Give a key other limits."""
        line = (self.folder / f"{name}.pub").read_text().strip()
        key = next(key for key in self.vault.records if key.endswith(f"/{name}"))
        secret = self.vault.unseal(key).reveal()
        self.vault.put(name, KIND, secret, KeyFacts(*blob_of_line(line), limits).attributes())
        self.book.reload()

    @asynccontextmanager
    async def serving(self, **options) -> AsyncIterator["SignWorld"]:
        """Serve until the block is left."""
        diag, clock = SockDiag(), SystemClock()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        finder = PeerFinder(diag, clock)

        def make_caller(connection: SocketLike) -> ConnectionCaller:
            return ConnectionCaller(connection, finder, self.monitor)

        self.socket = SignSocket(listener, SshAgent(self.issuer, self.book, self.refused), make_caller, **options)
        self.socket.start()
        try:
            yield self
        finally:
            await self.socket.close()
            diag.close()

    async def run(self, *command: str | Path, stdin: bytes = b"", **environment: str) -> tuple[int, str]:
        """Run a client with SSH_AUTH_SOCK; return its exit code and all that it said."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "SSH_AUTH_SOCK": str(self.path), **environment}
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            env=env,
            cwd=self.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate(stdin)
        return process.returncode, said.decode(errors="replace")
