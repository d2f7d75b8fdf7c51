"""The lineage store against a kernel that forks, execs, exits and loses events."""

import pytest

from agent_broker.identity.environment import scan_strings
from agent_broker.lineage.store import Store
from tests.fakes.kernel import FakeKernel, a_file


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def store(kernel):
    store = Store(scan_strings, lambda pid: f"pid {pid}", kept_after_exit=2)
    kernel.sink = store.apply
    return store


def names(lineage):
    return [(step.image.filename, step.relation) for step in lineage.steps]


def of(store, process):
    return store.lineage(process.proc_id, process.exec_id)


def test_a_tool_descends_from_its_agent_through_the_shell(kernel, store):
    shell = kernel.boot(uid=1000)
    agent = kernel.run(shell, "/usr/bin/claude", "claude")
    bash = kernel.run(agent, "/bin/bash", "bash", "-c", "scanner")
    scanner = kernel.run(bash, "/tmp/scanner")
    kernel.consume()
    store.link_seeded()

    lineage = of(store, scanner)

    assert lineage.gap == ""
    assert names(lineage) == [
        ("/tmp/scanner", "self"),
        ("/bin/bash", "fork"),
        ("/usr/bin/claude", "fork"),
        (f"pid {shell.pid}", "fork"),
    ]
    assert [step.image.observed for step in lineage.steps] == [True, True, True, False]


def test_a_forked_child_runs_its_parents_image_and_is_another_process(kernel, store):
    agent = kernel.run(kernel.boot(), "/usr/bin/claude", "claude")
    child = kernel.fork(agent)
    kernel.consume()

    first, second, *_ = of(store, child).steps

    assert first.proc_id == child.proc_id
    assert second.proc_id == agent.proc_id
    assert first.image == second.image
    assert first.image.proc_id == agent.proc_id


def test_images_of_one_process_are_a_history(kernel, store):
    process = kernel.run(kernel.boot(), "/bin/sh", "sh", "-c", "exec node")
    kernel.exec(process, "/usr/bin/node", "node")
    kernel.exec(process, "/opt/codex", "codex")
    kernel.consume()

    assert names(of(store, process))[:3] == [("/opt/codex", "self"), ("/usr/bin/node", "exec"), ("/bin/sh", "exec")]


def test_a_child_of_an_older_image_does_not_see_the_newer_one(kernel, store):
    process = kernel.run(kernel.boot(), "/bin/sh", "sh")
    child = kernel.run(process, "/bin/date")
    kernel.exec(process, "/usr/bin/claude", "claude")
    kernel.consume()

    assert names(of(store, child))[:2] == [("/bin/date", "self"), ("/bin/sh", "fork")]


def test_the_origin_stays_when_every_ancestor_exits(kernel, store):
    agent = kernel.run(kernel.boot(), "/usr/bin/claude", "claude")
    middle = kernel.run(agent, "/bin/sh", "sh")
    orphan = kernel.run(middle, "/tmp/orphan")
    for process in (middle, agent):
        kernel.exit(process)
    for _ in range(10):  # push them out of the queue of ended processes
        kernel.exit(kernel.run(kernel.boot(), "/bin/true"))
    kernel.consume()

    lineage = of(store, orphan)

    assert lineage.gap == ""
    assert [(step.image.filename, step.exited) for step in lineage.steps][:3] == [
        ("/tmp/orphan", False),
        ("/bin/sh", True),
        ("/usr/bin/claude", True),
    ]


def test_what_nobody_needs_any_more_is_forgotten(kernel, store):
    root = kernel.boot()
    for _ in range(100):
        parent = kernel.run(root, "/bin/sh", "sh")
        child = kernel.run(parent, "/bin/true")
        kernel.exit(parent)
        kernel.exit(child)
    kernel.consume()

    assert store.live == 1
    assert store.images <= 1 + 2 + 1  # the root's, the queue's two, and an ancestor of those


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_fork_or_exec_makes_the_lineage_unknown(kernel, store, lost):
    shell = kernel.run(kernel.boot(), "/bin/sh", "sh")
    kernel.consume()
    if lost == 1:
        kernel.lose_next = 1
        child = kernel.fork(shell)
        kernel.exec(child, "/usr/bin/claude", "claude")
    else:
        child = kernel.fork(shell)
        kernel.lose_next = 1
        kernel.exec(child, "/usr/bin/claude", "claude")
    grandchild = kernel.run(child, "/bin/true")
    kernel.consume()

    assert of(store, child).gap
    assert of(store, grandchild).gap


def test_an_unknown_process_has_no_lineage(store):
    assert "not in the recorded lineage" in store.lineage(77, 1).gap


def test_too_deep_is_unknown(kernel, store):
    process = kernel.boot()
    for _ in range(200):
        process = kernel.run(process, "/bin/sh", "sh")
    kernel.consume()

    assert "longer than" in of(store, process).gap


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"env": {"HOME": "/h"}}, ""),
        ({"env": {"PAD": "x" * 9000, "BUN_OPTIONS": "--preload=x.js"}}, "BUN_OPTIONS"),
        ({"env": {"BIG": "x" * 200_000}}, "longer than 128 KiB"),
        ({"strings": "lost"}, "could not be read"),
        ({"flags": 2}, "tracer"),
    ],
)
def test_a_registered_images_environment_is_judged(kernel, store, options, expected):
    kernel.register(a_file(5).dev, 5)
    process = kernel.run(kernel.boot(), "/usr/bin/claude", "claude", file=a_file(5), **options)
    kernel.consume()

    image = of(store, process).steps[0].image
    captured = store.captured(process.exec_id)
    found = (*image.taints, *(each.name for each in captured.injections), captured.problem)

    assert expected in " ".join(found)
    assert any(found) == bool(expected)


def test_a_missing_piece_of_the_strings_taints(kernel, store):
    kernel.register(a_file(5).dev, 5)
    process = kernel.fork(kernel.boot())
    kernel.lose_next = 1  # the first of two pieces
    kernel.exec(process, "/usr/bin/claude", "claude", file=a_file(5), env={"PAD": "x" * 5000})
    kernel.consume()

    assert "could not be read" in store.captured(process.exec_id).problem


def test_an_image_made_in_memory_is_tainted(kernel, store):
    process = kernel.run(kernel.boot(), "/proc/self/fd/3", "claude", file=a_file(9, nlink=0))
    kernel.consume()

    assert "no name" in of(store, process).steps[0].image.taints[0]


def test_text_of_an_attacker_is_printable_and_holds_no_key(kernel, store):
    key = "sk-ant-api03-" + "A" * 40
    process = kernel.run(kernel.boot(), "/tmp/\x1b[2Jx", "x", f"--key={key}", "\x07bell")
    kernel.consume()

    image = of(store, process).steps[0].image

    assert image.filename == "/tmp/\\x1b[2Jx"
    assert image.args_head == ("--key=sk-ant-[redacted]", "\\x07bell")
