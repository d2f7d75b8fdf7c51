"""The release rule, one rule a test: real vault, policy, ledger, freeze list and journal; a scripted caller."""

import pytest
from msgspec.structs import replace

from agent_broker.audit.journal import Journal
from agent_broker.audit.verification import read
from agent_broker.clock import SystemClock
from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.grant.freeze import FreezeList
from agent_broker.grant.ledger import Ledger
from agent_broker.identity.environment import injected, scan_strings
from agent_broker.identity.evidence import Evidence, Freshness, Principal, Unchanged, Unknown
from agent_broker.identity.registry import Account, Enrollment, RoleRule
from agent_broker.issue import INJECT, RELEASE, Ask, Issuer
from agent_broker.lineage.record import Image, Step
from agent_broker.monitor.fold import PER_FAMILY
from agent_broker.policy.document import parse_policy
from agent_broker.refusals import RefusalLog
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
from tests.fakes.kernel import a_file

OWNER = 1000
KEY = "claude/1000/api-key"
REAL = b"sk-ant-api03-the-real-one"
ALLOW = b'[[rule]]\nagent = "claude"\nowner = 1000\ncredential = "claude/1000/*"\nmodes = ["inject", "release"]\n'


def image(exec_id, proc_id, name, **changes):
    facts = {"owner_uid": 0, **{key: changes.pop(key) for key in ("owner_uid", "mode") if key in changes}}
    return Image(
        exec_id, proc_id, 0, changes.get("uid", OWNER), 100 + proc_id, 1, a_file(exec_id, **facts), name, "", name, (),
        observed=True, taints=(),
    )  # fmt: skip


AGENT = Step(5, image(50, 5, "/opt/claude", owner_uid=OWNER), "self", exited=False)
BASH = Step(6, image(60, 6, "/bin/bash"), "fork", exited=False)
SHIM = Step(7, image(70, 7, "/usr/bin/shim"), "self", exited=False)


def principal(**changes):
    fields = {"agent": "claude", "owner_uid": OWNER, "proc_id": 5, "exec_id": 50, "sha256": "a" * 64, "is_caller": True}
    return Principal(**{**fields, "depth": 0, **changes})


def evidence(*steps, who=None, taints=(), uid=OWNER):
    steps = steps or (AGENT,)
    top = steps[0]
    return Evidence(
        Freshness("e1", top.proc_id, top.image.exec_id, 0), uid, steps, who, tuple(taints), "observe+"
    )  # fmt: skip


class ScriptedCaller:
    """Answers the first look with a verdict, the second with another (default: unchanged)."""

    def __init__(self, first, second=None):
        self.answers = [first, second or (Unchanged(first.freshness) if isinstance(first, Evidence) else first)]

    async def attest(self, _known=None):
        return self.answers.pop(0)


class Broker:
    def __init__(self, folder):
        self.clock = SystemClock()
        self.vault = Vault.open(folder / "vault.sqlite3", Secret(b"k" * 32), self.clock)
        self.vault.put(
            KEY, kind="anthropic-api-key", agent="claude", owner_uid=OWNER, attributes={}, secret=Secret(REAL)
        )
        self.journal_path = folder / "audit.log"
        self.journal = Journal.open(self.journal_path, self.clock)
        self.frozen = FreezeList(folder / "frozen.json")
        self.ledger = Ledger(self.clock)
        self.policy = parse_policy(ALLOW, "test.toml")
        self.alerts = []
        self.refusals = RefusalLog(self.journal, self.take_alert, self.clock)
        self.issuer = Issuer(
            vault=self.vault, policy=lambda: self.policy, ledger=self.ledger, frozen=self.frozen,
            journal=self.journal, refusals=self.refusals, clock=self.clock, lease_s=300,
        )  # fmt: skip

    async def take_alert(self, incident):
        self.alerts.append(incident)

    async def ask(self, first, second=None, mode=INJECT):
        return await self.issuer.issue(Ask(ScriptedCaller(first, second), KEY, mode, "test"))

    def entries(self):
        return [(entry.kind, entry.body) for entry in read(self.journal_path)]

    def close(self):
        self.journal.close()
        self.vault.close()


@pytest.fixture
def broker(tmp_path):
    tmp_path.chmod(0o700)
    broker = Broker(tmp_path)
    yield broker
    broker.close()


async def test_the_agent_itself_gets_the_use_and_the_journal_knows(broker):
    issued = await broker.ask(evidence(who=principal()))

    assert issued.secret.reveal() == REAL
    kind, body = broker.entries()[-1]
    assert kind == "use"
    assert (body["credential"], body["grant"]) == (KEY, issued.grant.id)
    assert REAL not in broker.journal_path.read_bytes()


