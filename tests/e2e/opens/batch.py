"""Starts processes one after the other from one small program (tests/fakes/batch.c): no interpreter beside each."""

import asyncio
from collections.abc import Iterable, Sequence

from msgspec import Struct

from tests.e2e.opens.places import Place, Spot

_NONE = -1


class Start(Struct, frozen=True):
    """One process."""

    file: str
    """Of the programs' folder."""
    call: str
    spot: Spot
    stdin: int = _NONE
    stdout: int = _NONE
    """Descriptors of ours; NONE: nothing, and what is told."""


class Ended(Struct, frozen=True):
    """What came of it."""

    pid: int
    said: str


async def carry_out(starts: Sequence[Start], place: Place, uid: int) -> list[Ended]:
    """Start each when the one before it has ended, all as a user; return what came of each.

    Raises AssertionError if one can't be started.
    """
    given = {fd for start in starts for fd in (start.stdin, start.stdout) if fd != _NONE}
    process = await asyncio.create_subprocess_exec(
        *place.prefix, f"{place.programs}/batch", user=uid, group=uid, extra_groups=(), cwd="/", pass_fds=tuple(given),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await process.communicate("".join(_lines(starts, place)).encode())
    ended = [Ended(int(pid), text) for pid, _, text in (line.partition("\t") for line in said.decode().splitlines())]
    assert len(ended) == len(starts), (place.prefix, complained, ended)
    assert not any("not started" in each.said for each in ended), ended
    return ended


def _lines(starts: Iterable[Start], place: Place) -> Iterable[str]:
    for start in starts:
        program = f"{place.programs}/{start.file}"
        fields = (program, start.call, start.spot.given, start.spot.cwd, start.stdin, start.stdout)
        yield "\t".join(map(str, fields)) + "\n"
