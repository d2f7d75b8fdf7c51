"""The fuzz targets by name: each takes one input, and raises if what it promises does not hold."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

LONGEST_INPUT_BYTES = {"frame": 4096, "events": 4200, "environment": 1024, "ssh_agent": 4096}
"""By target: long enough for every case, short enough for many a second. The corpus may hold longer ones."""
NAMES = tuple(LONGEST_INPUT_BYTES)
CORPUS = Path(__file__).parent / "corpus"
"""A folder a target: committed inputs, small, each there for a reason that its name says."""


def target(name: str) -> Callable[[bytes], None]:
    return import_module(f"tests.fuzz.{name}_target").one_input
