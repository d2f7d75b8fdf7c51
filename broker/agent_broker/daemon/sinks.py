"""The alert sinks that the configuration asks for, made while the broker is still root.

Only root can read what holds their secrets; and what they need is imported now, since the broker's own user may not be
able to read the modules later. A sink that nobody asked for costs neither memory nor a library in the broker.
"""

import os
from pathlib import Path

from agent_broker.audit.sinks.journald import SOCKET, Journald
from agent_broker.audit.sinks.json_lines import JsonLines
from agent_broker.audit.sinks.ocsf import detection_finding
from agent_broker.audit.sinks.port import Sink
from agent_broker.config.accounts import BrokerAccount
from agent_broker.config.alert_options import Alerts, OcsfOptions, OtlpOptions
from agent_broker.config.layout import Layout
from agent_broker.errors import MisuseError, UnavailableError

_FOLDER_MODE = 0o750


def make_sinks(layout: Layout, alerts: Alerts, account: BrokerAccount) -> tuple[Sink, ...]:
    """Return the sinks; none of them touches its receiver yet.

    Raises:
        MisuseError, IntegrityError: a file that the configuration names is wrong.
        UnavailableError: a folder can't be made.
    """
    sinks: list[Sink] = []
    if alerts.journald.enabled:
        sinks.append(Journald(layout.root / SOCKET, severity=alerts.journald.severity))
    if alerts.ocsf.path:
        sinks.append(_ocsf(alerts.ocsf, account))
    if alerts.otlp.endpoint:
        sinks.append(_otlp(alerts.otlp))
    if alerts.apprise.urls_file:
        from agent_broker.audit.sinks.apprise import apprise_sinks  # noqa: PLC0415 - module's docstring

        sinks += apprise_sinks(Path(alerts.apprise.urls_file), alerts.apprise.severity)
    return tuple(sinks)


def _ocsf(options: OcsfOptions, account: BrokerAccount) -> Sink:
    path = Path(options.path)
    try:
        path.parent.mkdir(mode=_FOLDER_MODE)
        os.chown(path.parent, account.uid, account.gid, follow_symlinks=False)
    except FileExistsError:
        pass  # whether it will do is found out at each write
    except OSError as error:
        raise UnavailableError(
            f"[alerts.ocsf] {path.parent} can't be made: {error.strerror}", next_step="make its parent folder"
        ) from error
    return JsonLines(
        path,
        severity=options.severity,
        max_bytes=options.max_bytes,
        keep=options.keep,
        mapping=detection_finding,
    )


def _otlp(options: OtlpOptions) -> Sink:
    from agent_broker.audit.sinks.otlp import Otlp, read_headers  # noqa: PLC0415 - module's docstring

    try:
        roots = Path(options.ca_file).read_bytes() if options.ca_file else None
    except OSError as error:
        raise MisuseError(f"[alerts.otlp] ca_file can't be read: {error.strerror}") from error
    headers = read_headers(Path(options.headers_file)) if options.headers_file else ()
    return Otlp(options.endpoint, severity=options.severity, headers=headers, roots=roots)
