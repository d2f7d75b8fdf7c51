"""Who may store: the release rule without a secret; real policy, ledger, freeze list and journal, a scripted caller."""

import pytest
from msgspec.structs import replace

from agent_broker.audit.journal import Journal
from agent_broker.audit.verification import read
from agent_broker.clock import SystemClock
from agent_broker.errors import RefusedError
from agent_broker.grant.freeze import FreezeList
from agent_broker.grant.ledger import Ledger
from agent_broker.identity.evidence import Evidence, Freshness, ToolUse, Unchanged, Unknown
from agent_broker.issue import STORE, Ask, Issuer
from agent_broker.lineage.record import Image, Step
from agent_broker.policy.document import parse_policy
from agent_broker.refusals import RefusalLog
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
from tests.fakes.kernel import a_file

OWNER = 1000
ID = "keyring/1000/s-1"
RULE = b'[[rule]]\nsession = "user"\ncredential = "keyring/1000/*"\nmodes = ["release", "store"]\nrate_per_min = 2\n'
IMAGE = Image(
    70, 7, 0, OWNER, 107, 1, a_file(70, owner_uid=0), "/usr/bin/shim", "", "shim", (), observed=True, taints=()
)
TOOL = ToolUse("keyring", OWNER, 5, 50, "a" * 64, no_terminal="a script")
GOOD = Evidence(
    Freshness("e1", 7, 70, 0), OWNER, (Step(7, IMAGE, "self", exited=False),), None, (), "observe+", tool=TOOL
)


class Caller:
    def __init__(self, first, second=None):
        self.answers = [first, second or (Unchanged(first.freshness) if isinstance(first, Evidence) else first)]

    async def attest(self, _known=None):
        return self.answers.pop(0)


class Broker:
    def __init__(self, folder):
        self.clock = SystemClock()
        self.vault = Vault.open(folder / "vault.sqlite3", Secret(b"k" * 32), self.clock)
        self.path = folder / "audit.log"
        self.journal = Journal.open(self.path, self.clock)
        self.frozen = FreezeList(folder / "frozen.json")
        self.policy = parse_policy(RULE, "test.toml")
        self.issuer = Issuer(
            vault=self.vault, policy=lambda: self.policy, ledger=Ledger(self.clock), frozen=self.frozen,
            journal=self.journal, refusals=RefusalLog(self.journal, self.alert, self.clock), clock=self.clock,
            lease_s=300,
        )  # fmt: skip

    async def alert(self, incident):
        pass

    async def permit(self, first=GOOD, second=None, credential=ID):
        await self.issuer.permit(Ask(Caller(first, second), credential, STORE, "test", tool=True))

    def kinds(self):
        return [entry.kind for entry in read(self.path)]


@pytest.fixture
def broker(tmp_path):
    tmp_path.chmod(0o700)
    made = Broker(tmp_path)
    yield made
    made.journal.close()
    made.vault.close()


async def test_a_verified_program_may_and_the_journal_has_it_before(broker):
    await broker.permit()

    assert broker.kinds() == ["change"]
    (entry,) = read(broker.path)
    assert (entry.body["credential"], entry.body["mode"], entry.body["for"]) == (ID, STORE, "user")


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        (Unknown("nobody knows"), None, "lineage"),
        (replace(GOOD, tool=None), None, "tool"),
        (replace(GOOD, tool=replace(TOOL, problem="it asks by another way")), None, "tool"),
        (replace(GOOD, uid=OWNER + 1), None, "owner"),
        (replace(GOOD, taints=("traced",)), None, "taint"),
        (GOOD, Unknown("it is another one now"), "changed"),
    ],
)
async def test_who_is_not_verified_may_not(broker, first, second, rule):
    with pytest.raises(RefusedError) as refused:
        await broker.permit(first, second)

    assert refused.value.rule == rule
    assert "refusal" in broker.kinds()


async def test_release_alone_does_not_let_store(broker):
    broker.policy = parse_policy(RULE.replace(b', "store"', b""), "test.toml")

    with pytest.raises(RefusedError, match="in mode store"):
        await broker.permit()


async def test_a_rule_that_does_not_say_modes_does_not_let_store(broker):
    broker.policy = parse_policy(RULE.replace(b'modes = ["release", "store"]\n', b""), "test.toml")

    with pytest.raises(RefusedError, match="in mode store"):
        await broker.permit()


async def test_a_rate_counts_what_is_stored(broker):
    await broker.permit()
    await broker.permit()

    with pytest.raises(RefusedError, match="2 uses a minute"):
        await broker.permit()


async def test_the_frozen_may_not(broker):
    broker.frozen.freeze_processes("e1", [7], "stolen")

    with pytest.raises(RefusedError, match="frozen"):
        await broker.permit()
