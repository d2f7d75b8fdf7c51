"""The other ways to see an open, as their users run them: each started on a list of files, read line by line, ended.

What is guaranteed: each is ended by its own pid; auditd's rules are removed one by one, and the kernel's audit state is
as it was. Nothing of the machine's own configuration is read or written.
"""

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.figures import CannotMeasureError

Line = tuple[int, str]
"""When it was read (time.monotonic_ns), and what it says."""

_READY_S = 20
_STOP_S = 10
_POLL_S = 0.0002
_TRY_EVERY_S = 0.1
_AUDITD = """local_events = yes
write_logs = yes
log_file = {folder}/audit.log
log_group = root
log_format = RAW
flush = NONE
max_log_file = 256
num_logs = 2
max_log_file_action = ROTATE
name_format = NONE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
overflow_action = IGNORE
plugin_dir = {folder}/plugins
"""


class Watcher:
    """One peer. ``names``: what it says of who opened the file."""

    name = ""
    names = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: queue.Queue[Line] = queue.Queue()

    def command(self, _: Sequence[Path]) -> list[str]:
        """What is started; its output is read."""
        raise NotImplementedError

    @contextlib.contextmanager
    def watching(self, files: Sequence[Path]) -> Iterator["Watcher"]:
        """Run it; raises CannotMeasureError if it can't be run here."""
        process = self._start(self.command(files))
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        try:
            self._wait_until_it_sees(files[0], process)
            yield self
        finally:
            _end(process)
            reader.join(_STOP_S)

    def is_of(self, line: str, file: Path, pid: int | None) -> bool:
        """Whether a line tells the open of a file, by this pid if one is given."""
        raise NotImplementedError

    def drain(self) -> list[str]:
        """Return what was said until now."""
        said = []
        with contextlib.suppress(queue.Empty):
            while True:
                said.append(self.lines.get_nowait()[1])
        return said

    def _start(self, command: list[str]) -> "subprocess.Popen[str]":
        try:
            return subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", start_new_session=True,
                env={**os.environ, "BPFTRACE_STRLEN": "200"},  # bpftrace cuts paths at 64 bytes otherwise
            )  # fmt: skip
        except OSError as error:
            raise CannotMeasureError(f"{command[0]}: {error.strerror} (make bench-peers installs it)") from error

    def _read(self, process: "subprocess.Popen[str]") -> None:
        if process.stdout is None:
            return
        for line in process.stdout:
            self.lines.put((time.monotonic_ns(), line.rstrip("\n")))

    def _wait_until_it_sees(self, file: Path, process: "subprocess.Popen[str]") -> None:
        """Open the file until it is told."""
        end_s, said = time.monotonic() + _READY_S, ["it says nothing"]
        while time.monotonic() < end_s and process.poll() is None:
            file.read_bytes()
            time.sleep(_TRY_EVERY_S)
            for line in self.drain():
                said.append(line)
                if self.is_of(line, file, None):
                    return
        raise CannotMeasureError(f"{self.name} tells nothing here: {said[-1][:200]}")


class Fatrace(Watcher):
    """fanotify on the whole mount."""

    name = "fatrace"
    names = "pid, comm"

    def command(self, _: Sequence[Path]) -> list[str]:
        return ["/usr/sbin/fatrace", "--current-mount", "--filter=O"]

    def is_of(self, line: str, file: Path, pid: int | None) -> bool:
        found = re.fullmatch(r"(.*)\((\d+)\): [A-Z]+\s+(.*)", line)
        return (
            found is not None
            and found[3].removesuffix(" (deleted)") == str(file)
            and (pid is None or int(found[2]) == pid)
        )


class Opensnoop(Watcher):
    """bpftrace's tracepoints of the open calls."""

    name = "bpftrace opensnoop"
    names = "pid, comm"

    def command(self, _: Sequence[Path]) -> list[str]:
        return ["/usr/bin/bpftrace", "-B", "line", "/usr/sbin/opensnoop.bt"]

    def is_of(self, line: str, file: Path, pid: int | None) -> bool:
        words = line.split(maxsplit=4)
        told = words[4] if len(words) == 5 else ""
        ours = told.endswith(str(file)) or told == file.name  # relative to a folder that it does not tell
        return ours and (pid is None or words[0] == str(pid))


class Auditd(Watcher):
    """A watch a file (-w FILE -p rwxa), and what auditd writes into its log."""

    name = "auditd"
    names = "pid, ppid, exe"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._own = folder / "audit"  # auditd takes the folder of its log for itself alone
        self._keys: dict[Path, str] = {}

    def command(self, _: Sequence[Path]) -> list[str]:
        return ["/usr/sbin/auditd", "-n", "-c", str(self._own)]

    @contextlib.contextmanager
    def watching(self, files: Sequence[Path]) -> Iterator["Watcher"]:
        before = _audit_state()
        if before["pid"] != "0":
            raise CannotMeasureError(f"auditd {before['pid']} runs on this machine already")
        (self._own / "plugins").mkdir(parents=True)
        (self._own / "auditd.conf").write_text(_AUDITD.format(folder=self._own))
        with contextlib.ExitStack() as undo:
            undo.callback(_auditctl, "-e", before["enabled"])
            for number, file in enumerate(files):
                self._keys[file] = f"agent-broker-bench-{number}"
                rule = (str(file), "-p", "rwxa", "-k", self._keys[file])
                _auditctl("-w", *rule)
                undo.callback(_auditctl, "-W", *rule)
            with super().watching(files):
                yield self

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Follow the log, which is how it is read."""
        log = self._own / "audit.log"
        while process.poll() is None and not log.exists():
            time.sleep(_POLL_S)
        if process.poll() is not None:
            return
        with log.open(errors="replace") as file:
            rest = ""
            while process.poll() is None:
                rest += (text := file.read())
                *lines, rest = rest.split("\n")
                for line in lines:
                    self.lines.put((time.monotonic_ns(), line))
                if not text:
                    time.sleep(_POLL_S)

    def is_of(self, line: str, file: Path, pid: int | None) -> bool:
        call = re.search(r'^type=SYSCALL .* pid=(\d+) .* key="([^"]*)"', line)
        return call is not None and call[2] == self._keys[file] and (pid is None or int(call[1]) == pid)


WATCHERS = (Auditd, Fatrace, Opensnoop)


def _end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _auditctl(*words: str) -> str:
    done = subprocess.run(
        ["/usr/sbin/auditctl", *words], capture_output=True, text=True, check=False, env={**os.environ, "LANG": "C"}
    )  # fmt: skip
    if done.returncode:
        raise CannotMeasureError(f"auditctl {words[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _audit_state() -> dict[str, str]:
    try:
        said = _auditctl("-s")
    except OSError as error:
        raise CannotMeasureError(f"auditctl: {error.strerror} (make bench-peers installs it)") from error
    return dict(line.split(maxsplit=1) for line in said.splitlines() if " " in line)
