"""Attestation against a kernel that is a world: who is the agent, who only looks like it, and what is unknown."""

import hashlib

import msgspec
import pytest

from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.lineage.store import Store
from tests.fakes.kernel import FakeKernel, a_file

OWNER = 1000
SHA = "a" * 64


class World:
    """A monitor's identity half over a fake kernel, with Claude enrolled for one user."""

    def __init__(self):
        self.kernel = FakeKernel()
        self.store = Store(scan_strings, lambda pid: f"pid {pid}")
        self.kernel.sink = self.store.apply
        self.hashes = HashCache()
        self.attestor = Attestor(epoch="e1", tier="observe+", sensor=self.kernel, store=self.store, hashes=self.hashes)
        self.file = a_file(42)
        enrollment = Enrollment(
            "claude", OWNER, "ann", (EnrolledBinary("/opt/claude", SHA, 100),), RoleRule(("claude",)), (), (), 0
        )
        after = AgentTable((KnownFile(enrollment, enrollment.binaries[0], self.file),))
        register_files(self.kernel, self.attestor.agents, after)
        self.attestor.agents = after
        self.hashes._put(self.file, SHA)
        self.shell = self.kernel.boot(uid=OWNER)

    def of_home(self, home):
        """Let the agent's role be that of a user's home."""
        (known,) = self.attestor.agents.known
        role = RoleRule(("claude",), home=home)
        enrollment = msgspec.structs.replace(known.enrollment, role=role)
        self.attestor.agents = AgentTable((KnownFile(enrollment, known.binary, known.facts),))

    def claude(self, argv0="claude", parent=None, **options):
        options.setdefault("file", self.file)
        return self.kernel.run(parent or self.shell, "/opt/claude", argv0, **options)

    async def attest(self, process, known=None):
        return await self.attestor.attest(process.pidfd, known)


@pytest.fixture
def world():
    return World()


async def test_the_main_process_is_the_principal(world):
    verdict = await world.attest(world.claude())

    assert isinstance(verdict, Evidence)
    assert verdict.principal.is_caller
    assert verdict.principal.agent == "claude"
    assert verdict.taints == ()


async def test_a_tool_is_a_descendant_and_not_the_agent(world):
    bash = world.kernel.run(world.claude(), "/bin/bash", "bash")
    tool = world.kernel.run(bash, "/tmp/scanner", "claude")  # its name proves nothing

    verdict = await world.attest(tool)

    assert not verdict.principal.is_caller
    assert verdict.principal.depth == 2


async def test_a_forked_child_of_the_agent_is_not_the_agent(world):
    verdict = await world.attest(world.kernel.fork(world.claude()))

    assert not verdict.principal.is_caller


async def test_the_agents_binary_under_another_name_is_not_the_agent(world):
    verdict = await world.attest(world.claude("rg", parent=world.claude()))

    assert not verdict.principal.is_caller
    assert verdict.principal.depth == 1


async def test_another_file_of_the_same_name_is_nobody(world):
    verdict = await world.attest(world.claude(file=a_file(43)))

    assert verdict.principal is None


async def test_a_changed_file_at_the_same_inode_is_nobody_when_its_bytes_differ(world):
    changed = a_file(42, ctime_ns=99)
    world.hashes._put(changed, "b" * 64)

    assert (await world.attest(world.claude(file=changed))).principal is None


async def test_a_file_that_grew_where_it_lies_is_nobody_and_is_not_hashed(world):
    """Its owner could make it endless; there is no such executable here that could be hashed."""
    verdict = await world.attest(world.claude(file=a_file(42, ctime_ns=99, size_bytes=1 << 50)))

    assert isinstance(verdict, Evidence)
    assert verdict.principal is None


async def test_another_user_running_the_same_file_is_nobody(world):
    stranger = world.kernel.boot(uid=1001)

    assert (await world.attest(world.claude(parent=stranger))).principal is None


async def test_an_agent_that_became_something_else_is_history(world):
    process = world.claude()
    world.kernel.exec(process, "/tmp/evil", "claude", file=a_file(50))

    assert (await world.attest(process)).principal is None


@pytest.mark.parametrize("home", ["/tmp/mine", "/home/ann/", ""])
async def test_another_home_taints_who_finds_its_settings_there(world, home):
    world.of_home("/home/ann")
    assert (await world.attest(world.claude(env={"HOME": "/home/ann"}))).taints == ()

    verdict = await world.attest(world.claude(env={"HOME": home}))

    assert verdict.taints == ("claude: its HOME is not /home/ann, so that it reads other settings",)


