"""The C programs that do what is measured: compiled once a run, started from Python, timed by themselves."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.figures import CannotMeasureError

SOURCES = Path(__file__).with_name("c")
_FLAGS = ("-std=gnu17", "-O2", "-static", "-Wall", "-Wextra", "-Werror")


def compile_drivers(folder: Path) -> None:
    """Make an executable of each source, world-executable, in ``folder``."""
    for source in sorted(SOURCES.glob("*.c")):
        program = folder / source.stem
        run(["cc", *_FLAGS, "-o", program, source])
        program.chmod(0o755)


def run(
    command: Sequence[str | Path],
    *,
    timeout_s: float = 60,
    uid: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return what it printed.

    Args:
        command: an absolute path, or a tool on PATH, and its arguments.
        timeout_s: it is killed after that.
        uid: run as this user and the group of the same number; None: as root.
        environment: all that it gets besides PATH.

    Raises:
        CannotMeasureError: it failed, or ran too long.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", **(environment or {})},
            stdin=subprocess.DEVNULL,
            check=False,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMeasureError(f"{Path(command[0]).name} could not be run: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["(it says nothing)"]
        raise CannotMeasureError(f"{Path(command[0]).name} failed with {done.returncode}: {said[0][:300]}")
    return done.stdout


def numbers(text: str) -> list[list[int]]:
    """Return a driver's lines as lists of integers."""
    return [[int(word) for word in line.split()] for line in text.splitlines()]
