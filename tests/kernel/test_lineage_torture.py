"""The recorded origin in every way to make a process or an image: the kernel's real ones, one test each."""

import os
from pathlib import Path

import pytest

from agent_broker.identity.evidence import Unknown
from tests.fakes.backends import BACKENDS
from tests.fakes.torture import Torture, processes, programs

pytestmark = pytest.mark.kernel

DEEP = 64


@pytest.fixture(params=BACKENDS)
async def torture(request):
    torture = Torture(request.param)
    await torture.enroll(os.getuid())
    yield torture
    torture.close()


def then_leaf(torture):
    return ("exec", torture.leaf, "leaf", "say", "leaf")


async def test_a_forked_child_is_a_child_and_runs_its_parents_image(torture):
    speakers = torture.start("say", "agent", "fork", "say", "child").follow("agent", "child")

    evidence = await torture.expect(speakers)

    assert not evidence.principal.is_caller
    assert evidence.steps[0].image == evidence.steps[1].image


async def test_double_fork_with_the_middle_gone(torture):
    words = ("say", "agent", "fork", "say", "middle", "fork-and-go", "say", "orphan", *then_leaf(torture))
    speakers = torture.start(*words).follow("agent", "middle", "orphan", "leaf")
    await torture.ended(speakers[1])

    evidence = await torture.expect(speakers)

    exited = {step.proc_id: step.exited for step in evidence.steps}
    assert exited[speakers[1].record.proc_id]
    assert not exited[speakers[0].record.proc_id]


async def test_setsid_changes_nothing(torture):
    words = ("say", "agent", "fork", "setsid", "say", "session", "fork-and-go", "say", "daemon", *then_leaf(torture))
    speakers = torture.start(*words).follow("agent", "session", "daemon", "leaf")

    await torture.expect(speakers)

    assert os.getsid(speakers[-1].pid) == speakers[1].pid != os.getsid(speakers[0].pid)


async def test_a_subreaper_is_a_parent_in_name_only(torture):
    """The reaper is between the test and the agent: the agent's orphan becomes the reaper's child."""
    words = ("subreaper", "say", "reaper", "fork", "exec", torture.agent, "agent", "say", "agent")
    words += ("fork-and-go", "say", "orphan", *then_leaf(torture))
    speakers = torture.start(*words, program=torture.leaf).follow("reaper", "agent", "orphan", "leaf")

    await torture.expect(speakers, agent=1)

    assert parent_pid(speakers[-1].pid) == speakers[0].pid


async def test_an_agent_that_reaps_is_not_the_parent_of_what_it_reaps(torture):
    words = ("subreaper", "say", "agent", "fork", "say", "middle", "fork-and-go", "say", "orphan")
    speakers = torture.start(*words).follow("agent", "middle", "orphan")

    await torture.expect(speakers)

    assert parent_pid(speakers[-1].pid) == speakers[0].pid


@pytest.mark.parametrize(("word", "name"), [("vfork", "vforked"), ("spawn", "spawned")])
async def test_vfork_and_posix_spawn(torture, word, name):
    speakers = torture.start("say", "agent", word, "say", "child").follow("agent", "child")

    evidence = await torture.expect(speakers)

    assert programs(evidence, 2) == [name, torture.agent]
    assert not evidence.principal.is_caller  # the agent's own file, under another name


async def test_fork_in_a_thread_that_is_not_the_leader(torture):
    words = ("say", "agent", "thread", "say", "thread", "fork", "say", "child", *then_leaf(torture))
    speakers = torture.start(*words).follow("agent", "thread", "child", "leaf")

    await torture.expect(speakers)

    assert speakers[1].record == speakers[0].record


async def test_a_thread_goes_on_when_the_leader_has_ended(torture):
    words = ("say", "agent", "thread-alone", "say", "thread", "fork", "say", "child", *then_leaf(torture))
    family = torture.start(*words)
    speakers = family.follow("agent", "thread")
    while "Z" not in Path(f"/proc/{speakers[0].pid}/stat").read_text().split()[2]:
        os.sched_yield()

    assert (await torture.expect(speakers)).principal.is_caller

    family.go()
    await torture.expect([*speakers, *family.follow("child", "leaf")])