async def test_a_tainted_environment_is_told(world):
    verdict = await world.attest(world.claude(env={"LD_PRELOAD": "/tmp/x.so"}))

    assert verdict.principal.is_caller
    assert "LD_PRELOAD" in verdict.taints[0]


async def test_an_agent_older_than_the_monitor_is_unknown(world):
    old = world.kernel.boot(uid=OWNER, file=world.file)

    verdict = await world.attest(old)

    assert isinstance(verdict, Unknown)
    assert "restart the agent" in verdict.next_step


async def test_a_process_without_a_record_is_unknown(world):
    assert isinstance(await world.attestor.attest(4711), Unknown)


async def test_a_lost_event_is_unknown_and_says_so(world):
    process = world.kernel.fork(world.shell)
    world.kernel.lose_next = 2  # its strings and the exec itself
    world.kernel.exec(process, "/opt/claude", "claude", file=world.file)

    verdict = await world.attest(process)

    assert isinstance(verdict, Unknown)
    assert "2 kernel events were lost" in verdict.reason


async def test_a_process_that_execs_between_the_two_looks_is_looked_at_again(world):
    process = world.claude()
    looks = iter([None, lambda: world.kernel.exec(process, "/tmp/evil", "evil", file=a_file(50)), None, None])

    def change():
        happening = next(looks, None)
        if happening:
            happening()

    world.kernel.on_lookup = change
    verdict = await world.attest(process)

    assert verdict.principal is None
    assert verdict.caller.filename == "/tmp/evil"


async def test_unchanged_is_answered_only_for_the_same_numbers(world):
    process = world.claude()
    first = await world.attest(process)

    assert isinstance(await world.attest(process, first.freshness), Unchanged)
    world.kernel.exec(process, "/opt/claude", "claude", file=world.file)
    assert isinstance(await world.attest(process, first.freshness), Evidence)


async def test_recall_never_hashes(world):
    unhashed = a_file(42, ctime_ns=77)

    verdict = world.attestor.recall(world.attestor.snapshot(world.claude(file=unhashed).pidfd))

    assert isinstance(verdict, Unknown)
    assert "looked at" in verdict.reason


async def test_recall_tells_of_an_image_that_is_gone(world):
    process = world.kernel.run(world.claude(), "/tmp/scanner", "scanner")
    record = world.attestor.snapshot(process.pidfd)
    world.kernel.exec(process, "/opt/claude", "claude", file=world.file)
    world.kernel.exit(process)

    verdict = world.attestor.recall(record)

    assert verdict.caller.filename == "/tmp/scanner"
    assert not verdict.principal.is_caller


@pytest.mark.parametrize("holders", [[], [1, 2]])
async def test_a_connection_must_have_exactly_one_holder(world, holders):
    world.kernel.sockets[7] = holders

    verdict = await world.attestor.attest_socket(7)

    assert isinstance(verdict, Unknown)
    assert "exactly one" in verdict.reason


async def test_an_enrolled_file_is_opened_numbered_and_hashed(world, tmp_path):
    path = tmp_path / "claude"
    path.write_bytes(b"the agent")
    world.kernel.open_files[path.stat().st_ino] = a_file(60)
    binary = EnrolledBinary(str(path), hashlib.sha256(b"the agent").hexdigest(), 9)
    good = Enrollment("claude", OWNER, "ann", (binary,), RoleRule(("claude",)), (), (), 0)
    bad = Enrollment("claude", 1001, "bob", (EnrolledBinary(str(path), SHA, 9),), RoleRule(("claude",)), (), (), 0)
    gone = Enrollment("claude", 1002, "cid", (EnrolledBinary("/nowhere", SHA, 9),), RoleRule(("claude",)), (), (), 0)
    grown = Enrollment("claude", 1003, "dan", (EnrolledBinary(str(path), SHA, 8),), RoleRule(("claude",)), (), (), 0)

    table, problems = await read_enrolled_files([good, bad, gone, grown], world.kernel, HashCache())

    assert [each.enrollment.owner_name for each in table.known] == ["ann"]
    assert len(problems) == 3
    assert "not what was enrolled" in problems[0]


async def test_a_recheck_by_numbers_sees_exec_exit_and_another_epoch(world):
    process = world.claude()
    freshness = (await world.attest(process)).freshness
    assert isinstance(await world.attestor.recheck(freshness), Unchanged)
    assert isinstance(await world.attestor.recheck(Freshness("e2", *_numbers(freshness))), Unknown)

    world.kernel.exec(process, "/opt/claude", "claude", file=world.file)
    assert isinstance(await world.attestor.recheck(freshness), Unknown)

    freshness = (await world.attest(process)).freshness
    assert isinstance(await world.attestor.recheck(freshness), Unchanged)
    world.kernel.exit(process)
    assert isinstance(await world.attestor.recheck(freshness), Unknown)


