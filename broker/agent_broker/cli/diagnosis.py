"""What ``doctor`` finds out: pure functions from what the two daemons say, or don't, to findings.

A user must never believe that something is blocked when it is only watched: the tier and what it can't see are always
part of the diagnosis.
"""

from msgspec import Struct

from agent_broker.cli.finding import Finding
from agent_broker.cli.sight_text import (
    BCC_IS_WEAKER,
    BCC_NEXT,
    HEADERS_ARE_WEAKER,
    HEADERS_NEXT,
    sight_findings,
    sight_gaps,
)
from agent_broker.cli.sink_text import sink_findings
from agent_broker.cli.terminal import plural
from agent_broker.config.document import Config
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.transport.control_records import DaemonStatus

UNKNOWN_TIER = "unknown"

TIERS: dict[str, str] = {
    "enforce": "opens of decoys can be denied, also after the monitor died; ptrace of an agent or of us is denied",
    "observe+": "opens of decoys can be denied while the monitor lives; for attacks on a running agent see below",
    "observe": "opens of decoys are only reported, not denied; for attacks on a running agent see below",
    "none": "no BPF: nothing is released to anybody; decoys are still watched",
    UNKNOWN_TIER: "the monitor does not answer: assume that nothing is watched, and nothing is released",
}

_EVERY_TIER_MISSES = (
    "root and the kernel: both are trusted",
    "what processes did before the monitor started: they get no secret until they are restarted",
)
CANNOT_SEE: dict[str, tuple[str, ...]] = {
    "enforce": (
        "it can't deny: reading by a descriptor of a decoy that was open before the decoy was marked",
        *_EVERY_TIER_MISSES,
    ),
    "observe+": (
        "it can't deny: any open of a decoy while the monitor is down",
        "it can't deny: truncate(2), rename or removal of a decoy, which open nothing; they are told",
        *_EVERY_TIER_MISSES,
    ),
    "observe": (
        "it can't deny: any open of a decoy",
        "an opener may have ended before it is looked at; its executable is then unknown",
        *_EVERY_TIER_MISSES,
    ),
    "none": ("lineage: no process can be attested", *_EVERY_TIER_MISSES),
    UNKNOWN_TIER: ("anything, as far as can be told from here",),
}


class Diagnosis(Struct, frozen=True):
    """The whole answer of ``doctor``; its JSON is this struct."""

    healthy: bool
    """False: something that is needed is down."""
    tier: str
    tier_means: str
    cannot_see: tuple[str, ...]
    findings: tuple[Finding, ...]
    broker: DaemonStatus | None
    monitor: MonitorStatus | None


def diagnose(
    broker: DaemonStatus | Finding,
    monitor: MonitorStatus | Finding,
    config: Config | Finding,
    root_key: Finding,
    *others: Finding,
) -> Diagnosis:
    """Return the diagnosis.

    Args:
        broker: its status, or the finding that says why there is none.
        monitor: its status, from the broker or from itself, or the finding that says why there is none.
        config: the configuration, or the finding that says what is wrong with it.
        root_key: where the vault's root key lies.
        others: what else was found out.
    """
    findings = [config] if isinstance(config, Finding) else list(_of_config(config))
    findings += [broker] if isinstance(broker, Finding) else list(_of_broker(broker))
    findings += [monitor] if isinstance(monitor, Finding) else list(_of_monitor(monitor))
    findings += [root_key, *others]
    tier = UNKNOWN_TIER if isinstance(monitor, Finding) else monitor.tier
    return Diagnosis(
        healthy=not any(each.state == "failed" for each in findings),
        tier=tier,
        tier_means=TIERS.get(tier, "a tier that this command does not know"),
        cannot_see=_gaps(tier, monitor),
        findings=tuple(findings),
        broker=None if isinstance(broker, Finding) else broker,
        monitor=None if isinstance(monitor, Finding) else monitor,
    )


def _gaps(tier: str, monitor: MonitorStatus | Finding) -> tuple[str, ...]:
    if isinstance(monitor, Finding) or tier not in CANNOT_SEE:
        return CANNOT_SEE[UNKNOWN_TIER]
    return (*sight_gaps(monitor.sight), *CANNOT_SEE[tier])


