"""What holds for every end-to-end test."""

import fcntl
from pathlib import Path

import pytest

from tests.e2e.agents_generic.installed import have_all


@pytest.fixture(scope="session", autouse=True)
def agents_are_installed() -> None:
    """Download what is not there yet now: most worlds leave the machine's network. One lane does it; others wait."""
    with Path(__file__).open("rb") as one_of_us:
        fcntl.flock(one_of_us, fcntl.LOCK_EX)
        have_all()
