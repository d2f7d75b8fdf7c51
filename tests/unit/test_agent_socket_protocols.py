"""The protocols' own decisions; the issuer's are its own."""

import os
from dataclasses import dataclass, field

import pytest

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.identity.evidence import Evidence, Freshness, Principal, Unknown
from agent_broker.ids import AgentName, Epoch, ExecId, ProcId, Sha256, Uid
from agent_broker.transport.frame import ShimAnswer, ShimRequest
from agent_broker.transport.peer import Peer
from agent_broker.transport.protocols import Protocols
from agent_broker.vault.secret import Secret

UID = Uid(1000)
FRESH = Freshness(Epoch("e"), ProcId(7), ExecId(9), 0)


def evidence(*, agent: str | None = "claude", is_caller: bool = False) -> Evidence:
    principal = None
    if agent is not None:
        principal = Principal(AgentName(agent), UID, ProcId(3), ExecId(4), Sha256("0" * 64), is_caller, 1)
    return Evidence(FRESH, UID, (), principal, (), "observe+")


@dataclass
class World:
    """Enrolments, a monitor and an issuer that gives to whoever has evidence of an agent."""

    verdict: object = field(default_factory=evidence)
    phantoms: dict = field(default_factory=lambda: {("claude", UID): "phantom-of-1000"})
    agents: tuple = (AgentName("claude"), AgentName("codex"))
    asked: list = field(default_factory=list)
    looked_at: list = field(default_factory=list)

    def phantom_for(self, agent, uid, account):
        return self.phantoms.get((agent, uid, account) if account else (agent, uid))

    def agents_of(self, uid):
        return self.agents if uid == UID else ()

    def caller_by_pidfd(self, pidfd):
        self.looked_at.append(pidfd)
        return self

    async def attest(self, _known=None):
        return self.verdict

    async def issue(self, ask):
        self.asked.append(ask)
        verdict = await ask.caller.attest()
        if not isinstance(verdict, Evidence) or verdict.principal is None:
            raise RefusedError("lineage", "refused by the issuer")
        return Granted(Secret(b"the real one"))

    async def run(self, protocol, *argv, uid=UID) -> ShimAnswer:
        protocols = Protocols(agents=self, callers=self, issuer=self)
        with Peer(os.dup(0), uid, os.getpid()) as peer:
            return await protocols.handle(ShimRequest(protocol, argv), peer)


@dataclass
class Granted:
    secret: Secret


async def test_the_helper_of_claude_gets_the_phantom_of_its_user():
    world = World()
    assert await world.run("claude-api-key-helper") == ShimAnswer(0, b"phantom-of-1000\n")
    assert world.asked == world.looked_at == []


async def test_the_helper_of_claude_gets_the_phantom_of_the_account_that_is_named():
    world = World()
    world.phantoms["claude", UID, "private"] = "phantom-of-private"
    assert await world.run("claude-api-key-helper", "private") == ShimAnswer(0, b"phantom-of-private\n")


@pytest.mark.parametrize("argv", [("private", "work"), ("",), ("../1001",), ("a b",)])
async def test_the_helper_of_claude_takes_one_name_at_most(argv):
    with pytest.raises(MisuseError, match="one account"):
        await World().run("claude-api-key-helper", *argv)


async def test_whoever_runs_an_agent_gets_the_phantom_of_its_own_users_account():
    world = World()
    world.phantoms["codex", UID], world.phantoms["codex", UID, "private"] = "phantom-of-codex", "phantom-of-private"
    assert await world.run("phantom", "codex") == ShimAnswer(0, b"phantom-of-codex\n")
    assert await world.run("phantom", "codex", "private") == ShimAnswer(0, b"phantom-of-private\n")
    for uid, agent in ((Uid(1001), "codex"), (UID, "gemini")):
        with pytest.raises(RefusedError, match=f"{agent} is not enrolled"):
            await world.run("phantom", agent, uid=uid)


@pytest.mark.parametrize("argv", [(), ("a", "b", "c"), ("",), ("codex", "../x"), ("codex/1000",), ("Codex",)])
async def test_who_asks_for_a_phantom_names_one_agent(argv):
    with pytest.raises(MisuseError, match="name of an agent"):
        await World().run("phantom", *argv)


async def test_a_user_without_claude_gets_none():
    with pytest.raises(RefusedError, match="not enrolled") as caught:
        await World().run("claude-api-key-helper", uid=Uid(1001))
    assert "enroll" in caught.value.next_step


async def test_get_asks_for_the_release_of_the_callers_credential():
    world = World()
    answer = await world.run("get", "api-key")
    assert answer.exit_code == 0
    assert answer.stdout == Secret(b"the real one")
    (ask,) = world.asked
    assert (ask.credential, ask.mode, ask.channel) == ("claude/1000/api-key", "release", "agent.sock get")


async def test_get_means_the_agent_that_the_caller_descends_from():
    world = World(verdict=evidence(agent="codex"))
    await world.run("get", "api-key")
    assert world.asked[0].credential == "codex/1000/api-key"


@pytest.mark.parametrize("verdict", [Unknown("no idea"), evidence(agent=None)])
async def test_who_has_no_agent_is_refused_by_the_issuer_so_that_it_is_recorded(verdict):
    world = World(verdict=verdict)
    with pytest.raises(RefusedError, match="by the issuer"):
        await world.run("get", "api-key")
    assert world.asked[0].credential == "claude/1000/api-key"


async def test_without_any_agent_there_is_nothing_to_get():
    world = World(verdict=evidence(agent=None), agents=())
    with pytest.raises(RefusedError, match="no agent"):
        await world.run("get", "api-key")
    assert world.asked == []


async def test_a_caller_that_has_become_the_agent_is_unknown():
    """It wrote, left the socket to a child, and executed the genuine agent."""
    world = World(verdict=evidence(is_caller=True))
    with pytest.raises(RefusedError, match="by the issuer"):
        await world.run("get", "api-key")
    verdict = await world.asked[0].caller.attest()
    assert isinstance(verdict, Unknown)
    assert "became it" in verdict.reason
    assert verdict.uid == UID


@pytest.mark.parametrize("argv", [(), ("a", "b"), ("",), ("../x",), ("a/b",), ("A",), ("-x",), ("x" * 65,), ("a\n",)])
async def test_get_takes_one_name(argv):
    world = World()
    with pytest.raises(MisuseError, match="name of one credential"):
        await world.run("get", *argv)
    assert world.asked == []


async def test_a_name_is_not_quoted():
    with pytest.raises(MisuseError) as caught:
        await World().run("get", "SK-ANT-A-PASTED-KEY")
    assert "PASTED" not in caught.value.explain()


async def test_an_unknown_protocol_is_told_the_known_ones():
    with pytest.raises(MisuseError) as caught:
        await World().run("no-such-protocol")
    assert "claude-api-key-helper, get" in caught.value.next_step
    assert "no-such-protocol" not in caught.value.explain()
