"""The smallest cases of events that are lost or overtake each other, as the property tests found them."""

import pytest

from agent_broker.identity.environment import scan_strings
from agent_broker.kernel import wire
from agent_broker.lineage.store import Store
from tests.fakes.kernel import FakeKernel, a_file


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def store(kernel):
    store = Store(scan_strings, str, kept_after_exit=4)
    kernel.sink = store.apply
    return store


@pytest.fixture
def child(kernel, store):
    shell = kernel.boot(uid=1000)
    kernel.register(a_file().dev, a_file().ino)
    kernel.consume()
    store.link_seeded()
    return kernel.fork(shell)


def of(store, process):
    return store.lineage(process.proc_id, process.exec_id)


def swap_last_two(kernel):
    kernel.queue[-1], kernel.queue[-2] = kernel.queue[-2], kernel.queue[-1]


def plain_exec(kernel, process, name):
    kernel.exec(process, name, file=a_file(9))


def test_an_exec_that_was_lost_between_two_of_one_process_is_a_gap(kernel, store, child):
    plain_exec(kernel, child, "/bin/sh")
    kernel.lose_next = 1
    plain_exec(kernel, child, "/tmp/evil")
    plain_exec(kernel, child, "/bin/sh")
    kernel.consume()

    assert "is not in the recorded lineage" in of(store, child).gap


def test_the_first_exec_of_a_process_that_was_lost_is_a_gap(kernel, store, child):
    kernel.lose_next = 1
    plain_exec(kernel, child, "/tmp/evil")
    plain_exec(kernel, child, "/bin/sh")
    kernel.consume()

    assert "is not in the recorded lineage" in of(store, child).gap


def test_two_execs_that_overtook_each_other_are_one_history(kernel, store, child):
    plain_exec(kernel, child, "/bin/sh")
    older = child.exec_id
    plain_exec(kernel, child, "/bin/date")
    swap_last_two(kernel)
    kernel.consume()

    assert [step.image.filename for step in of(store, child).steps][:2] == ["/bin/date", "/bin/sh"]
    assert of(store, child).gap == ""
    assert store.runs(child.proc_id, child.exec_id)
    assert not store.runs(child.proc_id, older)


def test_an_exec_before_its_fork_is_a_gap_also_for_what_comes_later(kernel, store, child):
    plain_exec(kernel, child, "/tmp/evil")
    swap_last_two(kernel)
    plain_exec(kernel, child, "/bin/sh")
    kernel.consume()

    assert "is not in the recorded lineage" in of(store, child).gap


def test_an_exit_before_its_fork_ends_the_process(kernel, store, child):
    before = store.live
    kernel.exit(child)
    swap_last_two(kernel)
    kernel.consume()

    assert store.live == before
    assert not store.runs(child.proc_id, child.exec_id)


def test_a_process_that_was_forked_and_has_no_record_until_later_has_no_origin(kernel, store, child):
    """Its storage was refused: the kernel side gives it a new number at its exec, as if it were older than us."""
    late = kernel.boot(uid=1000)
    plain_exec(kernel, late, "/bin/sh")
    kernel.consume()

    assert "the parent of process" in of(store, late).gap


@pytest.mark.parametrize("events", [1, 2], ids=["before-its-exec", "before-its-fork"])
def test_a_taint_that_comes_early_is_kept(kernel, store, child, events):
    if events == 1:
        kernel.consume()
    kernel.exec(child, "/usr/bin/claude", file=a_file())
    kernel.taint(child, child, wire.TAINT_WRITTEN)
    kernel.queue.insert(0, kernel.queue.pop())
    kernel.consume()

    assert of(store, child).steps == () or of(store, child).steps[0].tampered
    assert store.taints_of(child.proc_id, child.exec_id) == wire.TAINT_WRITTEN


def test_an_image_stays_tainted_for_its_children_when_its_process_execs(kernel, store, child):
    kernel.exec(child, "/usr/bin/claude", file=a_file())
    kernel.taint(child, child, wire.TAINT_WRITTEN)
    helper = kernel.run(child, "/bin/helper", file=a_file(9))
    plain_exec(kernel, child, "/bin/true")
    kernel.consume()

    assert [bool(step.tampered) for step in of(store, helper).steps][:2] == [False, True]
    assert not of(store, child).steps[0].tampered


def test_what_comes_of_processes_that_were_never_forked_is_kept_in_bounded_memory(kernel, store, child):
    kernel.consume()
    for _ in range(5000):
        kernel.lose_next = 1
        lost = kernel.fork(child)
        kernel.exit(lost)
        kernel.consume()

    assert len(store._early) <= 1024
    assert store.live == 2
