"""The running kernel's fanotify, through our layer: what a mark catches, and what becomes of who waits."""

import errno
import os
import select
import threading

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.monitor import fanotify, tiers
from agent_broker.monitor.decoys import open_group
from agent_broker.monitor.fanotify import (
    FAN_ALLOW,
    FAN_CREATE,
    FAN_DENY,
    FAN_MODIFY,
    FAN_MOVED_TO,
    FAN_ONDIR,
    FAN_OPEN,
    FAN_OPEN_PERM,
    Group,
    file_key,
)

pytestmark = pytest.mark.kernel

CHANGES = (
    fanotify.FAN_NONBLOCK
    | fanotify.FAN_REPORT_PIDFD
    | fanotify.FAN_REPORT_FID
    | fanotify.FAN_REPORT_DIR_FID
    | fanotify.FAN_REPORT_NAME
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    return path


@pytest.fixture
def group():
    group = open_group(permission=True)
    yield group
    group.close()


@pytest.fixture
def changes():
    group = Group(CHANGES)
    yield group
    group.close()


def mark(group, path, mask):
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    group.mark(fd, mask)
    key = file_key(fd)
    os.close(fd)
    return key


class Opener(threading.Thread):
    """Opens a file in a thread of its own, since that waits for an answer."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.error = None
        self.start()

    def run(self):
        try:
            os.close(os.open(self.path, os.O_RDONLY))
        except OSError as error:
            self.error = error.errno

    def result(self):
        self.join()
        return self.error


@pytest.mark.parametrize(("response", "error"), [(FAN_ALLOW, None), (FAN_DENY, errno.EPERM)])
def test_an_opener_waits_for_its_answer(group, file, response, error):
    mark(group, file, FAN_OPEN_PERM)
    opener = Opener(file)

    ((mask, event_fd, pid, pidfd),) = group.read_opens()
    assert mask == FAN_OPEN_PERM
    assert pid == os.getpid()
    assert os.fstat(event_fd).st_ino == file.stat().st_ino
    assert opener.is_alive()

    group.answer(event_fd, response)
    assert opener.result() == error
    os.close(event_fd)
    os.close(pidfd)


def test_several_openers_go_on_by_one_call_though_one_was_answered_before(group, file):
    mark(group, file, FAN_OPEN_PERM)
    openers = [Opener(file) for _ in range(5)]
    events = []
    while len(events) < len(openers):
        events += group.read_opens()
    fds = [event_fd for _, event_fd, _, _ in events]
    group.answer(fds[2], FAN_DENY)

    group.allow_all([fds[2], *fds, fds[2]])

    assert sorted(str(each.result()) for each in openers) == sorted([str(errno.EPERM), *["None"] * 4])
    for _, event_fd, _, pidfd in events:
        os.close(event_fd)
        os.close(pidfd)


def test_an_answer_that_the_kernel_refuses_is_told(group):
    with pytest.raises(OSError, match="Invalid argument"):
        group.allow_all([-1])


def test_closing_the_group_lets_every_opener_go(group, file):
    mark(group, file, FAN_OPEN_PERM)
    read, unread = Opener(file), Opener(file)
    for event in group.read_opens():
        os.close(event[1])
        os.close(event[3])

    group.close()

    assert (read.result(), unread.result()) == (None, None)


def test_an_answer_to_nobody_is_fine(group, file):
    fd = os.open(file, os.O_RDONLY)

    group.answer(fd, FAN_ALLOW)

    os.close(fd)


def test_a_mark_that_was_removed_holds_nobody_up(group, file):
    mark(group, file, FAN_OPEN_PERM)
    fd = os.open(file, os.O_PATH)

    group.unmark(fd, FAN_OPEN_PERM)
    group.unmark(fd, FAN_OPEN_PERM)  # again is fine

    assert Opener(file).result() is None
    os.close(fd)


def test_without_permission_events_an_open_is_told_and_not_held_up(file):
    group = open_group(permission=False)
    mark(group, file, FAN_OPEN)

    assert Opener(file).result() is None

    ((_, event_fd, pid, pidfd),) = group.read_opens()
    assert pid == os.getpid()
    os.close(event_fd)
    os.close(pidfd)
    group.close()


def test_a_folder_tells_its_entries_by_key_and_name(changes, tmp_path):
    key = mark(changes, tmp_path, FAN_CREATE | FAN_MOVED_TO | FAN_ONDIR)

    (tmp_path / "new").write_text("x")
    (tmp_path / "new").rename(tmp_path / "decoy")

    created, moved = changes.read_changes()
    assert (created.directory, created.name, created.mask) == (key, b"new", FAN_CREATE)
    assert (moved.directory, moved.name, moved.mask) == (key, b"decoy", FAN_MOVED_TO)
    assert changes.read_changes() == []
    for each in (created, moved):
        os.close(each.pidfd)


def test_a_file_tells_changes_of_its_content_that_open_nothing(changes, file):
    key = mark(changes, file, FAN_MODIFY)

    os.truncate(file, 1)

    (change,) = changes.read_changes()
    assert (change.inode, change.mask) == (key, FAN_MODIFY)
    os.close(change.pidfd)


def test_a_file_system_without_permission_events_says_so(group):
    with pytest.raises(UnavailableError, match="fanotify_mark"):
        mark(group, "/proc/version", FAN_OPEN_PERM)


def test_a_kernel_that_refuses_a_group_says_so():
    with pytest.raises(UnavailableError, match="fanotify_init"):
        Group(0x80000000)


def test_the_tier_is_what_the_kernel_grants():
    assert tiers.detect() == tiers.Tier("observe+", permission=True)
    blind = tiers.detect(bpf_problem="no BPF")
    assert blind == tiers.Tier("none", permission=True, problems=("no BPF",))


def test_without_permission_events_the_tier_is_lower_and_says_why(monkeypatch):
    monkeypatch.setattr(tiers, "FAN_OPEN_PERM", 0x80000000)  # a bit that no kernel knows

    assert tiers.detect().name == "observe"
    assert "can't be denied" in tiers.detect().problems[0]
    assert tiers.detect(bpf_problem="no BPF").problems[0] == "no BPF"


def test_a_group_is_readable_when_somebody_waits(group, file):
    mark(group, file, FAN_OPEN_PERM)
    opener = Opener(file)
    poll = select.poll()
    poll.register(group.fd, select.POLLIN)
    assert poll.poll()

    ((_, event_fd, _, pidfd),) = group.read_opens()
    group.answer(event_fd, FAN_ALLOW)
    assert opener.result() is None
    os.close(event_fd)
    os.close(pidfd)
