"""A viewed file's link that is replaced is told of, once."""

import os

import pytest

from agent_broker.identity.viewed import ViewedFile
from agent_broker.ids import AgentName, Uid
from agent_broker.monitor.link_watch import LinkWatch
from tests.fakes.clock import FakeClock


@pytest.fixture
def made(tmp_path):
    return World(tmp_path)


class World:
    def __init__(self, folder):
        self.told = []
        self.path = folder / "home/.npmrc"
        self.path.parent.mkdir()
        self.viewed = ViewedFile(
            AgentName("file.npmrc"), Uid(1), 1, "me", str(folder / "home"), ".npmrc", (AgentName("npm"),)
        )
        self.clock = FakeClock()
        self.watch = LinkWatch(folder / "files", self.told.append, self.clock, "observe")
        self.target = self.viewed.target(folder / "files")
        self.watch.take([self.viewed])
        self.clock.advance_s(60)

    def looks(self, count):
        for _ in range(count):
            self.watch.look()
        return len(self.told)


def test_a_link_is_fine_and_a_missing_one_too(made):
    assert made.looks(3) == 0
    made.path.symlink_to(made.target)
    assert made.looks(3) == 0


def test_another_file_is_told_of_once_and_again_when_it_comes_again(made):
    made.path.write_text("new secret")
    assert made.looks(1) == 0
    assert made.looks(5) == 1
    assert "unenroll --file" in made.told[0].next_step
    made.path.unlink()
    made.path.symlink_to(made.target)
    assert made.looks(2) == 1
    made.path.unlink()
    made.path.symlink_to("/elsewhere")
    assert made.looks(3) == 2


def test_it_is_not_told_of_while_it_is_enrolled(made):
    made.path.write_text("the original")
    made.watch.take([])
    made.watch.take([made.viewed])
    assert made.looks(5) == 0
    made.clock.advance_s(60)
    assert made.looks(2) == 1


def test_a_pipe_in_its_place_holds_nobody_up(made):
    os.mkfifo(made.path)
    assert made.looks(3) == 1
