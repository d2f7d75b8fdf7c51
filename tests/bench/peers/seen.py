"""Which ways to open a watched file a peer tells, and whether it names who did it: the rows of tests/e2e/opens.

Each way has a file of its own, in one folder; the peer watches all of them at once. What the monitor tells is taken
from the same rows by tests.e2e.opens.trial, on plain paths.
"""

import asyncio
import errno
import socket
import subprocess
import time
from pathlib import Path

from tests.bench.figures import CannotMeasureError
from tests.bench.peers.watchers import Watcher
from tests.e2e.opens.mechanisms import CHANGES, MECHANISMS, OPENS, Mechanism
from tests.e2e.opens.places import CONTENT, as_user, new_folder
from tests.e2e.opens.trial import NAMED, OBSERVE_PLUS, TOLD, Table

WAYS = tuple(row for row in MECHANISMS if row.kind in {OPENS, CHANGES} and row.name != "child")
"""Without ``child``: its pid is not that of the process which was started, so a peer's would be judged wrongly."""
OPENINGS = frozenset(way.name for way in WAYS if way.kind == OPENS)
_LATE_S = 1.0


def files_of(folder: Path) -> dict[str, Path]:
    """Make a file for each way."""
    home = new_folder(folder / "ways")
    home.chmod(0o755)
    files = {way.name: home / way.name for way in WAYS}
    for file in files.values():
        file.write_bytes(CONTENT)
        file.chmod(0o700)
        as_user(file)
    return files


def seen_by(watcher: Watcher, programs: Path, files: dict[str, Path]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ways that a running watcher tells, and those of them whose process it names."""
    watcher.drain()
    pids = {way.name: _carry_out(way, programs, files[way.name]) for way in WAYS}
    time.sleep(_LATE_S)
    said = watcher.drain()
    seen = {way.name for way in WAYS if any(watcher.is_of(line, files[way.name], None) for line in said)}
    named = {name for name in seen if any(watcher.is_of(line, files[name], pids[name]) for line in said)}
    return frozenset(seen), frozenset(named)


def seen_by_monitor(programs: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The same of our monitor."""

    async def cells() -> dict[str, str]:
        table = Table(programs)
        try:
            return {way.name: (await table.cell(way, "plain", OBSERVE_PLUS)).result for way in WAYS}
        finally:
            table.close()

    results = asyncio.run(cells())
    seen = frozenset(name for name, result in results.items() if result in {NAMED, TOLD})
    return seen, frozenset(name for name in seen if results[name] == NAMED)


def _carry_out(way: Mechanism, programs: Path, file: Path) -> int:
    """Return the pid of who did it; raises CannotMeasureError if the kernel refused."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [programs / way.program, way.call, file], user=way.uid, group=way.uid, extra_groups=[], cwd="/", env={},
            stdin=subprocess.DEVNULL, stdout=ours.fileno() if way.name == "send" else subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        said, complained = process.communicate()
    result = (complained if way.name == "send" else said).strip()
    allowed = {0, errno.ENOEXEC} if way.name == "exec" else {0}  # it is opened, and found to be no program
    if not result.isdigit() or int(result) not in allowed:
        raise CannotMeasureError(f"{way.name} was refused: {result!r}")
    return process.pid
