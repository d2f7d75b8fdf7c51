"""Out of room at every step of a file's becoming a view, and of its way back, on disks that are really full.

Needs root. The steps are counted while the test runs. It ends as a link with its content in the vault, or as it was;
and meanwhile the content is somewhere.
"""

import contextlib

import pytest

from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.viewed import load_viewed
from tests.fakes.enroll_cases import Case
from tests.fakes.transaction_ends import disk  # noqa: F401 - a fixture
from tests.fakes.transaction_world import TransactionWorld
from tests.fakes.view_world import TEXT, TOKEN, Killed, ViewWorld

NEEDS_NO_ROOM = {("enroll", ("home",)), ("recover", ("home",))}
"""A link takes none, and where there is one already the file that it is to replace is deleted for the one to come."""

NOTHING = Case(lambda _: ClaudeRecipe(), {}, ())


class FullWorld(ViewWorld):
    """See ViewWorld; with a real vault, on disks that have no room from a step on."""

    def __init__(self, world: TransactionWorld) -> None:
        super().__init__(world)
        self.full_at = -1
        self.disks: tuple[str, ...] = ()
        self._room = contextlib.ExitStack()

    @property
    def in_vault(self) -> bool:
        return any(TOKEN.encode() in value for value in self.world.store.unsealed().values())

    @property
    def came(self) -> bool:
        """Whether there was the step at which the disks are full."""
        return len(self.steps) > self.full_at >= 0

    def step(self, name: str) -> None:
        super().step(name)
        if len(self.steps) - 1 == self.full_at:
            self._room.enter_context(self.world.full(self.disks))

    def out_of_room(self, work, number, disks):
        """Do it on disks that are full from the step of this number on; return our own error, or None."""
        self.steps, self.full_at, self.disks = [], number, disks
        try:
            work()
        except AgentBrokerError as error:
            return error
        finally:
            self._room.close()
        return None

    def assert_legal(self, where: object) -> None:
        """A view, or the file as it was."""
        if load_viewed(self.world.state / "files"):
            assert self.is_link, where
            assert self.in_vault, where
            assert [path.name for path in self.world.home.iterdir() if "agent-broker" in path.name] == [], where
        else:
            self.assert_as_it_was()


@pytest.mark.parametrize("disks", [("home",), ("state",), ("home", "state")], ids="+".join)
@pytest.mark.parametrize("work", ["enroll", "unenroll", "recover"])
def test_the_disk_is_full_from_a_step_on(disk, work, disks):  # noqa: F811
    number, met, came = 0, 0, True
    while came:
        world = TransactionWorld(NOTHING, ("home", "state"), at=disk)
        try:
            made = FullWorld(world)
            if work == "unenroll":
                made.enroll()
            elif work == "recover":
                kill_at(made, "swapped")
            error = made.out_of_room(getattr(made, work), number, disks)
            came = made.came
            assert made.in_vault or made.path.read_bytes() == TEXT.encode(), (work, number)
            if error is not None:
                met += 1
                assert error.next_step
                assert TOKEN not in error.explain()
            made.recover()
            made.assert_legal((work, number))
        finally:
            world.close()
        number += 1
    assert number > 3
    assert bool(met) == ((work, disks) not in NEEDS_NO_ROOM), "no step met the full disk"


def kill_at(made, step):
    with pytest.raises(Killed):
        made.die_at(step, made.enroll)