def _of_config(config: Config) -> list[Finding]:
    if config.inject.can_be_squatted:
        return [
            Finding(
                "configuration",
                "warning",
                f"[inject] port {config.inject.port}: while the broker is down, any user's process could bind it",
                "choose a port below 1024",
            )
        ]
    return [Finding("configuration", "ok", "read without a complaint")]


def _of_broker(status: DaemonStatus) -> list[Finding]:
    text = (
        f"version {status.version}, pid {status.pid} as uid {status.uid}; {plural(status.agents, 'agent')}, "
        f"{plural(status.credentials, 'credential')}, {plural(status.policy_rules, 'policy rule')}, "
        f"{plural(status.grants_live, 'live grant')}"
    )
    findings = [Finding("broker", "ok", text)]
    if status.uid == 0:
        findings.append(Finding("broker", "failed", "it runs as root", "restart it; see [daemon] user"))
    findings.append(_of_peer_method(status.peer_method))
    if not status.policy_rules:
        findings.append(
            Finding("policy", "warning", "no rule: every request is denied", "write /etc/agent-broker/policy.d/*.toml")
        )
    if status.frozen:
        findings.append(
            Finding("freezes", "warning", f"{status.frozen} in force", "agent-broker freeze --list; agent-broker thaw")
        )
    findings += [Finding("broker", "warning", problem) for problem in status.problems]
    return findings + sink_findings(status.sinks)


def _of_peer_method(method: str) -> Finding:
    strongest = method == "SCM_PIDFD"
    return Finding(
        "callers",
        "ok" if strongest else "warning",
        f"the writer of each message is named by {method}",
        "" if strongest else "a kernel from 6.5 on names the writer of each message by itself (SCM_PIDFD)",
    )


def _of_monitor(status: MonitorStatus) -> list[Finding]:
    text = (
        f"version {status.version}; knows {plural(status.processes, 'process')} and {plural(status.images, 'image')} "
        f"from {plural(status.events, 'event')}; watches {plural(status.agents, 'agent')} and "
        f"{plural(status.decoys_watched, 'decoy')}, {plural(status.credentials_watched, 'credential file')}; "
        f"made {plural(status.incidents_made, 'incident')}"
    )
    findings = [Finding("monitor", "ok", text), _of_heartbeat(status), _of_losses(status)]
    if status.backend == "bcc":
        findings.append(Finding("sensor", "warning", BCC_IS_WEAKER, BCC_NEXT))
    if status.offsets == "headers":
        findings.append(Finding("offsets", "warning", HEADERS_ARE_WEAKER, HEADERS_NEXT))
    findings += sight_findings(status.sight)
    if status.incidents_unacknowledged:
        findings.append(
            Finding(
                "spool",
                "warning",
                f"{plural(status.incidents_unacknowledged, 'incident')} not yet stored by the broker",
            )
        )
    if status.spool_dropped:
        findings.append(
            Finding(
                "spool",
                "warning",
                f"{plural(status.spool_dropped, 'incident')} dropped: the spool was full",
                "start the broker",
            )
        )
    findings += [Finding("monitor", "warning", problem) for problem in status.problems]
    return findings


def _of_heartbeat(status: MonitorStatus) -> Finding:
    if status.blind:
        return Finding("heartbeat", "failed", f"{status.blind}; nothing is released", "restart the monitor")
    if status.proven_age_ns < 0:
        return Finding("heartbeat", "warning", "no kernel side is loaded, so nothing is released")
    return Finding("heartbeat", "ok", f"the kernel side reported {status.proven_age_ns / 1e9:.1f} s ago")


def _of_losses(status: MonitorStatus) -> Finding:
    if not status.lost_events:
        return Finding("lost events", "ok", "none")
    return Finding(
        "lost events",
        "warning",
        f"{status.lost_events} lost: the lineage of the processes concerned is unknown, so they are refused",
        "raise [monitor] ring_bytes; restart what is refused",
    )
