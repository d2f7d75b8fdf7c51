"""The programs that the demo starts: two daemons, a provider, a follower of alerts, and commands that end.

Each has a session of its own, so that a Ctrl-C in the terminal reaches the demo alone, which then ends them in order.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.demo.check import StepFailedError, require

REPOSITORY = Path(__file__).parents[2]
BROKER = REPOSITORY / ".venv/bin/agent-broker"
_TAIL_LINES = 12
_END_S = 60
_STREAMS_S = 10
_COMMAND_S = 60


class Background:
    """A program that runs until it is told to stop; everything it prints goes to one file."""

    def __init__(self, name: str, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it did not end yet."""
        return self._process.poll() is None

    def require_alive(self) -> bool:
        """Raise StepFailedError if it ended."""
        code = self._process.poll()
        last = "\n".join(self.tail())
        require(code is None, f"the {self.name} to run", f"it ended with exit code {code}, saying:\n{last}")
        return True

    def said(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(errors="replace")

    def tail(self) -> list[str]:
        """Return its last lines."""
        return self.said().splitlines()[-_TAIL_LINES:]

    def status(self, field: str) -> str:
        """Return a field of /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code. One that does not is killed, which is a failure."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait()
            raise StepFailedError(f"the {self.name} to end when told to", f"it ran on for {_END_S} s") from error


@contextlib.contextmanager
def ended(program: Background) -> Iterator[None]:
    """Stop a program in the end, whatever happened."""
    try:
        yield
    finally:
        program.stop()


def outcome(process: "subprocess.Popen[str]", within_s: float, given: str | None = None) -> tuple[str, str]:
    """Return what a program printed, on both streams, once it ended.

    Raises:
        StepFailedError: it did not; it and its session are killed.
    """
    try:
        return process.communicate(given, timeout=within_s)
    except subprocess.TimeoutExpired as error:
        said, complained = killed(process)
        command = error.cmd if isinstance(error.cmd, str) else str(error.cmd[0])
        raise StepFailedError(f"{command} to end within {within_s:g} s", said + complained) from error


def killed(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Kill a program, unless it ended, with its session; return what it printed.

    Whatever left the session and keeps the streams open is not waited for.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    try:
        return process.communicate(timeout=_STREAMS_S)
    except subprocess.TimeoutExpired as error:
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            stream.close()
        said, complained = ((each or b"").decode(errors="replace") for each in (error.stdout, error.stderr))
        return said, complained


def broker_command(
    root: Path, *arguments: str, columns: int = 0, show_progress: bool = False, search: str = "", told: str = ""
) -> str:
    """Run ``agent-broker ARGUMENTS`` as root; return its standard output.

    Args:
        root: of its state.
        arguments: of the command.
        columns: width of what it prints; 0: as for a pipe.
        show_progress: let what it says on standard error reach the terminal.
        search: the PATH that it searches; empty: this process's.
        told: what its standard input has; empty: nothing.
    """
    environment = {
        **os.environ,
        **({"COLUMNS": str(columns)} if columns else {}),
        **({"PATH": search} if search else {}),
    }
    try:
        done = subprocess.run(
            [BROKER, "--root", root, *arguments],
            env=environment,
            input=told,
            stdout=subprocess.PIPE,
            stderr=None if show_progress else subprocess.PIPE,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"agent-broker {' '.join(arguments)} to run", error) from error
    said = (done.stderr or "").strip() or done.stdout.strip()
    require(
        done.returncode == 0, f"agent-broker {' '.join(arguments)} to succeed", f"exit code {done.returncode}: {said}"
    )
    return done.stdout
