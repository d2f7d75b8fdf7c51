"""Marks that the kernel denies by itself: what is set with it, and what its denials become."""

import os

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity.evidence import Evidence, Unknown
from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial
from agent_broker.kernel.marks import FileNumbers, agent_number, filter_bit
from agent_broker.monitor.actor import Actors
from agent_broker.monitor.denials import DenialReader
from agent_broker.monitor.kernel_opens import KernelOpens
from agent_broker.monitor.mark import Mark
from tests.fakes.attestor import World


class KernelSide:
    """Marks, askers, and who answers, as the kernel would hold them."""

    def __init__(self):
        self.marks, self.askers, self.answering = {}, set(), 0
        self.questions, self.room = [], None

    def mark_all(self, wanted):
        self.questions.append(len(wanted))
        return [self.mark(fd, agent) for fd, agent in wanted]

    def mark(self, fd, agent):
        if self.room is not None and len(self.marks) >= self.room:
            return UnavailableError("a file can't be marked with the kernel side: full")
        file = FileNumbers(os.fstat(fd).st_dev, os.fstat(fd).st_ino)
        self.marks[file] = agent
        return file

    def unmark(self, file):
        self.marks.pop(file, None)

    def ask_about(self, fd):
        file = FileNumbers(os.fstat(fd).st_dev, os.fstat(fd).st_ino)
        self.askers.add(file)
        return file

    def stop_asking_about(self, file):
        self.askers.discard(file)

    def answer_for(self, pid):
        self.answering = pid


class Behind:
    """The listener that is asked, and the reporter."""

    def __init__(self):
        self.did, self.reports, self.reasons = [], [], []
        self.refuses = False

    def start(self):
        self.did.append("start")

    def close(self):
        self.did.append("close")

    def mark(self, mark, fd):
        self.did.append(("mark", mark.path, fd >= 0))
        if self.refuses:
            raise UnavailableError("no such events")

    def finish(self):
        return []

    def leave(self, path):
        self.did.append(("leave", path))

    def forget(self, path):
        self.did.append(("forget", path))

    def report(self, event):
        self.reports.append(event)
        event.actor.close()

    def missed(self, reason):
        self.reasons.append(reason)


@pytest.fixture
def kernel():
    return KernelSide()


@pytest.fixture
def behind():
    return Behind()


@pytest.fixture
def world():
    return World()


@pytest.fixture
def opens(kernel, behind, world):
    return KernelOpens(behind, kernel, Actors(world), behind)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "decoy"
    path.write_text("x")
    return path


def mark(opens, path, *, finish=True, **fields):
    given = {"agent": "claude", "owner_uid": 1000, "deny": True, **fields}
    fd = os.open(path, os.O_PATH)
    try:
        opens.mark(Mark(str(path), **given), fd)
    finally:
        os.close(fd)
        if finish:
            assert opens.finish() == []


def numbers(path):
    return FileNumbers(path.stat().st_dev, path.stat().st_ino)


def denial(path, process=None, **fields):
    file = numbers(path)
    given = {
        "time_ns": 1, "proc_id": 0, "exec_id": 0, "dev": file.dev, "ino": file.ino, "operation": wire.OPERATION_OPEN,
        "flags": 0, "pid": 1, "uid": 1000, "denied": True, "command": b"cat", "name": os.fsencode(path),
    }  # fmt: skip
    if process is not None:
        given |= {"proc_id": process.proc_id, "exec_id": process.image.exec_id, "pid": process.pid}
    return Denial(**{**given, **fields})


def test_a_denied_mark_is_set_behind_first_and_belongs_to_its_agent(opens, kernel, behind, file):
    mark(opens, file)

    assert behind.did == [("mark", str(file), True)]
    assert kernel.marks == {numbers(file): agent_number("claude", 1000)}


@pytest.mark.parametrize("fields", [{"deny": False}, {"role": "config"}, {"role": "credential"}])
def test_what_is_served_and_what_nobody_could_open_is_left_to_the_listener(opens, kernel, behind, file, fields):
    mark(opens, file)

    mark(opens, file, **fields)

    assert kernel.marks == {}
    assert len(behind.did) == 2


def test_credentials_are_denied_once_it_is_known_about_whom_to_ask(opens, kernel, file, tmp_path):
    program = tmp_path / "ssh"
    program.write_text("")

    assert opens.ask_about([str(program), "/nowhere/git"]) == ()
    mark(opens, file, role="credential", agent=None)

    assert kernel.askers == {numbers(program)}
    assert kernel.marks == {numbers(file): 0}
    opens.ask_about([])
    assert kernel.askers == set()


def test_a_file_that_was_replaced_stays_denied_until_its_path_is_forgotten(opens, kernel, behind, file):
    mark(opens, file)
    old = numbers(file)
    file.rename(file.with_name("moved"))
    file.write_text("y")
    mark(opens, file)
    assert kernel.marks.keys() == {old, numbers(file)}

    opens.forget(str(file))

    assert kernel.marks == {}
    assert behind.did[-1] == ("forget", str(file))


