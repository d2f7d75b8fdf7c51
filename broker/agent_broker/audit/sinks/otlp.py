"""Incidents as OpenTelemetry log records, by gRPC to a collector.

TLS, or in clear to a loopback address only. Secrets (the headers) come from a file of root's, never from a command line
or the configuration. What a collector answers is reduced to its status code: its text is not ours.
Source of what is tried again: https://opentelemetry.io/docs/specs/otlp/#failures. ``UNAUTHENTICATED``,
``PERMISSION_DENIED`` and ``UNIMPLEMENTED`` are tried again too: an operator can mend them, and then nothing is lost.
"""

import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio
from msgspec import structs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

import agent_broker
from agent_broker.audit.sinks.port import OTLP_PORT, lineage_lines
from agent_broker.audit.sinks.private_file import private_lines
from agent_broker.errors import MisuseError, RefusedError, UnavailableError
from agent_broker.monitor.incident import Incident

EVENT_NAME: Final = "agent_broker.incident"
_SEVERITIES = {"info": (9, "INFO"), "warning": (13, "WARN"), "critical": (21, "FATAL")}  # SeverityNumber
_NEVER = {grpc.StatusCode.INVALID_ARGUMENT}
_CALL_TIMEOUT_S = 20.0

Value = str | int | tuple[str, ...]


class Otlp:
    """Implements sinks.port.Sink on a collector."""

    def __init__(
        self,
        endpoint: str,
        *,
        severity: str,
        headers: tuple[tuple[str, str], ...] = (),
        roots: bytes | None = None,
        name: str = "otlp",
    ) -> None:
        """Touch nothing yet.

        Args:
            endpoint: ``https://HOST:PORT``, or ``http://LOOPBACK:PORT``; the configuration has checked it.
            severity: see Sink.
            headers: sent with each call.
            roots: certificates (PEM) of authorities to trust instead of gRPC's own.
            name: see Sink.
        """
        self.name = name
        self.severity = severity
        self._endpoint = endpoint
        self._headers = headers
        self._roots = roots
        self._channel: grpc.aio.Channel | None = None
        self._resource = Resource(
            attributes=_attributes(
                {
                    "service.name": "agent-broker",
                    "service.version": agent_broker.__version__,
                    "host.name": socket.gethostname(),
                }
            )
        )

    def __repr__(self) -> str:
        return f"Otlp({self.name!r})"

    async def deliver(self, incident: Incident, number: int) -> None:
        """See Sink."""
        scope = ScopeLogs(
            scope=InstrumentationScope(name="agent_broker", version=agent_broker.__version__),
            log_records=[log_record(incident, number)],
        )
        request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=self._resource, scope_logs=[scope])])
        if self._channel is None:
            self._channel = self._connect()
        try:
            stub = LogsServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated
            answer = await stub.Export(request, timeout=_CALL_TIMEOUT_S, metadata=self._headers)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code in _NEVER:
                raise RefusedError("sink", f"the collector answered {code.name}") from None
            raise UnavailableError(f"the collector answered {code.name}", next_step="look at the collector") from None
        if answer.partial_success.rejected_log_records:
            raise RefusedError("sink", "the collector rejected the record")

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _connect(self) -> grpc.aio.Channel:
        parts = urlsplit(self._endpoint)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        target = f"{host}:{parts.port or OTLP_PORT}"
        if parts.scheme == "http":
            return grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)])
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(root_certificates=self._roots))


def read_headers(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the headers of a file with one ``name: value`` a line; see private_file for who may own it.

    Raises:
        MisuseError, IntegrityError: the file is wrong.
    """
    headers = []
    for number, line in private_lines(path, "[alerts.otlp] headers_file"):
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and not name.endswith("-bin")
        if not colon or not is_name or not value.isascii() or not value.isprintable():
            raise MisuseError(f"{path}:{number}: this line is not NAME: VALUE in printable ASCII")
        headers.append((name, value))
    return tuple(headers)


def log_record(incident: Incident, number: int) -> LogRecord:
    """Return the record; its time is that of the last event that the incident tells of."""
    severity_number, severity_text = _SEVERITIES.get(incident.severity, (0, incident.severity))
    return LogRecord(
        time_unix_nano=max(incident.last_ns, incident.time_ns),
        observed_time_unix_nano=max(incident.last_ns, incident.time_ns),
        severity_number=severity_number,  # type: ignore[arg-type] # an enum's number
        severity_text=severity_text,
        body=AnyValue(string_value=_text(incident.what)),
        event_name=EVENT_NAME,
        attributes=_attributes(attributes_of(incident, number)),
    )


def attributes_of(incident: Incident, number: int) -> dict[str, Value]:
    """Return a record's attributes; empty ones are left out. Names: OpenTelemetry's where it has one."""
    found = _of_incident(incident, number) | _of_lineage(incident) | _of_process(incident)
    return {name: value for name, value in found.items() if value not in {"", ()}}


def _of_incident(incident: Incident, number: int) -> dict[str, Value]:
    found: dict[str, Value] = {
        "agent_broker.incident.id": incident.id,
        "agent_broker.incident.revision": incident.revision,
        "agent_broker.incident.number": number,
        "agent_broker.incident.kind": incident.kind,
        "agent_broker.incident.action": incident.action,
        "agent_broker.incident.count": incident.count,
        "agent_broker.incident.first_ns": incident.time_ns,
        "agent_broker.tier": incident.tier,
        "agent_broker.agent": incident.agent or "",
        "agent_broker.next_step": incident.next_step,
        "agent_broker.response": incident.response,
        "agent_broker.grants": incident.grants,
        "agent_broker.role": incident.role,
        "agent_broker.holds": incident.holds,
        "agent_broker.changes": incident.changes,
        "agent_broker.paths": incident.paths,
        "session.id": incident.session,
        "file.path": incident.path if incident.path.startswith("/") else "",
    }
    found |= {f"agent_broker.{name}": value for name, value in structs.asdict(incident.frameworks).items()}
    if incident.boot_ns:
        found["agent_broker.incident.first_boot_ns"] = incident.boot_ns
    return found


def _of_lineage(incident: Incident) -> dict[str, Value]:
    taints = tuple(f"{step.pid} {taint}" for step in incident.lineage for taint in (*step.image.taints, *step.tampered))
    return {"agent_broker.lineage": tuple(lineage_lines(incident)), "agent_broker.taints": taints}


def _of_process(incident: Incident) -> dict[str, Value]:
    found: dict[str, Value] = {"agent_broker.process.executable.sha256": incident.process_sha256 or ""}
    if incident.lineage:
        first = incident.lineage[0].image
        found["process.pid"] = incident.lineage[0].pid
        found["process.user.id"] = first.uid
        found["process.executable.path"] = first.filename
        found["process.command_args"] = (first.argv0, *first.args_head)
        parent = next((step for step in incident.lineage if step.relation == "fork"), None)
        if parent is not None:
            found["process.parent_pid"] = parent.pid
    if incident.offender is not None:
        found["process.working_directory"] = incident.offender.cwd
        found["container.id"] = incident.offender.container
        found["agent_broker.process.package"] = incident.offender.package
        found["process.command_args"] = incident.offender.command or found.get("process.command_args", ())
    return found


def _attributes(values: dict[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in values.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=_text(value))
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=_text(each)) for each in value]))


def _text(value: str) -> str:
    """Protobuf refuses lone surrogates."""
    return value.encode("utf-8", "backslashreplace").decode()
