"""A small world around the injection endpoint: a vault in memory, a monitor that reads /proc, an issuer.

``ProcMonitor`` answers from the processes that really run: it finds who holds a socket by looking at the
descriptors of the test and its descendants, takes a process's start as its exec, and calls those in ``agents``
the enrolled agent's main process. ``PlainIssuer`` applies the identity rules and keeps what it was asked. Tests
change the world by assignment.
"""

import asyncio
import os
import time
from pathlib import Path

from agent_broker.errors import RefusedError
from agent_broker.grant.ledger import Grant, Holder
from agent_broker.identity.evidence import Evidence, Freshness, Principal, Unchanged, Unknown, Verdict
from agent_broker.ids import AgentName, CredentialId, Epoch, ExecId, Pid, ProcId, Sha256, Uid
from agent_broker.issue import Ask, Caller, Issued
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Image, Step
from agent_broker.vault.file import Credential
from agent_broker.vault.record import UnknownCredentialError
from agent_broker.vault.secret import Secret

AGENT = AgentName("claude")
EPOCH = Epoch("test")


class MemoryVault:
    """Records in memory; ``failure`` is raised by the next ``store``."""

    def __init__(self) -> None:
        self.records: dict[CredentialId, tuple[Credential, bytes]] = {}
        self.failure: Exception | None = None
        self.stores = 0

    def put(self, name: str, kind: str, secret: bytes, attributes: dict[str, str] | None = None) -> CredentialId:
        """Add or replace a record of the current user's."""
        uid = Uid(os.getuid())
        key = CredentialId(f"{AGENT}/{uid}/{name}")
        version = self.records[key][0].version + 1 if key in self.records else 1
        now = time.time_ns()
        self.records[key] = Credential(key, kind, AGENT, uid, version, now, now, attributes or {}), secret
        return key

    def list(self) -> tuple[Credential, ...]:
        """See Vault."""
        return tuple(record for record, _ in self.records.values())

    def describe(self, key: CredentialId) -> Credential:
        """See Vault."""
        return self._found(key)[0]

    def unseal(self, id: CredentialId) -> Secret:  # noqa: A002 - the vault's own parameter name
        """See Vault."""
        return Secret(self._found(id)[1])

    def store(self, credential: Credential, secret: Secret) -> None:
        """Replace a secret."""
        if self.failure is not None:
            raise self.failure
        self.stores += 1
        name = credential.id.split("/", 2)[2]
        self.put(name, credential.kind, secret.reveal(), credential.attributes)

    def _found(self, key: CredentialId) -> tuple[Credential, bytes]:
        if key not in self.records:
            raise UnknownCredentialError(key)
        return self.records[key]


class ProcMonitor:
    """Attests by /proc. ``agents`` holds the pids of main processes, ``down`` makes everybody Unknown.

    ``exec_ns`` holds, by pid, when a process executed its program; for others it is when they started.
    """

    def __init__(self, *agents: int) -> None:
        self.agents = set(agents)
        self.exec_ns: dict[int, int] = {}
        self.down = False
        self.taints = 0
        self.questions: list[str] = []

    def caller_by_pidfd(self, pidfd: int) -> "_ProcCaller":
        """See MonitorClient."""
        return _ProcCaller(self, f"pidfd {pidfd}", [_pid_of(pidfd)])

    def caller_by_socket(self, inode: int, _opener: int | None = None) -> "_ProcCaller":
        """See MonitorClient."""
        return _ProcCaller(self, f"socket {inode}", holders_of(inode))

    def ask_ahead(self, inode: int, known: Freshness) -> "_ProcAhead":
        """See MonitorClient: the kernel's tables are read now."""
        return _ProcAhead(self.caller_by_socket(inode), known)

    async def other_end_of(self, inode: int) -> int:
        """See MonitorClient: everybody is in one namespace here."""
        del inode
        return 0

    async def recheck(self, known: Freshness) -> Verdict:
        """See MonitorClient."""
        self.questions.append("recheck")
        lives = Path(f"/proc/{known.proc_id}").exists() and not self.down
        is_same = lives and self.evidence(int(known.proc_id)).freshness == known
        return Unchanged(known) if is_same else Unknown("the process ended, or changed")

    async def confirm(self, pidfd: int, known: Freshness) -> Verdict:
        """See MonitorClient."""
        return await self.recheck(known) if known.proc_id == _pid_of(pidfd) else Unknown("it is another process")

    def evidence(self, pid: int) -> Evidence:
        """Return evidence of one live process."""
        freshness = Freshness(EPOCH, ProcId(pid), ExecId(pid), self.taints)
        uid = Uid(Path(f"/proc/{pid}").stat().st_uid)
        principal = None
        if pid in self.agents:
            principal = Principal(AGENT, uid, ProcId(pid), ExecId(pid), Sha256("0" * 64), is_caller=True, depth=0)
        step = Step(
            proc_id=ProcId(pid),
            image=_image(pid, uid, self.exec_ns.get(pid) or _start_ns(pid)),
            relation="self",
            exited=False,
        )
        return Evidence(freshness, uid, (step,), principal, taints=(), tier="observe")