async def test_a_second_use_is_the_same_grant(broker):
    first = await broker.ask(evidence(who=principal()))
    second = await broker.ask(evidence(who=principal()))

    assert second.grant.id == first.grant.id
    assert second.grant.uses == 2


TOOL = evidence(
    SHIM,
    BASH,
    Step(5, AGENT.image, "fork", exited=False),
    who=principal(is_caller=False, depth=2),
)
LOOSE = evidence(
    SHIM,
    Step(6, image(60, 6, "/home/u/evil", owner_uid=OWNER), "fork", exited=False),
    Step(5, AGENT.image, "fork", exited=False),
    who=principal(is_caller=False, depth=2),
)
WRITABLE = evidence(
    SHIM,
    Step(6, image(60, 6, "/opt/loose", mode=0o100775), "fork", exited=False),
    Step(5, AGENT.image, "fork", exited=False),
    who=principal(is_caller=False, depth=2),
)


@pytest.mark.parametrize(
    ("verdict", "mode", "rule"),
    [
        (Unknown("2 kernel events were lost"), INJECT, "lineage"),
        (evidence(who=principal(), uid=1001), INJECT, "owner"),
        (evidence(), INJECT, "principal"),
        (evidence(who=principal(agent="codex")), INJECT, "principal"),
        (evidence(who=principal(owner_uid=1001)), INJECT, "principal"),
        (TOOL, INJECT, "principal"),
        (LOOSE, RELEASE, "principal"),
        (WRITABLE, RELEASE, "principal"),
        (evidence(who=principal(), taints=["claude: its environment sets LD_PRELOAD"]), INJECT, "taint"),
    ],
    ids=["unknown", "other-user", "nobody", "other-agent", "others-agent", "tool", "user-file", "loose-file", "taint"],
)
async def test_each_rule_refuses_and_is_named(broker, verdict, mode, rule):
    with pytest.raises(RefusedError) as refusal:
        await broker.ask(verdict, mode=mode)

    assert refusal.value.rule == rule
    kind, body = broker.entries()[-1]
    assert (kind, body["rule"]) == ("refusal", rule)
    assert len(broker.alerts) == 1
    assert "use" not in [kind for kind, _ in broker.entries()]


async def test_a_release_to_a_tool_of_root_owned_files_is_given(broker):
    assert (await broker.ask(TOOL, mode=RELEASE)).secret.reveal() == REAL


async def test_an_empty_policy_denies(broker):
    broker.policy = parse_policy(b"", "empty.toml")

    with pytest.raises(RefusedError) as refusal:
        await broker.ask(evidence(who=principal()))

    assert refusal.value.rule == "policy"
    assert broker.alerts == []  # the agent is who it says: nobody needs to be woken


async def test_a_frozen_process_gets_nothing_though_it_holds_a_grant(broker):
    await broker.ask(evidence(who=principal()))
    broker.frozen.freeze_processes("e1", [5], "it opened a decoy")

    with pytest.raises(RefusedError) as refusal:
        await broker.ask(evidence(who=principal()))

    assert refusal.value.rule == "frozen"


async def test_a_caller_that_changed_meanwhile_gets_nothing(broker):
    first = evidence(who=principal())

    with pytest.raises(RefusedError) as refusal:
        await broker.ask(first, evidence(BASH))

    assert refusal.value.rule == "changed"


async def test_no_journal_no_secret(broker):
    broker.journal.close()

    with pytest.raises(UnavailableError):
        await broker.ask(evidence(who=principal()))


async def test_a_tool_that_replays_the_phantom_is_an_incident_of_the_tool_not_of_the_agent(broker):
    with pytest.raises(RefusedError):
        await broker.ask(TOOL)

    (alert,) = broker.alerts
    assert (alert.kind, alert.severity, alert.action) == ("phantom-replayed", "critical", "refused")
    assert alert.offenders == (7, 6)
    assert alert.frameworks.attack


async def test_a_flood_of_the_same_refusal_is_told_once_and_counted(broker):
    for _ in range(50):
        with pytest.raises(RefusedError):
            await broker.ask(TOOL)

    assert len(broker.alerts) == 1
    assert len(broker.entries()) == 1


async def test_a_flood_of_new_processes_is_bounded(broker):
    for proc_id in range(1000, 1200):
        with pytest.raises(RefusedError):
            await broker.ask(evidence(Step(proc_id, image(proc_id, proc_id, "/tmp/x"), "self", exited=False)))

    assert len(broker.alerts) == PER_FAMILY + 1


