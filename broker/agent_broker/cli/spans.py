"""Times and lengths of time as people write and read them."""

import re
from datetime import UTC, datetime

from agent_broker.errors import MisuseError

_SECOND_NS = 10**9
_UNITS_NS = {
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3600 * _SECOND_NS,
    "d": 86_400 * _SECOND_NS,
    "w": 7 * 86_400 * _SECOND_NS,
}
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)


def parse_span(text: str) -> int:
    """Return nanoseconds of ``90s``, ``30m``, ``2h``, ``7d`` or ``2w``.

    Raises:
        MisuseError: it is none of them, or no time at all.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise MisuseError("a length of time is a number and a unit: 90s, 30m, 2h, 7d or 2w")
    return int(found[1]) * _UNITS_NS[found[2]]


def parse_since(text: str, now_ns: int) -> int:
    """Return when ``2h`` (ago), ``2026-11-22`` or ``2026-11-22T12:30`` is, CLOCK_REALTIME.

    A date without an offset from UTC is local.

    Raises:
        MisuseError: it is none of them.
    """
    if _SPAN.fullmatch(text.strip()):
        return max(0, now_ns - parse_span(text))
    try:
        moment = datetime.fromisoformat(text.strip())
        since_ns = int(moment.astimezone().timestamp()) * _SECOND_NS
    except (ValueError, OverflowError, OSError):
        raise MisuseError("a time is a length of time (2h, 7d) or a date: 2026-11-22, 2026-11-22T12:30") from None
    return max(0, since_ns)


def span(length_ns: int) -> str:
    """Return a length of time in its largest units: ``under 1 ms``, ``20 ms``, ``0.2 s``, ``42 s``, ``2 h 5 min``."""
    seconds = max(0, length_ns) / _SECOND_NS
    if seconds < 10:  # noqa: PLR2004 - below, a tenth matters
        if seconds < 0.001:  # noqa: PLR2004 - a millisecond
            return "under 1 ms"
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 - as above
    whole = round(seconds)
    if whole < 120:  # noqa: PLR2004 - 2 minutes
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:  # noqa: PLR2004 - 2 hours
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:  # noqa: PLR2004 - 2 days
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} days"


def clock(time_ns: int) -> str:
    """Return a local time of day: ``12:03:04``."""
    return _local(time_ns).strftime("%H:%M:%S")


def day(time_ns: int) -> str:
    """Return a local date in 6 columns: ``Nov 22``."""
    return _local(time_ns).strftime("%b %d")


def is_same_day(one_ns: int, other_ns: int) -> bool:
    """Tell whether two moments are of one local day."""
    return _local(one_ns).date() == _local(other_ns).date()


def _local(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / _SECOND_NS, tz=UTC).astimezone()
