"""In which way a tool's credential is asked for, and what becomes of it; the decision itself is the issuer's."""

import asyncio
import json

import pytest

from agent_broker.grant.ledger import Grant, Holder
from agent_broker.issue import Issued
from agent_broker.transport.frame import ShimRequest
from agent_broker.transport.tool_protocols import ToolProtocols
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret
from tests.fakes.unseen import UnseenCaller

PAIR = json.dumps({"aws_access_key_id": "AKIDLONG", "aws_secret_access_key": "long-lived"}).encode()
SESSION = json.dumps({"aws_access_key_id": "ASIDSHORT", "aws_secret_access_key": "s", "expiration": "2026"}).encode()


class Peer:
    uid, pidfd = 1000, -1


class World:
    """The broker's parts around the protocols, and what they were asked."""

    def __init__(self, allowed, **attributes):
        self.allowed = allowed
        self.asks, self.minted = [], []
        held = {"profile": "dev", **attributes}
        self.held = (
            Credential("aws/1000/other", "aws-keys", "aws", 1000, 1, 0, 0, {"profile": "production"}),
            Credential("aws/1000/dev", "aws-keys", "aws", 1000, 1, 0, 0, held),
        )

    def credentials_of(self, tool, uid):
        return self.held if (tool, uid) == ("aws", 1000) else ()

    def caller_by_pidfd(self, pidfd):
        return UnseenCaller(pidfd)

    async def issue(self, ask):
        self.asks.append(ask)
        mode = ask.mode if ask.mode in self.allowed else ask.otherwise
        grant = Grant("g", Holder("e", 1, 1), "aws", 1000, ask.credential, mode, 0, 1, 1)
        found = next(each for each in self.held if each.id == ask.credential)
        return Issued(grant, found, Secret(PAIR), "a session policy")

    async def mint(self, credential, secret, narrowed, scope):
        self.minted.append((credential.id, secret.reveal(), narrowed, scope))
        return Secret(SESSION)

    def ask(self, profile="dev"):
        tools = ToolProtocols(credentials=self, callers=self, issuer=self, minters={"aws-keys": self})
        answer = asyncio.run(tools.handle(ShimRequest("aws", (profile,), b"", ()), Peer()))
        stdout = answer.stdout.reveal() if isinstance(answer.stdout, Secret) else answer.stdout
        return json.loads(stdout) if stdout else answer


def test_what_can_be_minted_is_and_the_pair_itself_goes_nowhere():
    world = World({"mint"}, modes="mint release")

    assert world.ask()["AccessKeyId"] == "ASIDSHORT"
    assert world.minted == [("aws/1000/dev", PAIR, "a session policy", "")]
    (ask,) = world.asks
    assert (ask.mode, ask.otherwise, ask.tool, ask.to) == ("mint", "release", True, None)


def test_where_the_policy_only_releases_the_pair_is_given():
    world = World({"release"}, modes="mint release")

    assert world.ask()["SecretAccessKey"] == "long-lived"
    assert world.minted == []


@pytest.mark.parametrize(("modes", "mode"), [("mint", "mint"), ("release", "release"), (None, "release")])
def test_a_credential_of_one_mode_is_asked_for_in_that_alone(modes, mode):
    """The pair behind a role opens more than the role: it is never released."""
    world = World({mode}, **({} if modes is None else {"modes": modes}))

    world.ask()

    assert [(ask.mode, ask.otherwise) for ask in world.asks] == [(mode, "")]


def test_a_profile_is_meant_by_its_own_name():
    world = World({"release"})

    world.ask("production")

    assert [ask.credential for ask in world.asks] == ["aws/1000/other"]
