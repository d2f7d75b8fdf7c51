"""Who wrote a file: what is kept of the events of one file, and what is told of it."""

from typing import Literal

from msgspec import Struct

from agent_broker.identity.evidence import Evidence, Unknown
from agent_broker.ids import AgentName, ExecId, ProcId
from agent_broker.lineage.record import Image

_SHOWN_STEPS = 16
MAX_WRITERS = 16

Way = Literal["own-updater", "root-package-manager"]
"""How a new version may be approved unasked (monitor.preapproval)."""


class Writer(Struct, frozen=True):
    """One program image that created, wrote or named a file. Names in it were chosen by whoever started it."""

    program: str
    pid: int
    uid: int | None
    lineage: tuple[str, ...]
    """Programs, the writer first, its origin last; empty: not known."""
    agent: AgentName | None
    """The enrolled agent in its lineage."""
    is_agent: bool
    """It was this agent's main process itself, untainted."""
    package_manager: str
    """The package manager, run by root, that it was or was started by; empty: none."""
    exec_ns: int
    """When the image was executed, CLOCK_BOOTTIME; 0: not known."""
    problem: str = ""
    """Why it is not, or not surely, named."""


class Seen(Struct):
    """What one writer did."""

    writer: Writer
    did: set[str]
    """``created``, ``wrote``, ``closed``, ``named`` (renamed it to where it is, or linked it)."""
    time_ns: int
    """Of the last of it, CLOCK_REALTIME."""


class Trace(Struct):
    """All that was seen of one file."""

    key: bytes
    """monitor.fanotify.FileKey of its inode."""
    name: str
    seen: dict[str, Seen]
    """By the writer's numbers."""
    born: bool = False
    """Its creation was seen, by this monitor."""
    broken: str = ""
    """Why there may have been writers that are not here; empty: there were none."""
    events: int = 0


class Provenance(Struct, frozen=True):
    """The answer."""

    recorded: bool
    """False: nothing was seen of this file."""
    complete: bool
    """True: from its creation on, every writer is here."""
    remark: str
    writers: tuple[Seen, ...]


def not_recorded(remark: str) -> Provenance:
    """Return the answer that nothing is known."""
    return Provenance(recorded=False, complete=False, remark=remark, writers=())


def writer_of(verdict: Evidence | Unknown, pid: int, problem: str = "") -> Writer:
    """Return what is kept of an identified process."""
    steps = verdict.steps
    principal = verdict.principal if isinstance(verdict, Evidence) else None
    tainted = isinstance(verdict, Evidence) and bool(verdict.taints)
    doubts = [problem, verdict.reason if isinstance(verdict, Unknown) else "", "tainted" if tainted else ""]
    return Writer(
        program=steps[0].image.filename if steps else "",
        pid=pid,
        uid=verdict.uid if verdict.uid is not None else (steps[0].image.uid if steps else None),
        lineage=tuple(step.image.filename for step in steps[:_SHOWN_STEPS]),
        agent=principal.agent if principal is not None else None,
        is_agent=principal is not None and principal.is_caller and not any(doubts),
        package_manager="" if any(doubts) else _package_manager(tuple(step.image for step in steps)),
        exec_ns=steps[0].image.exec_ns if steps else 0,
        problem="; ".join(doubt for doubt in doubts if doubt),
    )


def number_of(proc_id: ProcId, exec_id: ExecId, taints: int) -> str:
    """Return the key of a writer in a trace."""
    return f"{proc_id}/{exec_id}/{taints}"


_MANAGERS = frozenset({"dpkg", "dpkg-deb", "rpm", "apt", "apt-get", "dnf", "dnf5", "yum", "zypper", "pacman"})
_NPM = frozenset({"npm", "npm-cli.js", "npx-cli.js"})


def _package_manager(images: tuple[Image, ...]) -> str:
    """Return the package manager in a lineage of root's processes: the writer, or who started it."""
    for image in images:
        if image.uid != 0 or not image.observed or image.user_namespace or not _is_roots(image):
            return ""
        name = image.filename.rpartition("/")[2]
        script = image.args_head[0].rpartition("/")[2] if image.args_head else ""
        if name in _MANAGERS or (name in {"npm", "node", "nodejs"} and (name == "npm" or script in _NPM)):
            return "npm" if name in {"node", "nodejs"} else name
    return ""


def _is_roots(image: Image) -> bool:
    return image.file.owner_uid == 0 and not image.file.mode & 0o022 and image.file.nlink > 0