async def test_what_was_left_out_is_counted_in_the_next_entry(broker):
    for _ in range(4):
        with pytest.raises(RefusedError):
            await broker.ask(TOOL)
    await broker.refusals.close()

    assert [body["count"] for _, body in broker.entries()] == [1, 4]


async def test_which_credentials_exist_is_told_to_nobody_else(broker):
    for credential in (KEY, "claude/1000/no-such-name"):
        with pytest.raises(RefusedError) as refusal:
            await broker.issuer.issue(Ask(ScriptedCaller(evidence()), credential, RELEASE, "test"))
        assert refusal.value.rule == "principal"


async def test_an_agent_with_a_tainting_variable_is_told_its_name_and_what_to_do(broker):
    (said,) = injected(scan_strings(b"", b"LD_PRELOAD=/tmp/secret-place.so\0"), ("loader", "bun"), ())
    with pytest.raises(RefusedError) as refusal:
        await broker.ask(evidence(who=principal(), taints=[f"claude: {said}"]), mode=INJECT)

    (alert,) = broker.alerts
    assert alert.kind == "agent-tainted"
    assert "LD_PRELOAD" in alert.what
    for step in (refusal.value.next_step, alert.next_step):
        assert step.startswith("start claude without LD_PRELOAD; if your own set-up needs it, ")
        assert "enroll claude --allow-env LD_PRELOAD=VALUE" in step
    assert "secret-place" not in repr((refusal.value.message, alert, broker.entries()))


PRIVATE = "claude/1000/private/api-key"
PRIVATE_RULE = ALLOW + ALLOW.replace(b"claude/1000/*", b"claude/1000/private/*")


@pytest.fixture
def two_keys(broker):
    """A second account, used below /private."""
    broker.vault.put(
        PRIVATE, kind="anthropic-api-key", agent="claude", owner_uid=OWNER, attributes={}, secret=Secret(b"private-one")
    )
    accounts = (Account("work", KEY), Account("private", PRIVATE, ("/private",)))
    enrolled = Enrollment("claude", OWNER, "me", (), RoleRule(("claude",)), (), (KEY,), 0, accounts=accounts)
    broker.issuer = Issuer(
        vault=broker.vault, policy=lambda: broker.policy, ledger=broker.ledger, frozen=broker.frozen,
        journal=broker.journal, refusals=broker.refusals, clock=broker.clock, lease_s=300,
        enrollments=lambda: (enrolled,),
    )  # fmt: skip
    broker.policy = parse_policy(PRIVATE_RULE, "test.toml")
    return broker


async def ask_in(broker, folder, *, by_folder=True, verdict=None):
    verdict = replace(verdict or evidence(who=principal()), folder=folder)
    return await broker.issuer.issue(Ask(ScriptedCaller(verdict), KEY, INJECT, "test", by_folder=by_folder))


async def test_the_agents_own_phantom_means_the_account_of_its_folder(two_keys):
    issued = await ask_in(two_keys, b"/private/x")

    assert (issued.secret.reveal(), issued.credential.id, issued.grant.credential) == (b"private-one", PRIVATE, PRIVATE)
    assert two_keys.entries()[-1][1]["credential"] == PRIVATE


async def test_a_phantom_that_names_its_account_means_that_one_in_every_folder(two_keys):
    assert (await ask_in(two_keys, b"/private/x", by_folder=False)).secret.reveal() == REAL


async def test_an_account_without_a_rule_is_refused_by_its_own_name(two_keys):
    two_keys.policy = parse_policy(ALLOW, "test.toml")
    with pytest.raises(RefusedError, match="private/api-key") as caught:
        await ask_in(two_keys, b"/private/x")
    assert caught.value.rule == "policy"
    assert two_keys.entries()[-1][1]["credential"] == PRIVATE


async def test_an_agent_in_no_folder_is_refused_and_nobody_is_woken(two_keys):
    with pytest.raises(RefusedError) as caught:
        await ask_in(two_keys, b"")
    assert caught.value.rule == "account"
    assert two_keys.entries()[-1][1]["rule"] == "account"
    assert two_keys.alerts == []


async def test_a_stranger_in_the_folder_is_a_stranger(two_keys):
    for verdict, rule in ((TOOL, "principal"), (evidence(who=principal(), uid=1001), "owner")):
        with pytest.raises(RefusedError) as caught:
            await ask_in(two_keys, b"/private/x", verdict=verdict)
        assert caught.value.rule == rule