class _ProcAhead:
    def __init__(self, caller: "_ProcCaller", known: Freshness) -> None:
        self._caller = caller
        self._known = known

    async def verdict(self) -> Verdict:
        return await self._caller.attest(self._known)


class _ProcCaller:
    def __init__(self, monitor: ProcMonitor, question: str, pids: list[int]) -> None:
        self._monitor = monitor
        self._question = question
        self._pids = pids

    async def attest(self, known: Freshness | None = None) -> Verdict:
        self._monitor.questions.append(f"{self._question}{' known' if known else ''}")
        if self._monitor.down:
            return Unknown("the monitor does not answer", "systemctl start agent-broker-monitor")
        if len(self._pids) != 1:
            return Unknown(f"{len(self._pids)} processes hold the connection")
        try:
            evidence = self._monitor.evidence(self._pids[0])
        except FileNotFoundError:
            return Unknown("the process is gone")
        return Unchanged(evidence.freshness) if evidence.freshness == known else evidence


class PlainIssuer:
    """Gives what the identity rules allow; keeps every question, and every refusal."""

    def __init__(self, vault: MemoryVault) -> None:
        self._vault = vault
        self.asks: list[Ask] = []
        self.refusals: list[RefusedError] = []
        self.given = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        """Cleared: every decision waits after its first look at the caller."""
        self.gate.set()

    async def issue(self, ask: Ask) -> Issued:
        """See issue.Issuer."""
        self.asks.append(ask)
        if self.failure is not None:
            raise self.failure
        credential = self._vault.describe(ask.credential)
        verdict = await ask.caller.attest()
        await self.gate.wait()
        try:
            evidence = _identified(verdict, credential)
        except RefusedError as refusal:
            self.refusals.append(refusal)
            raise
        freshness = evidence.freshness
        holder = Holder(freshness.epoch, freshness.proc_id, freshness.exec_id)
        grant = Grant("g1", holder, AGENT, credential.owner_uid, credential.id, ask.mode, 0, expires_ns=1, uses=1)
        self.given += 1
        return Issued(grant, credential, self._vault.unseal(credential.id))


class PlainDecoys:
    """Knows some decoys' values; counts who used one."""

    def __init__(self, *values: str) -> None:
        self.values = set(values)
        self.reports: list[str] = []

    def is_decoy(self, value: str) -> bool:
        """See endpoint.DecoyWatch."""
        return value in self.values

    async def report_decoy_used(self, _caller: Caller, channel: str, value: str) -> None:
        """See endpoint.DecoyWatch."""
        assert value in self.values
        self.reports.append(channel)


def open_descriptors() -> int:
    """Return how many descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


def holders_of(inode: int) -> list[int]:
    """Return the pids that hold a socket, among this process and its descendants: what else runs does not matter."""
    wanted = f"socket:[{inode}]"
    pids = _family(os.getpid())
    return [pid for pid in pids if any(_target_of(pid, fd) == wanted for fd in _descriptors_of(pid))]


def _descriptors_of(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []  # it ended meanwhile


def _target_of(pid: int, descriptor: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # it was closed meanwhile


def _family(pid: int) -> list[int]:
    family = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                family += _family(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile
    return family


def _identified(verdict: Verdict, credential: Credential) -> Evidence:
    if not isinstance(verdict, Evidence):
        reason = verdict.reason if isinstance(verdict, Unknown) else "unasked"
        raise RefusedError("lineage", f"who is asking is unknown: {reason}")
    if verdict.uid != credential.owner_uid:
        raise RefusedError("owner", "the credential belongs to another user")
    if verdict.principal is None or not verdict.principal.is_caller:
        raise RefusedError("principal", "the caller is not claude")
    return verdict


def _pid_of(pidfd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise ProcessLookupError(pidfd)


def _start_ns(pid: int) -> int:
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _image(pid: int, uid: Uid, exec_ns: int) -> Image:
    facts = FileFacts(
        dev=0,
        ino=0,
        generation=0,
        size_bytes=0,
        mtime_ns=0,
        ctime_ns=0,
        mode=0o100755,
        owner_uid=Uid(0),
        nlink=1,
        fs_magic=0,
    )
    return Image(
        exec_id=ExecId(pid),
        proc_id=ProcId(pid),
        previous_exec_id=ExecId(0),
        uid=uid,
        pid=Pid(pid),
        exec_ns=exec_ns,
        file=facts,
        filename=f"/proc/{pid}/exe",
        interp="",
        argv0="claude",
        args_head=(),
        observed=True,
        taints=(),
    )
