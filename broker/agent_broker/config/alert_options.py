"""``[alerts.*]`` of config.toml: where alerts go besides the broker's own log. All of it is off by default."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from agent_broker.audit.sinks.port import OTLP_PORT
from agent_broker.toml_document import KeyPath

_FIRST_UNPRIVILEGED_PORT = 1024  # ip(7), ip_unprivileged_port_start

Severity = Literal["info", "warning", "critical"]
"""The least severe alert that a sink gets."""


class JournaldOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts.journald]``: the system's journal."""

    enabled: bool = False
    severity: Severity = "info"


class OcsfOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts.ocsf]``: a file of JSON lines, each an OCSF Detection Finding."""

    path: str = ""
    """Absolute; empty: none. Its folder is made for the broker if it is missing."""
    max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 16 << 20
    """Of one file."""
    keep: Annotated[int, Meta(ge=1, le=100)] = 4
    """Older files."""
    severity: Severity = "info"


class OtlpOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts.otlp]``: log records by gRPC to an OpenTelemetry collector."""

    endpoint: str = ""
    """``https://HOST:PORT``, or ``http://`` to a loopback address; empty: none."""
    headers_file: str = ""
    """Of root, mode 0600: ``NAME: VALUE`` a line; empty: no headers."""
    ca_file: str = ""
    """Certificates (PEM) to trust instead of the public authorities; empty: those."""
    severity: Severity = "info"


class DesktopOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts.desktop]``: what ``agent-broker notify`` shows."""

    severity: Severity = "warning"


class AppriseOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts.apprise]``: mail, chat and pagers."""

    urls_file: str = ""
    """Of root, mode 0600: an address a line; empty: none."""
    severity: Severity = "warning"


class Alerts(Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts]``."""

    keep_days: Annotated[int, Meta(ge=1, le=36_500)] = 90
    """After an incident's last event."""
    max_incidents: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000
    backlog: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    """Alerts that may wait for one sink; beyond that the oldest are dropped and counted."""
    journald: JournaldOptions = JournaldOptions()
    ocsf: OcsfOptions = OcsfOptions()
    otlp: OtlpOptions = OtlpOptions()
    desktop: DesktopOptions = DesktopOptions()
    apprise: AppriseOptions = AppriseOptions()


def alert_problems(alerts: Alerts, url_problem: Callable[[str], str]) -> list[tuple[KeyPath, str]]:
    """Return what types can't say, as (key, sentence without its value); ``url_problem`` judges an address."""
    paths = {
        ("ocsf", "path"): alerts.ocsf.path,
        ("otlp", "headers_file"): alerts.otlp.headers_file,
        ("otlp", "ca_file"): alerts.otlp.ca_file,
        ("apprise", "urls_file"): alerts.apprise.urls_file,
    }
    problems: list[tuple[KeyPath, str]] = [
        (("alerts", *key), "must be an absolute path without ..")
        for key, path in paths.items()
        if path and (not path.startswith("/") or ".." in PurePosixPath(path).parts)
    ]
    if alerts.otlp.endpoint and (problem := _endpoint_problem(alerts.otlp.endpoint, url_problem)):
        problems.append((("alerts", "otlp", "endpoint"), problem))
    elif alerts.otlp.headers_file and _can_be_squatted(alerts.otlp.endpoint):
        sentence = "needs an https endpoint or a port below 1024: any process could take the port and read the headers"
        problems.append((("alerts", "otlp", "headers_file"), sentence))
    return problems


def _endpoint_problem(endpoint: str, url_problem: Callable[[str], str]) -> str:
    problem = url_problem(endpoint)
    if not problem and urlsplit(endpoint).path not in {"", "/"}:
        return "must be scheme, host and port only: gRPC has no path"
    return problem


def _can_be_squatted(endpoint: str) -> bool:
    """Tell whether a process without privilege could take the receiver's place while it is down."""
    parts = urlsplit(endpoint)
    return parts.scheme == "http" and (parts.port or OTLP_PORT) >= _FIRST_UNPRIVILEGED_PORT
