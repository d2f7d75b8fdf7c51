"""The bars: what each figure should reach, in one table, each with its source.

A bar that is missed is shown, and fails nothing: figures move with the machine, tests do not.
"""

from dataclasses import dataclass

from tests.bench.protocols import PROTOCOLS

DESIGN = "DESIGN section 8"
ATTESTATION = "attestation"
MONITOR = "the monitor"
BCC = "second backend"


@dataclass(frozen=True)
class Bar:
    """One figure's bar."""

    key: str
    title: str
    limit: float
    unit: str
    at_least: bool = False
    """True: more is better."""
    source: str = DESIGN

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def shown(self, value: float) -> str:
        """A value in this bar's unit."""
        digits = 0 if self.unit in {"/s", "MB", "us", "lost", "counted"} else 2
        if self.unit == "us" and value < 10:
            digits = 1
        if self.unit == "x":
            digits = 3
        return f"{value:,.{digits}f} {self.unit}"

    @property
    def text(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{sign} {self.limit:,g} {self.unit}"


_TURN, _PAIRS = "a whole turn of the real", "with the broker / without, median of pairs"
_SIGN, _REQUEST = "ssh-keygen -Y sign, whole process", "the request for a signature alone, on a kept connection"
_AGENTS, _SSH = "by the broker / by OpenSSH's own ssh-agent, p50", "every ecosystem: ssh"
_WAITS = "every agent: what a person waits for"

_BARS = (
    Bar("start-monitor", "start of the monitor until it answers, a 380 MB agent enrolled", 1.0, "s"),
    Bar("start-broker", "start of the broker until it answers", 1.0, "s"),
    Bar("memory", "idle memory (PSS), monitor + broker", 90, "MB"),
    Bar("shim-p50", "shim, whole process until the answer is printed / empty static C process, p50", 1.6, "x"),
    Bar("shim-p99", "the same, p99", 3.0, "x"),
    Bar("answers-rate", "attested answers of `get` (decide, unseal, journal), 64 clients", 3000, "/s", at_least=True),
    Bar("answers-p99", "the same, 3,000/s asked by 64 clients: answered within, p99", 10, "ms"),
    Bar(
        "answers-flat",
        "attestation with 100,000 tracked processes / with 10, p50",
        1.25,
        "x",
        source=f'{DESIGN} says "flat"; read as a quarter more',
    ),
    Bar(
        "attest-warm",
        "attestation of an enrolled agent's next request on its kept connection, p50",
        300,
        "us",
        source=ATTESTATION,
    ),
    Bar(
        "attest-depth",
        "attestation of any process below 64 others / below 2, evidence held, p50",
        1.25,
        "x",
        source=f'{ATTESTATION} says "flat"',
    ),
    Bar(
        "bundle-start",
        "interpreted agent of 100 MB in 2,000 files, unchanged: the verdict on a new start, p50",
        10,
        "ms",
        source=f'{ATTESTATION} says "milliseconds when unchanged"',
    ),
    Bar(
        "bundle-ratio",
        "the same / hashing all of it, p50",
        0.1,
        "x",
        source=f'{ATTESTATION} says "milliseconds when unchanged"; read as a tenth at most',
    ),
    Bar(
        "flood-get",
        "`get` by the agent's helpers under a flood by the same user / without, p99",
        5,
        "x",
        source=ATTESTATION,
    ),
    Bar("flood-inject", "injection on a kept connection under the same / without, p99", 5, "x", source=ATTESTATION),
    Bar(
        "crowd-get",
        "`get` by the agent's helpers while a user forks ever new processes that ask too / that ask where nobody "
        "listens, p99",
        5,
        "x",
        source=ATTESTATION,
    ),
    Bar("crowd-inject", "injection on a kept connection under the same / as there, p99", 5, "x", source=ATTESTATION),
    Bar("inject-p50", "injection, added latency of a request on a kept connection, p50", 1.0, "ms"),
    Bar("inject-p99", "the same, p99", 5.0, "ms"),
    Bar("inject-stream", "injection, bytes a second of a 64 MiB stream / direct", 0.8, "x", at_least=True),
    Bar("ssh-sign-ed25519", f"{_SIGN}, ed25519, {_AGENTS}", 1.5, "x", source=_SSH),
    Bar("ssh-sign-rsa", f"{_SIGN}, rsa of 3072 bits, {_AGENTS}", 1.5, "x", source=_SSH),
    Bar("ssh-request-ed25519", f"{_REQUEST}, ed25519, {_AGENTS}", 1.5, "x", source=_SSH),
    Bar("ssh-request-rsa", f"{_REQUEST}, rsa of 3072 bits, {_AGENTS}", 1.5, "x", source=_SSH),
    Bar(
        "view-open", "a viewed file opened and read by its reader, p50", 1.0, "ms", source="every ecosystem: file view"
    ),
    Bar("agent-turn-claude", f"{_TURN} Claude Code (claude -p), {_PAIRS}", 1.03, "x", source=_WAITS),
    Bar("agent-turn-codex", f"{_TURN} Codex CLI (codex exec), {_PAIRS}", 1.03, "x", source=_WAITS),
    Bar("agent-turn-gemini", f"{_TURN} Gemini CLI (gemini -p), {_PAIRS}", 1.03, "x", source=_WAITS),
    Bar("exec", "exec + exit of /bin/true, monitor on / off", 1.05, "x"),
    Bar("bcc-start", "backend bcc beside core: start of the monitor until it answers", 3.0, "s", source=BCC),
    Bar("bcc-memory", "the same: idle memory (PSS) of the monitor", 45, "MB", source=BCC),
    Bar("bcc-exec", "the same: exec + exit of /bin/true, monitor on / off", 1.05, "x", source=BCC),
    Bar(
        "exec-captured",
        "exec of a registered binary: added by the capture of its environment, p50",
        50,
        "us",
        source=ATTESTATION,
    ),
    Bar("compile", "parallel compile of 30 small C files, monitor on / off", 1.01, "x"),
    Bar("open", "open of an unmarked file, monitor on / off", 1.01, "x"),
    Bar("open-watched", "the same where another program watches another file by inotify", 1.01, "x", source=MONITOR),
    Bar(
        "load-syscall",
        "getppid in a loop, monitor on / off: the hooks for tampering",
        1.02,
        "x",
        source="attestation: nothing that costs a system call",
    ),
    Bar(
        "load-switch",
        "a byte through a pipe to another process and back, the same",
        1.02,
        "x",
        source="attestation: nothing that costs a system call",
    ),
    Bar(
        "load-map",
        "mmap, touch, munmap of a page, the same",
        1.02,
        "x",
        source="attestation: nothing that costs a system call",
    ),
    Bar(
        "load-send",
        "a byte through a socket pair and out again, the same",
        1.02,
        "x",
        source="attestation: nothing that costs a system call",
    ),
    Bar("alert-p50", "decoy opened until a follower reads the alert, p50", 2.0, "ms"),
    Bar("alert-p99", "the same, p99", 10, "ms"),
    Bar("opener-wait", "decoy opened: what the opener itself waits, p50", 200, "us"),
    Bar(
        "marked-rate", "opens of decoys a second, 20,500/s asked for 10 s", 20_000, "/s", at_least=True, source=MONITOR
    ),
    Bar("marked-lost", "the same: opens that no incident counts", 0, "lost", source=MONITOR),
    Bar("marked-refused", "the same: opens that failed", 0, "lost", source=MONITOR),
    Bar("marked-get", "`get` by the agent's helpers meanwhile / without, p99", 2.0, "x", source=MONITOR),
    Bar("flood-memory", "100,000 opens of a decoy: what the monitor holds more (PSS)", 8, "MB", source=MONITOR),
    Bar("flood-lines", "the same: incidents", 1, "counted", source=MONITOR),
    Bar("start-marks", "start of the monitor with 10,000 marks", 2.0, "s", source=MONITOR),
    Bar("burst-lost", "burst of 100,000 execs: lineage events lost", 0, "lost"),
    Bar("forced-loss", "tiny ring: events lost, counted, and the lineage denied", 1, "counted", at_least=True),
    Bar("hash-cold", "hash of a 380 MB binary, not known yet / openssl dgst -sha256", 1.2, "x"),
    Bar("hash-warm", "hash of the same binary, known", 50, "us"),
)

_TOOLS = tuple(
    bar
    for tool in dict.fromkeys(each.tool for each in PROTOCOLS)
    for bar in (
        Bar(f"shim-{tool}", f"{tool}'s shim: a password released, whole process / empty one, p50", 1.6, "x"),
        Bar(f"shim-{tool}-p99", "the same, p99", 3.0, "x"),
        Bar(
            f"shims-{tool}",
            "64 of them at once / 64 empty processes at once, p50",
            2.0,
            "x",
            source="every ecosystem: speed",
        ),
    )
)

BARS = {bar.key: bar for bar in (*_BARS, *_TOOLS)}
