"""The leak hammer: ``main --seconds N``: everybody at a viewed file at once, and what each of them saw.

Both daemons and the real monitor. Verified readers and strangers read side by side, by read, pread, mmap(MAP_PRIVATE)
and O_PATH opened again; a reader lends descriptors to a stranger, and leaves one to a stranger that it executes. Exit
code 1: somebody saw what it must not, a reader did not see what it must, or one of them did nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from tests.bench.stage import OWNER, Stage, stage
from tests.bench.viewed import viewed_file

_SOURCE = Path(__file__).with_name("hammer.c")
_PATIENCE_S = 120


class Seen(Struct, frozen=True):
    """What one process saw."""

    who: str
    rounds: int
    own: int
    """Its own view."""
    other: int
    """The other one: a leak, or a reader that was served the decoy."""
    failures: int
    """Neither. Who borrows a descriptor has nothing else."""

    @property
    def problem(self) -> str:
        """What is wrong; empty: nothing is."""
        borrows = self.who == "borrower"
        if self.other:
            return f"{self.who}: {self.other} wrong views"
        if borrows and (self.own or not self.failures):
            return "the borrower read something, or tried nothing"
        if not borrows and (self.failures or not self.own):
            return f"{self.who}: {self.failures} failures, {self.own} times its own view"
        return ""


def hammer(seconds: float) -> list[Seen]:
    """Run it; return what each saw."""
    with stage() as made:
        reader, stranger = made.driver("view-reader"), made.driver("view-stranger")
        flags = ("-std=gnu17", "-O2", "-static", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["cc", *flags, "-o", reader, _SOURCE], check=True)
        shutil.copy(reader, stranger)
        with viewed_file(made, reader) as path:
            return list(_run(made, path, str(int(seconds * 1000)), (reader, stranger)))


def _run(made: Stage, path: str, duration_ms: str, programs: tuple[Path, Path]) -> Iterator[Seen]:
    reader, stranger = programs
    sockets = made.folder / "lent"
    sockets.mkdir()
    os.chown(sockets, OWNER, OWNER)
    lent = sockets / "socket"
    commands: dict[str, tuple[str | Path, ...]] = {
        "reader 1": (reader, "read", path, "REAL", "FAKE"),
        "reader 2": (reader, "read", path, "REAL", "FAKE"),
        "stranger 1": (stranger, "read", path, "FAKE", "REAL"),
        "stranger 2": (stranger, "read", path, "FAKE", "REAL"),
        "lender": (reader, "lend", path, lent, "FAKE"),
        "borrower": (stranger, "borrow", lent, "FAKE", "REAL"),
        "testator": (reader, "bequeath", path, stranger, "REAL"),
    }
    running = {who: _start((*command, duration_ms)) for who, command in commands.items()}
    for who, process in running.items():
        said, _ = process.communicate(timeout=float(duration_ms) / 1000 + _PATIENCE_S)
        yield Seen(who, *map(int, said.split()))


def _start(command: tuple[str | Path, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd="/", user=OWNER, group=OWNER, extra_groups=[], stdout=subprocess.PIPE, text=True
    )


def main() -> int:
    """Run it for as long as the command line says; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    seen = hammer(parser.parse_args().seconds)
    for each in seen:
        print(f"{each.who:12} {each.rounds:6} rounds, {each.own:7} own, {each.other} other, {each.failures} neither")
    problems = [each.problem for each in seen if each.problem]
    print("; ".join(problems) or "no leak, no wrong view")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
