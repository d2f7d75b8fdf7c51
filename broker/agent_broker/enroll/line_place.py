"""Where lines that were taken out of a file belong in it now, although it was changed since. Pure; linear in time.

In a file that nobody else changed they go where they were. In any other, the nearest line that is there once, before
and now, is the anchor; equal lines beside it are walked over, so that a line goes back behind the comment that it
stood behind.
"""

from collections import Counter
from collections.abc import Sequence


def lines_of(data: bytes) -> list[bytes]:
    """Return the lines with their ends; only LF ends one."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def offset_of(lines: Sequence[bytes], index: int) -> int:
    """Return the byte offset at which a line begins."""
    return sum(map(len, lines[:index]))


def put_back_at(was: Sequence[bytes], first: int, behind: int, now: Sequence[bytes]) -> int | None:
    """Return the index in ``now`` before which the lines ``was[first:behind]`` belong; None: nothing tells.

    Args:
        was: the earlier file's lines.
        first: the first line that goes back.
        behind: the first line after those.
        now: the present file's lines, which those are missing from.
    """
    before, after = [line.rstrip(b"\r\n") for line in was], [line.rstrip(b"\r\n") for line in now]
    if after == [*before[:first], *before[behind:]]:
        return first
    counts_before, places = Counter(before), {line: place for place, line in enumerate(after)}
    counts_after = Counter(after)
    once = {line for line in places if counts_before[line] == 1 and counts_after[line] == 1}
    for anchor in range(first - 1, -1, -1):
        if before[anchor] in once:
            place = places[before[anchor]] + 1
            steps = range(anchor + 1, first)
            return place + _common(before, steps, after, range(place, len(after)))
    for anchor in range(behind, len(before)):
        if before[anchor] in once:
            place = places[before[anchor]]
            steps = range(anchor - 1, behind - 1, -1)
            return place - _common(before, steps, after, range(place - 1, -1, -1))
    return None


def _common(one: Sequence[bytes], places: range, other: Sequence[bytes], other_places: range) -> int:
    """Return for how many steps two texts are equal."""
    for steps, (place, other_place) in enumerate(zip(places, other_places, strict=False)):
        if one[place] != other[other_place]:
            return steps
    return min(len(places), len(other_places))
