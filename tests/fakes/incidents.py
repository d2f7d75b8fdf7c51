"""A realistic intrusion: an agent is told to run a scanner, which opens the decoy and then a credential file."""

import msgspec

from agent_broker.audit.acks import Ack, Alert
from agent_broker.ids import Sha256, Uid
from agent_broker.lineage.record import Step
from agent_broker.monitor.incident import Incident, Offender
from tests.fakes.control import HASH, NOON_NS, image

SECOND_NS = 10**9
BOOT_NS = 91_000 * SECOND_NS
CLAUDE = "/home/alice/.local/share/claude/versions/2.1.330"
DECOY = "/home/alice/.claude/.credentials.json"
HOSTILE = "evil\x1b[2J\r\n</script><script>alert(1)</script>\u202egnp.exe"


def _started(program: str, *arguments: str, pid: int, ago_s: float, argv0: str = "", **facts: object):
    made = image(program, *arguments, pid=pid, **facts)
    changes = {"exec_ns": BOOT_NS - int(ago_s * SECOND_NS), "argv0": argv0 or made.argv0}
    return msgspec.structs.replace(made, **changes)


def _steps(*images) -> tuple[Step, ...]:
    relations = ("self", *["fork"] * (len(images) - 1))
    return tuple(Step(each.proc_id, each, how, exited=False) for each, how in zip(images, relations, strict=True))


LINEAGE = _steps(
    _started("/tmp/pkgscan/bin/scanner", "--deep", "/home/alice/shop", pid=48213, ago_s=0.212),
    _started("/usr/bin/bash", "-c", "cd /home/alice/shop && npx pkgscan --deep .", pid=48207, ago_s=1.84),
    _started(CLAUDE, "--resume", pid=47110, ago_s=1511, argv0="claude"),
    _started("/usr/bin/bash", "-l", pid=31022, ago_s=9_400, argv0="-bash"),
    _started("/usr/libexec/gnome-terminal-server", pid=30991, ago_s=9_410, observed=False),
)
SCANNER = Offender(command=("scanner", "--deep", "/home/alice/shop"), cwd="/home/alice/shop", package="", container="")


def opened_decoy(**changes: object) -> Alert:
    """The first thing it does."""
    facts: dict[str, object] = {
        "id": "4f1d0c9e5b7a4e0f9a6b2c3d4e5f6071",
        "kind": "decoy-opened",
        "time_ns": NOON_NS,
        "severity": "critical",
        "what": f"/tmp/pkgscan/bin/scanner (pid 48213, alice), started by the agent claude, opened the decoy {DECOY}",
        "tier": "observe+",
        "action": "served-decoy",
        "lineage": LINEAGE,
        "frameworks": _frameworks("decoy-opened"),
        "path": DECOY,
        "process_sha256": HASH,
        "agent": "claude",
        "next_step": "read what claude was asked to do in session 0b1f2d3c, remove /tmp/pkgscan, "
        "and when you are sure: sudo agent-broker thaw claude",
        "revision": 2,
        "count": 3,
        "last_ns": NOON_NS + 41 * SECOND_NS,
        "boot_ns": BOOT_NS,
        "role": "decoy",
        "holds": "claude-oauth",
        "offender": SCANNER,
        "session": "0b1f2d3c-77aa-4c51-9d0e-3f6c1a2b4c5d",
        "paths": ("/home/alice/.aws/credentials",),
        "response": "1 grant of claude ended; the scanner and what descends from it get nothing until thawed",
    }
    return Alert(**(facts | changes))  # type: ignore[arg-type]  # a test's shorthand


def opened_credential(**changes: object) -> Alert:
    """The second."""
    facts = {
        "id": "8c22e5d1a94f4b0cb0de7712f00dfeed",
        "kind": "credential-opened",
        "time_ns": NOON_NS + SECOND_NS // 5,
        "what": "/tmp/pkgscan/bin/scanner (pid 48213, alice), started by the agent claude, opened "
        "/home/alice/.aws/credentials",
        "frameworks": _frameworks("credential-opened"),
        "path": "/home/alice/.aws/credentials",
        "action": "only-seen",
        "role": "credential",
        "holds": "aws-profile",
        "paths": (),
        "count": 1,
        "revision": 0,
        "last_ns": NOON_NS + SECOND_NS // 5,
    }
    return opened_decoy(**(facts | changes))


def backup(**changes: object) -> Alert:
    """What a person acknowledges: a program of the distribution that reads everything."""
    steps = _steps(
        _started("/usr/bin/rsync", "-a", "/home/alice/", "/mnt/backup/", pid=5120, ago_s=12),
        _started("/usr/bin/bash", "/home/alice/bin/nightly", pid=5101, ago_s=12.2),
    )
    facts = {
        "id": "d05c0ffee0a14f0d8a11b2b3c4d5e6f7",
        "severity": "warning",
        "what": "/usr/bin/rsync (pid 5120, alice) opened the decoy /home/alice/.claude/.credentials.json",
        "lineage": steps,
        "agent": None,
        "session": "",
        "response": "",
        "offender": Offender(("rsync", "-a", "/home/alice/", "/mnt/backup/"), "/home/alice", "rsync 3.2.7-1", ""),
        "next_step": "if this is your backup: sudo agent-broker alert ack d05c0ff --allow --reason backup",
    }
    return opened_decoy(**(facts | changes))


def acknowledged(alert: Alert) -> Alert:
    """The same, settled an hour later."""
    ack = Ack(alert.id, Uid(0), NOON_NS + 3600 * SECOND_NS, "a drill of ours", alert.severity, alert.revision)
    return msgspec.structs.replace(alert, acked=ack)


def incident_of(alert: Alert) -> Incident:
    """The same without what people said."""
    return Incident(**{name: getattr(alert, name) for name in Incident.__struct_fields__})


def hostile() -> Alert:
    """Every text that a stranger can choose, chosen badly."""
    long = HOSTILE + "x" * 10_000
    step = _steps(_started(f"/tmp/{long}", HOSTILE, '"><img src=x onerror=alert(1)>', long, pid=66, ago_s=1))[0]
    image_ = msgspec.structs.replace(step.image, taints=(HOSTILE,), interp="/usr/bin/{{7*7}}")
    step = msgspec.structs.replace(step, image=image_, tampered=(long,))
    texts = dict.fromkeys(("what", "next_step", "path", "holds", "role", "session", "response", "action", "tier"), long)
    return opened_decoy(
        **texts,
        lineage=(step, *LINEAGE[1:]),
        offender=Offender((long, HOSTILE), long, HOSTILE, HOSTILE),
        paths=(HOSTILE,) * 500,
        changes=(long,) * 500,
        agent=HOSTILE,
        severity=HOSTILE,
        kind="</title><script>",
        process_sha256=Sha256(HASH),
        acked=Ack("x", Uid(0), NOON_NS, long, HOSTILE, 0, allowed=HOSTILE, expires_ns=NOON_NS),
    )


def _frameworks(kind: str):
    from agent_broker.monitor.frameworks import frameworks_of  # noqa: PLC0415 - beside its only use

    return frameworks_of(kind)
