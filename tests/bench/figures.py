"""What a bench hands back, and the arithmetic on samples that all of them share."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class CannotMeasureError(Exception):
    """A figure can't be had here; the sentence says why."""


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    key: str
    """Of its bar (bars.BARS)."""
    value: float
    """In the unit of its bar."""
    detail: str
    """What the value was made of, and from how many samples; a phrase."""


def p50(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    """The nearest-rank percentile: a value that was measured.

    Raises:
        CannotMeasureError: fewer than 100 samples have none.
    """
    if len(samples) < 100:
        raise CannotMeasureError(f"{len(samples)} samples are too few for a p99")
    return sorted(samples)[math.ceil(len(samples) * 0.99) - 1]


def ms(nanoseconds: float) -> str:
    """Milliseconds, for a detail."""
    return f"{nanoseconds / 1e6:.2f} ms"


def us(nanoseconds: float) -> str:
    """Microseconds, for a detail."""
    return f"{nanoseconds / 1e3:.1f} us"