async def test_a_recheck_by_numbers_trusts_nothing_once_events_were_lost(world):
    process = world.claude()
    freshness = (await world.attest(process)).freshness
    world.kernel.lose_next = 1
    world.kernel.fork(world.shell)

    assert isinstance(await world.attestor.recheck(freshness), Unknown)


async def test_a_recheck_waits_for_an_event_that_another_processor_has_not_committed(world, monkeypatch):
    freshness = (await world.attest(world.claude())).freshness
    consume, answers = world.kernel.consume, iter((False, False, False))
    monkeypatch.setattr(world.kernel, "consume", lambda: next(answers, None) is None and consume())

    assert world.attestor.recheck_now(freshness) is None
    assert isinstance(await world.attestor.recheck(freshness), Unchanged)


async def test_evidence_that_holds_is_unchanged_after_a_wait_too(world, monkeypatch):
    process = world.claude()
    freshness = (await world.attest(process)).freshness
    consume, answers = world.kernel.consume, iter((False,) * 5)
    monkeypatch.setattr(world.kernel, "consume", lambda: next(answers, None) is None and consume())

    assert await world.attest(process, freshness) == Unchanged(freshness)


async def test_a_recheck_does_not_wait_for_ever(world, monkeypatch):
    freshness = (await world.attest(world.claude())).freshness
    monkeypatch.setattr(world.kernel, "consume", lambda: False)

    verdict = await world.attestor.recheck(freshness)

    assert isinstance(verdict, Unknown)
    assert "have not arrived" in verdict.reason


async def test_a_process_is_confirmed_by_the_kernels_record_of_it_whatever_was_lost(world):
    process = world.claude()
    freshness = (await world.attest(process)).freshness
    world.kernel.lose_next = 1
    world.kernel.fork(world.shell)
    assert isinstance(await world.attestor.recheck(freshness), Unknown)

    assert isinstance(world.attestor.confirm(process.pidfd, freshness), Unchanged)
    assert isinstance(world.attestor.confirm(process.pidfd, Freshness("e2", *_numbers(freshness))), Unknown)
    assert isinstance(world.attestor.confirm(world.shell.pidfd, freshness), Unknown)


@pytest.mark.parametrize("lost", [0, 1])
async def test_what_became_another_program_is_confirmed_no_more_though_its_exec_was_lost(world, lost):
    process = world.claude()
    freshness = (await world.attest(process)).freshness
    world.kernel.lose_next = lost

    world.kernel.exec(process, "/opt/claude", "claude", file=world.file)

    assert isinstance(world.attestor.confirm(process.pidfd, freshness), Unknown)


async def test_what_ended_or_became_another_user_is_confirmed_no_more(world):
    process, other = world.claude(), world.claude()
    freshness, others = (await world.attest(process)).freshness, (await world.attest(other)).freshness
    process.uid = 0
    world.kernel.exit(other)

    assert isinstance(world.attestor.confirm(process.pidfd, freshness), Unknown)
    assert isinstance(world.attestor.confirm(other.pidfd, others), Unknown)


def _numbers(freshness):
    return freshness.proc_id, freshness.exec_id, freshness.taints


async def test_an_agent_that_was_attested_is_guarded_and_its_tools_are_not(world):
    agent = world.claude()
    tool = world.kernel.run(agent, "/bin/sh", "sh")
    await world.attest(tool)
    assert world.kernel.guarded == set()

    await world.attest(agent)

    assert world.kernel.guarded == {agent.pidfd}


@pytest.mark.parametrize(
    ("arguments", "is_agent"),
    [
        (("exec", "hello"), True),
        (("responses-api-proxy",), False),
        (("-c", "x=1", "responses-api-proxy", "--port", "1"), False),
        (("-c", "x=" + "y" * 9000, "responses-api-proxy"), False),
    ],
)
async def test_a_subcommand_that_works_for_others_is_not_the_agent(world, arguments, is_agent):
    known = world.attestor.agents.known[0]
    role = RoleRule(("claude",), refused_arguments=("responses-api-proxy",))
    changed = msgspec.structs.replace(known, enrollment=msgspec.structs.replace(known.enrollment, role=role))
    world.attestor.agents = AgentTable((changed,))
    process = world.kernel.run(world.shell, "/opt/claude", "claude", *arguments, file=world.file)

    verdict = await world.attest(process)

    assert (verdict.principal is not None) == is_agent
