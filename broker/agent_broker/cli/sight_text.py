"""What ``doctor`` says of attacks on a running agent: denied, only seen, or not even that; and of Yama.

Nobody must believe that something is denied when it is only seen, so each text says which, and for which agents.
"""

from pathlib import Path

from agent_broker.cli.finding import Finding, State
from agent_broker.monitor.sight import Sight

PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_RAISE = (
    "sysctl kernel.yama.ptrace_scope=1; to keep it: "
    "echo kernel.yama.ptrace_scope=1 > /etc/sysctl.d/60-agent-broker-yama.conf"
)
_GUARDED = "to all but root: an agent that is a program of its own from its start on, one that is a script from its "
_GUARDED += "first request on; while the monitor lives"
_TAINTS = "it is not denied; the agent gets nothing from then on, its grants end, and an alert says who it was"

_NOT_OF_OPENS = (
    (
        "it can't see: an open that the file's mode refuses (EACCES), or of a name that is not there (ENOENT): the "
        "kernel asks only after its own checks"
    ),
    (
        "it can't see: what LD_PRELOAD, PYTHONPATH or a debugger made of a program that may open a credential: "
        "it is known by its file; the environment is captured of enrolled agents only"
    ),
)
BCC_IS_WEAKER = (
    "backend bcc, compiled on this machine: the same lineage, but nothing is denied by the kernel itself, and neither "
    "who writes on an agent's connection nor who signals our daemons is seen; beyond 131,072 processes at a time, new "
    "ones are unknown and refused"
)
BCC_NEXT = 'set [sensor] backend = "core" where it can be loaded'
HEADERS_ARE_WEAKER = (
    "fields of the kernel are read by its headers, not by its own types (BTF); their version is the running kernel's. "
    "Who holds a connection is looked for in one process at a time: an agent whose first thread has ended, or whose "
    "threads have files of their own, gets nothing on it"
)
HEADERS_NEXT = "a kernel with BTF (CONFIG_DEBUG_INFO_BTF) needs no headers, and is looked through at once"
_Rated = tuple[State, str]
_HOLDS: dict[str, _Rated] = {
    "denied": ("ok", f"denied {_GUARDED}"),
    "seen": ("ok", f"seen, and {_TAINTS}"),
    "unseen": ("warning", "neither denied nor seen on this kernel"),
}
_WRITERS: dict[str, _Rated] = {
    "seen": ("ok", "seen: each request is judged by the program that wrote it"),
    "unseen": ("warning", "not seen (that takes Linux 6.3 and the backend core): only who holds a connection is"),
}
_MAPPINGS: dict[str, _Rated] = {
    "seen at once": ("ok", "seen at once, before its first instruction; not denied; the agent gets nothing any more"),
    "looked at": ("ok", "looked at when the agent asks for something; what was unmapped before that is not seen"),
    "unseen": ("warning", "not seen"),
}
_SCOPE_1 = (
    "only its ancestors may take hold of a process: a parent can still trace its child, and what it shows in "
    "/proc/PID/environ is still readable"
)
_SCOPES = {
    "0": f"0: any process may take hold of any other of the same user; with 1, {_SCOPE_1}",
    "1": f"1: {_SCOPE_1}",
    "2": "2: only with CAP_SYS_PTRACE may anybody take hold of a process",
    "3": "3: nobody may take hold of a process",
}


def sight_findings(sight: Sight) -> list[Finding]:
    """Return a finding for each kind of attack on a running agent."""
    rows = (
        ("ptrace of an agent", _HOLDS[sight.ptrace]),
        ("writes to its memory", _HOLDS[sight.memory_writes]),
        ("its connections", _WRITERS[sight.connection_writers]),
        ("foreign code in it", _MAPPINGS[sight.mappings]),
    )
    return [Finding(subject, state, text) for subject, (state, text) in rows]


def sight_gaps(sight: Sight) -> tuple[str, ...]:
    """Return what is not denied, or not seen, of attacks on a running agent."""
    gaps = ["it can't see: code that an agent is made to read into its own memory (what a JIT does all day)"]
    if sight.ptrace == "seen" or sight.memory_writes == "seen":
        gaps.append("it can't deny: who attaches to a running agent or writes its memory; that is seen, and taints it")
    if sight.ptrace == "unseen":
        gaps.append("it can't see: who attaches to a running agent (a tracer at its start taints it)")
    if sight.memory_writes == "unseen":
        gaps.append("it can't see: who writes the memory of a running agent")
    if sight.ptrace != "denied":
        gaps.append("it can't see: who reads the memory of a running agent, or takes a descriptor out of it")
    if sight.connection_writers == "unseen":
        gaps.append("it can't see: who wrote on an agent's connection with a borrowed descriptor that is closed again")
    if sight.mappings != "seen at once":
        gaps.append("it can't see: a library that was unmapped again before the agent asked for something")
    gaps += _NOT_OF_OPENS
    return tuple(gaps)


def yama_finding(scope: str | None, *, denied: bool) -> Finding:
    """Return the finding about Yama.

    Args:
        scope: what ``PTRACE_SCOPE`` says; None: there is no such file.
        denied: whether our own hook denies a hold on an agent anyway.
    """
    if scope is None:
        return Finding("yama", "ok", "not in this kernel: it keeps no process from taking hold of another of its user")
    text = f"ptrace_scope {_SCOPES.get(scope, scope)}"
    if scope != "0":
        return Finding("yama", "ok", text)
    return Finding("yama", "ok" if denied else "warning", text, _RAISE)


def read_yama_scope() -> str | None:
    """Return what the kernel says; None: it has no Yama."""
    try:
        return PTRACE_SCOPE.read_text().strip()
    except OSError:
        return None
