"""What ``doctor`` says of the alert sinks."""

from collections.abc import Sequence

from agent_broker.audit.sinks.port import SinkStatus
from agent_broker.cli.finding import Finding
from agent_broker.cli.terminal import plural


def sink_findings(sinks: Sequence[SinkStatus]) -> list[Finding]:
    """Return a finding a sink: a warning if its receiver does not take alerts, or alerts were dropped."""
    return [_of_sink(sink) for sink in sinks]


def _of_sink(sink: SinkStatus) -> Finding:
    subject = f"sink {sink.name}"
    text = f"{plural(sink.delivered, 'alert')} delivered"
    if sink.state != "ok":
        text = f"{text}, up to {sink.backlog} waiting: {sink.last_error}"
    if sink.dropped:
        text = f"{text}; {sink.dropped} dropped; agent-broker alerts has them"
    if sink.state != "ok":
        return Finding(subject, "warning", text, "mend its receiver; what waits is delivered then")
    return Finding(subject, "warning" if sink.dropped else "ok", text)