def test_a_path_that_is_replaced_for_ever_keeps_a_bounded_number_of_marks(opens, kernel, file):
    for number in range(40):
        mark(opens, file)
        file.rename(file.with_name(f"moved{number}"))
        file.write_text("y")

    assert len(kernel.marks) == 16


def test_a_file_whose_openers_can_not_be_held_up_is_denied_all_the_same(opens, kernel, behind, file):
    behind.refuses = True

    with pytest.raises(UnavailableError, match="no such events"):
        mark(opens, file)

    assert list(kernel.marks) == [numbers(file)]


def test_many_are_denied_with_few_questions_and_leave_no_descriptor(opens, kernel, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    files = [tmp_path / str(number) for number in range(300)]
    for each in files:
        each.touch()
        mark(opens, each, finish=False)

    assert opens.finish() == []

    assert kernel.marks.keys() == {numbers(each) for each in files}
    assert kernel.questions == [128, 128, 44]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_kernel_does_not_take_is_told(opens, kernel, file, tmp_path):
    other = tmp_path / "other"
    other.touch()
    kernel.room = 1
    mark(opens, file, finish=False)
    mark(opens, other, finish=False)

    ((path, error),) = opens.finish()

    assert (path, error.message) == (str(other), "a file can't be marked with the kernel side: full")
    assert opens.finish() == []


def test_a_kernel_that_does_not_answer_is_told_for_each_path(opens, kernel, file, monkeypatch):
    def fail(_wanted):
        raise UnavailableError("the kernel does not answer")

    monkeypatch.setattr(kernel, "mark_all", fail)
    mark(opens, file, finish=False)

    assert [path for path, _ in opens.finish()] == [str(file)]


def test_it_answers_while_it_runs(opens, kernel, behind):
    opens.start()
    assert kernel.answering == os.getpid()

    opens.close()

    assert kernel.answering == 0
    assert behind.did == ["start", "close"]


def test_a_denial_is_reported_by_the_kernels_numbers(opens, behind, world, file):
    mark(opens, file)
    thief = world.process(4_000_000, "/tmp/thief")

    opens.report(denial(file, thief, name=b"/other/name"))

    (event,) = behind.reports
    assert (event.action, event.other_name, event.change) == ("denied", "/other/name", "")
    assert isinstance(event.verdict, Evidence)
    assert event.verdict.caller.filename == "/tmp/thief"


@pytest.mark.parametrize(
    ("operation", "verb"),
    [
        (wire.OPERATION_RECEIVE, "receive"),
        (wire.OPERATION_TRUNCATE, "empty"),
        (wire.OPERATION_RENAME, "move"),
        (wire.OPERATION_UNLINK, "delete"),
        (wire.OPERATION_LINK, "another name"),
    ],
)
def test_what_is_no_open_is_said_so(opens, behind, file, operation, verb):
    mark(opens, file)

    opens.report(denial(file, operation=operation))

    assert verb in behind.reports[0].change


def test_who_has_no_record_or_was_denied_earlier_is_unknown(opens, behind, file):
    mark(opens, file)

    opens.report(denial(file))
    opens.report_earlier(denial(file, proc_id=3, exec_id=4, command=b"evil\n"))

    assert [type(each.verdict) for each in behind.reports] == [Unknown] * 2
    assert behind.reports[1].verdict.reason.endswith("evil\\n")


def test_a_file_that_was_forgotten_is_not_reported(opens, behind, file):
    mark(opens, file)
    opens.forget(str(file))

    opens.report(denial(file))

    assert behind.reports == []


def test_denials_are_read_after_lineage_and_each_goes_where_it_belongs(file):
    did, lost = [], [0]

    class Source:
        epoll_fd = 0

        @property
        def lost(self):
            return lost[0]

        def consume(self, sink):
            did.append("consume")
            for operation in (wire.OPERATION_OPEN, wire.OPERATION_SIGNAL):
                sink(denial(file, operation=operation))
            sink(denial(file, operation=wire.OPERATION_MAP, pid=os.getpid()))

    class Taker:
        def __init__(self, name):
            self.name = name

        def report(self, event):
            did.append((self.name, event.operation))

        def missed(self, reason):
            did.append((self.name, reason))

    reader = DenialReader(Source(), lambda: did.append("drain"), Taker("files"), Taker("us"))
    reader.read()
    assert did == ["drain", "consume", ("files", wire.OPERATION_OPEN), ("us", wire.OPERATION_SIGNAL)]

    lost[0] = 7
    reader.read()
    reader.read()
    assert [each for each in did if "too fast" in str(each)] == [
        ("files", "denials came too fast to be told one by one")
    ]


def test_the_filter_spreads_neighbours_over_all_of_its_bits():
    bits = {filter_bit(FileNumbers(0x800001, 100_000 + number)) for number in range(10_000)}

    assert len(bits) > 9_900
    assert max(bits) < 1 << 20
    assert max(bits) > 1 << 19


def test_a_file_that_left_its_path_stays_denied(opens, kernel, behind, file):
    mark(opens, file)
    opens.leave(str(file))

    assert list(kernel.marks) == [numbers(file)]
    assert behind.did[-1] == ("leave", str(file))
