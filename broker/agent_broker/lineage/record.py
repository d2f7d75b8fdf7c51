"""The records of lineage: one image (exec) and one process (fork), as the kernel observed them.

Everything here was captured by the kernel side at the moment it happened; nothing was read from /proc.
The records travel unchanged from the monitor to the broker (msgpack), so they are msgspec structs.
"""

from msgspec import Struct

from agent_broker.ids import ExecId, Pid, ProcId, Sha256, Uid
from agent_broker.kernel.events import FileFacts


class Injection(Struct, frozen=True):
    """A variable in an image's environment at exec that makes some runtime run foreign code."""

    name: str
    runtime: str
    why: str
    value_sha256: str
    """The value itself is not kept."""


class Captured(Struct, frozen=True):
    """What is kept of the strings that the kernel captured at the exec of a registered file."""

    arguments: bytes
    """The first of them, each ended by NUL; the last may be cut."""
    injections: tuple[Injection, ...]
    problem: str = ""
    """Why the strings say nothing about this image; then nothing is released to it."""
    home_sha256: Sha256 | None = None
    """Of the first HOME; None: there is none."""
    session: str = ""
    """The agent's session, or the trace, that the environment names; for display."""


class Image(Struct, frozen=True):
    """One program image: what a successful execve put into a process."""

    exec_id: ExecId
    proc_id: ProcId
    """The process that executed it. A forked child that did not exec runs its parent's image."""
    previous_exec_id: ExecId
    """The image that this one replaced in the same process; 0 if unknown."""
    uid: Uid
    """Real user id at exec, in the initial user namespace."""
    pid: Pid
    exec_ns: int
    """CLOCK_BOOTTIME."""
    file: FileFacts
    filename: str
    """What execve was given (``bprm->filename``), for display; attacker-chosen."""
    interp: str
    """``bprm->interp``: differs from filename for scripts; attacker-chosen."""
    argv0: str
    """First argument, for display and for roles; attacker-chosen."""
    args_head: tuple[str, ...]
    """The first arguments, cut to what one event holds (see kernel.wire); for display."""
    observed: bool
    """False: the process is older than the monitor, so nobody saw this exec; nothing is released to it."""
    taints: tuple[str, ...]
    """Why this image can't be trusted although its file may be; each a sentence. Empty: none known."""
    mount_ns: int = 0
    """Inode number of its mount namespace at exec; 0 if unknown."""
    user_namespace: bool = False
    """It was executed in a user namespace that is not the initial one."""
    user_mounted: bool = False
    """Its file lies on a file system that somebody mounted in a user namespace."""


class Step(Struct, frozen=True):
    """One step of a lineage, from a process towards its origin."""

    proc_id: ProcId
    image: Image
    relation: str
    """How the previous step came from this one: ``self`` (first step), ``exec`` (same process, earlier
    image) or ``fork`` (its parent, with the image that the parent ran when it forked)."""
    exited: bool
    tampered: tuple[str, ...] = ()
    """What was done to this process after the exec of this image; each a sentence."""
    sha256: Sha256 | None = None
    """Of the executed file, in an incident, as far as it was known then; for display."""
    process_pid: Pid = Pid(0)
    """Of the process itself; 0: as its image's."""

    @property
    def pid(self) -> Pid:
        """The process's own pid: a forked child that did not exec has another one than who executed its image."""
        return self.process_pid or self.image.pid
