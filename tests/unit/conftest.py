"""A home with a Claude Code in it, and a broker that the command line finds."""

from collections.abc import Iterator

import pytest

from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import EnrollWorld


@pytest.fixture
def world() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def home() -> Iterator[EnrollWorld]:
    made = EnrollWorld().full()
    yield made
    made.close()


@pytest.fixture
def served(world: FakeBroker, home: EnrollWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedBroker]:
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(home.root / "r"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SUDO_USER", raising=False)
    with ServedBroker(world, home.root / "r") as broker:
        yield broker
