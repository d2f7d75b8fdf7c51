"""Which credential a tool's request means: by user name, destination, and what the protocol requires of it."""

import asyncio
import base64
import json
from types import SimpleNamespace

import pytest

from agent_broker.issue import Issued
from agent_broker.transport.frame import ShimRequest
from agent_broker.transport.tool_protocols import ToolProtocols
from agent_broker.vault.record import Credential, UnknownCredentialError
from agent_broker.vault.secret import Secret
from agent_broker_shims.kubectl import authority_of
from tests.fakes.clock import FakeClock
from tests.fakes.unseen import UnseenCaller

AUTHORITY = base64.b64encode(b"authority").decode()
NOW_NS = 1_767_225_600_000_000_000  # 2026 begins
SERVER = "https://10.0.0.1:6443"


def credential(name, **attributes):
    held = {"destination": SERVER, "username": "alice", "ca_sha256": authority_of(AUTHORITY), **attributes}
    return Credential(f"kubectl/1000/{name}", "kubernetes-user", "kubectl", 1000, 1, 0, 0, held)


class World:
    """A vault and an issuer that allows everything that there is."""

    def __init__(self, *kept):
        self.kept = {each.id: each for each in kept}

    def credentials_of(self, agent, uid):
        return tuple(each for each in self.kept.values() if (each.agent, each.owner_uid) == (agent, uid))

    def caller_by_pidfd(self, pidfd):
        return UnseenCaller(pidfd)

    async def issue(self, ask):
        if ask.credential not in self.kept:
            raise UnknownCredentialError(ask.credential)
        secret = json.dumps({"token": ask.credential}).encode()
        return Issued(SimpleNamespace(mode=ask.mode), self.kept[ask.credential], Secret(secret))

    def ask(self, user="alice", uid=1000, **cluster):
        held = {"server": SERVER, "certificate-authority-data": AUTHORITY, **cluster}
        info = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "spec": {"cluster": held}}
        tools = ToolProtocols(credentials=self, callers=self, issuer=self, clock=FakeClock(NOW_NS))
        request = ShimRequest("kubectl", (user,), b"", (("KUBERNETES_EXEC_INFO", json.dumps(info)),))
        answer = asyncio.run(tools.handle(request, SimpleNamespace(uid=uid, pidfd=3)))
        told = answer.stdout.reveal() if isinstance(answer.stdout, Secret) else answer.stdout
        if answer.exit_code:
            return answer.stderr.decode()
        self.ends = json.loads(told)["status"]["expirationTimestamp"]
        return json.loads(told)["status"]["token"]


def test_an_answer_ends_by_the_clock_of_who_gives_it():
    world = World(credential("alice"))
    world.ask()

    assert world.ends == "2026-01-01T00:05:00Z"


def test_each_user_of_a_cluster_has_its_own():
    world = World(credential("alice"), credential("bob", username="bob"))

    assert (world.ask("alice"), world.ask("bob")) == ("kubectl/1000/alice", "kubectl/1000/bob")


@pytest.mark.parametrize(
    "cluster",
    [
        {"server": "https://10.0.0.2:6443"},
        {"server": "https://10.0.0.1"},
        {"certificate-authority-data": base64.b64encode(b"another").decode()},
        {"certificate-authority-data": ""},
        {"tls-server-name": "another"},
        {"user": "carol"},
        {"uid": 1001},
    ],
)
def test_anything_else_than_what_was_enrolled_is_no_credential(cluster):
    assert "keeps no credential of this user for this server" in World(credential("alice")).ask(**cluster)


def test_a_cluster_with_the_machines_own_authorities_is_another_one():
    world = World(credential("public", ca_sha256=""), credential("alice"))

    assert world.ask(**{"certificate-authority-data": ""}) == "kubectl/1000/public"
    assert world.ask() == "kubectl/1000/alice"