async def test_clone_parent_makes_a_sibling_and_is_recorded_as_a_child(torture):
    words = ("say", "agent", "fork", "say", "tool", "clone-parent", "say", "sibling", *then_leaf(torture))
    speakers = torture.start(*words).follow("agent", "tool", "sibling", "leaf")

    await torture.expect(speakers)

    assert parent_pid(speakers[-1].pid) == speakers[0].pid


async def test_clone_parent_by_the_agent_itself_does_not_leave_the_agent(torture):
    """In the kernel's tree the child is the agent's sibling, a child of this test."""
    speakers = torture.start("say", "agent", "clone-parent", "say", "child").follow("agent", "child")

    await torture.expect(speakers)

    assert parent_pid(speakers[1].pid) == os.getpid()
    os.kill(speakers[1].pid, 9)
    os.waitpid(speakers[1].pid, 0)


async def test_exec_in_a_thread_that_is_not_the_leader_follows(torture):
    words = ("say", "agent", "fork", "say", "tool", "thread", "say", "thread", *then_leaf(torture))
    family = torture.start(*words)
    speakers = family.follow("agent", "tool", "thread")
    before = await torture.attest(speakers[1])
    family.go()
    speakers.append(family.hear("leaf"))

    evidence = await torture.expect(speakers)

    assert speakers[-1].pid == speakers[1].pid
    assert speakers[-1].record.proc_id == speakers[1].record.proc_id
    assert speakers[-1].record.exec_id > speakers[1].record.exec_id
    assert programs(evidence, 2) == ["leaf", torture.agent]
    # the pidfd from before the exec is still the process, and its evidence is not
    assert (await torture.attest(speakers[1], before.freshness)).freshness == evidence.freshness


async def test_after_exec_in_a_thread_its_children_are_its_own(torture):
    words = ("say", "agent", "thread-exec", torture.leaf, "leaf", "say", "leaf", "fork", "say", "child")
    family = torture.start(*words)
    speakers = family.follow("agent", "leaf")

    # the image that was the agent is history: what the same process executed since is nobody
    await torture.expect(speakers, agent=None)
    family.go()
    await torture.expect([*speakers, family.hear("child")], agent=None)


async def test_every_ancestor_up_to_the_agent_is_gone(torture):
    words = ("say", "agent", "fork-and-go", "say", "one", "fork-and-go", "say", "two", *then_leaf(torture))
    family = torture.start(*words)
    speakers = family.follow("agent", "one", "two", "leaf")
    known = (await torture.attest(speakers[-1])).freshness
    for each in speakers[:2]:
        await torture.ended(each)
    family.reap()  # the agent

    evidence = await torture.expect(speakers)

    exited = {step.proc_id: step.exited for step in evidence.steps}
    assert [exited[each.record.proc_id] for each in speakers] == [True, True, False, False]
    assert exited[evidence.principal.proc_id]  # named, and known to be gone
    assert not evidence.principal.is_caller
    assert isinstance(await torture.attest(speakers[0]), Unknown)
    assert (await torture.attest(speakers[-1], known)).freshness == known  # its ancestors' end changed nothing of it


async def test_clone3_into_a_cgroup(torture):
    words = ("say", "agent", "cgroup", own_cgroup(), "say", "child", *then_leaf(torture))
    speakers = torture.start(*words).follow("agent", "child", "leaf")

    await torture.expect(speakers)


async def test_a_chain_of_64_processes(torture):
    names = [f"p{number}" for number in range(DEEP)]
    words = [word for name in names for word in ("fork", "say", name)]
    speakers = torture.start("say", "agent", *words).follow("agent", *names)

    evidence = await torture.expect(speakers)

    assert evidence.principal.depth == DEEP
    assert len(evidence.steps) > DEEP


