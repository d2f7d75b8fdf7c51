"""Who is told what by Google's paths on the broker's endpoint."""

import asyncio
import json

import pytest

from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.inject.google_metadata import GoogleMetadata
from agent_broker.issue import MINT, Issued
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret
from agent_broker_shims import gcp

FLAVOR = {"Metadata-Flavor": "Google"}
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"


def credential(name, uid, kind="google-service-account", **attributes):
    return Credential(f"gcp/{uid}/{name}", kind, "gcp", uid, 1, 0, 0, attributes)


class World:
    """A vault with two users' logins, an issuer that says yes to one of them, and a minter."""

    def __init__(self):
        self.asked, self.refusal = [], None
        self.kept = [
            credential("phantom", 1000, "phantom"),
            credential("adc", 1000, project="mine", username="me@mine"),
            credential("adc", 1001),
        ]
        self.google = GoogleMetadata(issuer=self, credentials=self, tokens=self)

    def credentials_of(self, agent, uid):
        return tuple(each for each in self.kept if (each.agent, each.owner_uid) == (agent, uid))

    async def issue(self, ask):
        self.asked.append(ask)
        if self.refusal is not None:
            raise self.refusal
        found = next(each for each in self.kept if each.id == ask.credential)
        return Issued(None, found, Secret(b"key"))

    async def access_token(self, found, secret):
        return f"ya29.{found.id}.{secret.reveal().decode()}"

    def ask(self, path, method="GET", headers=FLAVOR, uid=1000):
        caller = type("Caller", (), {"peer": type("Peer", (), {"uid": uid}), "channel": "inject tcp"})
        return asyncio.run(self.google.answer(method, path, headers, caller)).body


@pytest.fixture
def world():
    return World()


def test_a_token_is_minted_of_the_callers_own_login(world):
    told = json.loads(world.ask(f"{ACCOUNT}token?scopes=x"))

    assert told["access_token"] == "ya29.gcp/1000/adc.key"
    (ask,) = world.asked
    assert (ask.credential, ask.mode, ask.tool, ask.channel) == ("gcp/1000/adc", MINT, True, "inject tcp")


def test_an_exchange_takes_no_header_and_whatever_subject(world):
    assert json.loads(world.ask(gcp.TOKEN_PATH, "POST", {}, uid=1001))["access_token"] == "ya29.gcp/1001/adc.key"


def test_nothing_of_a_login_is_told_without_the_issuer(world):
    world.refusal = RefusedError("tool", "no")

    for path in (ACCOUNT, f"{ACCOUNT}email", f"{ACCOUNT}token", "/computeMetadata/v1/project/project-id"):
        with pytest.raises(RefusedError, match="no"):
            world.ask(path)
    assert world.ask("/") == b"computeMetadata/\n"
    assert world.ask(gcp.SUBJECT_PATH, headers={}) == gcp.SUBJECT


def test_whether_there_is_a_login_is_asked_as_any_other(world):
    world.refusal = RefusedError("tool", "no")

    with pytest.raises(RefusedError):
        world.ask(f"{ACCOUNT}token", uid=1002)
    assert [ask.credential for ask in world.asked] == ["gcp/1002/none"]


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        (f"{ACCOUNT}token", "GET", {}, 403),
        (f"{ACCOUNT}token", "POST", FLAVOR, 405),
        (gcp.TOKEN_PATH, "GET", FLAVOR, 405),
        (f"{ACCOUNT}identity", "GET", FLAVOR, 404),
    ],
)
def test_what_is_not_served_reaches_nobody(world, path, method, headers, status):
    with pytest.raises(RequestRefusedError) as caught:
        world.ask(path, method, headers)

    assert caught.value.status == status
    assert world.asked == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(RefusedError("tool", "no"), 403), (UnavailableError("later"), 503), (RequestRefusedError(404, "x", "what"), 404)],
)
def test_a_no_has_its_status_and_the_flavor(error, status):
    response = GoogleMetadata.answer_error(f"{ACCOUNT}token", error)

    assert (response.status, response.headers["Metadata-Flavor"]) == (status, "Google")
    assert error.message in response.text
