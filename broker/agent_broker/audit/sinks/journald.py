"""Incidents in the system's journal, by its native protocol: one datagram an incident.

Protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. A value with a newline is sent with its length, so that no text
of an attacker can add a field. What is too long for a datagram goes as a sealed memory file. The journal confirms
nothing: an incident counts as delivered when the kernel queued it for journald.

Query: ``journalctl MESSAGE_ID=8d7a1e0b5f6c4f2c9d2b7e64a1c35f90``, or by any field below.
"""

import array
import errno
import fcntl
import os
import shlex
import socket
import struct
from pathlib import Path
from typing import Final

from agent_broker.audit.sinks.port import lineage_lines
from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.monitor.incident import Incident, Offender

MESSAGE_ID: Final = "8d7a1e0b5f6c4f2c9d2b7e64a1c35f90"  # random, of every incident (sd-id128)
SOCKET: Final = Path("run/systemd/journal/socket")  # below the root
_PRIORITIES = {"critical": 2, "warning": 4, "info": 6}  # syslog.h: LOG_CRIT, LOG_WARNING, LOG_INFO
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Journald:
    """Implements sinks.port.Sink on journald's socket."""

    def __init__(self, path: Path, *, severity: str, name: str = "journald") -> None:
        """Touch nothing yet; ``path`` is the socket's."""
        self.name = name
        self.severity = severity
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    async def deliver(self, incident: Incident, number: int) -> None:
        """See Sink."""
        data = encode(fields_of(incident, number))
        try:
            self._send(data)
        except OSError as error:
            raise UnavailableError(
                f"journald does not take messages: {error.strerror}", next_step="systemctl status systemd-journald"
            ) from error

    async def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, str(self._path))
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            self._send_memory(data)

    def _send_memory(self, data: bytes) -> None:
        fd = os.memfd_create("agent-broker-incident", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            self._socket.sendmsg([], rights, 0, str(self._path))
        finally:
            os.close(fd)


def fields_of(incident: Incident, number: int) -> dict[str, str]:
    """Return the journal's fields; empty ones are left out."""
    first = incident.lineage[0].image if incident.lineage else None
    offender = incident.offender or Offender()
    command = offender.command or ((first.argv0, *first.args_head) if first else ())
    fields = {
        "MESSAGE": f"{incident.severity}: {incident.what}",
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": str(_PRIORITIES.get(incident.severity, _PRIORITIES["critical"])),
        "SYSLOG_IDENTIFIER": "agent-broker",
        "SYSLOG_FACILITY": "10",  # authpriv
        "AGENT_BROKER_ID": incident.id,
        "AGENT_BROKER_REVISION": str(incident.revision),
        "AGENT_BROKER_NUMBER": str(number),
        "AGENT_BROKER_KIND": incident.kind,
        "AGENT_BROKER_SEVERITY": incident.severity,
        "AGENT_BROKER_ACTION": incident.action,
        "AGENT_BROKER_TIER": incident.tier,
        "AGENT_BROKER_TIME_NS": str(incident.time_ns),
        "AGENT_BROKER_COUNT": str(incident.count),
        "AGENT_BROKER_PATH": incident.path,
        "AGENT_BROKER_AGENT": incident.agent or "",
        "AGENT_BROKER_SESSION": incident.session,
        "AGENT_BROKER_SHA256": incident.process_sha256 or "",
        "AGENT_BROKER_UID": str(first.uid) if first else "",
        "AGENT_BROKER_EXE": first.filename if first else "",
        "AGENT_BROKER_PID": str(incident.lineage[0].pid) if first else "",
        "AGENT_BROKER_COMMAND": shlex.join(command),
        "AGENT_BROKER_CWD": offender.cwd,
        "AGENT_BROKER_PACKAGE": offender.package,
        "AGENT_BROKER_CONTAINER": offender.container,
        "AGENT_BROKER_LINEAGE": "\n".join(lineage_lines(incident)),
        "AGENT_BROKER_ROLE": incident.role,
        "AGENT_BROKER_HOLDS": incident.holds,
        "AGENT_BROKER_BOOT_NS": str(incident.boot_ns) if incident.boot_ns else "",
        "AGENT_BROKER_GRANTS": incident.grants,
        "AGENT_BROKER_PATHS": "\n".join(incident.paths),
        "AGENT_BROKER_CHANGES": "\n".join(incident.changes),
        "AGENT_BROKER_ATTACK": " ".join(incident.frameworks.attack),
        "AGENT_BROKER_ATLAS": " ".join(incident.frameworks.atlas),
        "AGENT_BROKER_OWASP": " ".join(incident.frameworks.owasp),
        "AGENT_BROKER_SAIF": " ".join(incident.frameworks.saif),
        "AGENT_BROKER_NEXT_STEP": incident.next_step,
        "AGENT_BROKER_RESPONSE": incident.response,
    }
    return {name: value for name, value in fields.items() if value}


def encode(fields: dict[str, str]) -> bytes:
    """Return the datagram.

    Raises:
        RefusedError: a name that journald would not take.
    """
    parts = []
    for name, value in fields.items():
        if not name.replace("_", "").isalnum() or not name.isascii() or name != name.upper():
            raise RefusedError("sink", f"{name!r} is no name of a journal field")
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)