async def test_a_chain_of_64_images_in_one_process(torture):
    """Each exec is recorded, none is a fork: the agent is the last one's parent."""
    words = ["say", "agent", "fork"]
    for number in range(DEEP):
        words += ["exec", torture.leaf, f"image{number}"]
    speakers = torture.start(*words, "say", "leaf").follow("agent", "leaf")

    evidence = await torture.expect(speakers)

    assert programs(evidence, DEEP) == [f"image{number}" for number in reversed(range(DEEP))]
    assert evidence.principal.depth == 1


async def test_all_of_it_in_one_family(torture):
    words = ("subreaper", "say", "agent", "thread", "fork", "say", "a", "vfork", "setsid", "say", "b", "fork-and-go")
    words += ("say", "c", "clone-parent", "say", "d", "thread-exec", torture.leaf, "leaf", "say", "d2")
    words += ("spawn", "say", "e", "cgroup", own_cgroup(), "say", "f", "thread-alone", "fork", "say", "g")
    names = ("agent", "a", "b", "c", "d", "d2", "e", "f", "g")

    await torture.expect(torture.start(*words).follow(*names))


# The same number again.


async def test_a_process_with_the_number_of_a_dead_one_is_another(torture):
    family = torture.start("say", "agent")
    old = family.hear("agent")
    before = await torture.expect([old])
    family.reap()
    stranger = start_with_pid(torture, old.pid)
    new = stranger.hear("stranger")

    evidence = await torture.expect([new], agent=None)

    assert new.pid == old.pid
    assert new.record.proc_id != old.record.proc_id
    assert isinstance(await torture.attest(old), Unknown)
    assert isinstance(await torture.attestor.recheck(before.freshness), Unknown)
    assert (await torture.attest(new, before.freshness)).freshness == evidence.freshness


async def test_the_child_of_a_dead_process_is_not_the_child_of_the_next_one_with_its_number(torture):
    words = ("say", "agent", "fork", "say", "parent", "fork-and-go", "say", "child")
    speakers = torture.start(*words).follow("agent", "parent", "child")
    await torture.ended(speakers[1])
    wait_until_free(speakers[1].pid)
    new = start_with_pid(torture, speakers[1].pid).hear("stranger")

    await torture.expect([new], agent=None)
    evidence = await torture.expect(speakers)

    assert new.pid == speakers[1].pid
    assert new.record.proc_id not in processes(evidence.steps)


async def test_a_number_that_comes_back_in_a_small_pid_namespace(torture):
    words = ("say", "agent", "unshare", "p", "fork", "say", "first", "reuse-pid", "say", "again")
    family = torture.start(*words)
    agent, first, old = family.follow("agent", "first", "old")
    before = await torture.expect([agent, first, old])
    family.go()
    new = family.hear("new")

    evidence = await torture.expect([agent, first, new])

    assert inner_pid(new.pid) == 2
    assert new.record.proc_id != old.record.proc_id
    assert isinstance(await torture.attest(old), Unknown)
    assert (await torture.attest(new, before.freshness)).freshness == evidence.freshness


def parent_pid(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def inner_pid(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def own_cgroup():
    """The folder of this process's own cgroup; "-" if there is no version 2, and then the child is born as usual."""
    own = [line.removeprefix("0::") for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"]
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = [mount[1] for mount in mounts if mount[2] == "cgroup2"]
    return found[0] + own[0] if own and found else "-"


def wait_until_free(pid):
    while Path(f"/proc/{pid}").exists():
        os.sched_yield()


def start_with_pid(torture, pid):
    """Start ``leaf`` until it gets this number; the kernel's last one is set where it can be, else it goes round."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    while True:
        if last.exists():
            last.write_text(str(pid - 1))
        family = torture.start("say", "stranger", program=torture.leaf)
        if family.first.pid == pid:
            return family
        torture.families.remove(family)
        family.hear("stranger")
        family.close()
