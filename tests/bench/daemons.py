"""The two daemons as processes: started, asked until they answer, stopped by their own pid.

Only what a probe needs is imported here: this process shares pages with the daemons, and what it maps itself would
make their share of it (PSS) look smaller.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent_broker.config.layout import Layout
from agent_broker.monitor.messages import MAX_MESSAGE_BYTES, Answer, GetStatus, MonitorStatus
from agent_broker.transport.frame import MAX_FRAME_BYTES, ShimRequest, encode_request
from tests.bench.figures import CannotMeasureError

_COMMAND = Path(sys.executable).with_name("agent-broker")
_READY_S = 90
_STOP_S = 15
_ASK_EVERY_S = 0.002
_PROBE_TIMEOUT_S = 5


class Daemon:
    """``agent-broker NAME`` below one root; at most one process at a time."""

    def __init__(self, name: str, layout: Layout, is_ready: Callable[[Layout], bool]) -> None:
        self.name = name
        self.options: tuple[str, ...] = ()
        self._layout = layout
        self._is_ready = is_ready
        self._log = layout.root / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise CannotMeasureError(f"the {self.name} does not run")
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def cpu_s(self) -> float:
        """Processor time that it has used so far."""
        return cpu_s_of(self.pid)

    def start(self) -> float:
        """Start it; return the seconds from then until it answered.

        Raises:
            CannotMeasureError: it ended, or did not answer in time; with the end of its log.
        """
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_COMMAND, "--root", self._layout.root, self.name, *self.options],
                cwd="/",
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C reaches the bench alone, which then stops it
            )
        while not self._is_ready(self._layout):
            if self._process.poll() is not None or time.monotonic() - began > _READY_S:
                raise CannotMeasureError(f"the {self.name} does not answer: {self._last_words()}")
            time.sleep(_ASK_EVERY_S)
        return time.monotonic() - began

    def stop(self) -> None:
        """Tell it to end, and wait until it did; harmless if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-4:]) or "(its log is empty)"


def cpu_s_of(pid: int) -> float:
    """Processor time that a process has used so far, in user mode and in the kernel (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_monitor(layout: Layout) -> Daemon:
    return Daemon("monitor", layout, lambda place: monitor_status(place) is not None)


def make_broker(layout: Layout) -> Daemon:
    return Daemon("daemon", layout, _broker_answers)


def monitor_status(layout: Layout) -> MonitorStatus | None:
    """Return what the monitor says of itself; None: it does not answer."""
    question = msgspec.msgpack.encode(GetStatus(id=1))
    raw = _ask(layout.monitor_socket, question, MAX_MESSAGE_BYTES)
    if raw is None:
        return None
    answer = msgspec.msgpack.decode(raw, type=Answer)
    if not isinstance(answer, MonitorStatus):
        raise CannotMeasureError(f"the monitor does not tell its status: {answer}")
    return answer


def _broker_answers(layout: Layout) -> bool:
    """Any answer will do: root is not an enrolled user, so it is a refusal."""
    question = encode_request(ShimRequest("claude-api-key-helper"))
    return _ask(layout.agent_socket, question, MAX_FRAME_BYTES) is not None


def _ask(path: Path, question: bytes, most_bytes: int) -> bytes | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_PROBE_TIMEOUT_S)
        try:
            connection.connect(str(path))
            connection.send(question)
            return connection.recv(most_bytes) or None
        except OSError:
            return None
