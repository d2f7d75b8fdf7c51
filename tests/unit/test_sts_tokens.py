"""Sessions of AWS's STS: the real minter, at an STS on loopback that verifies each signature with botocore."""

import asyncio
import json
import threading
import time
from http.server import ThreadingHTTPServer

import pytest

from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.inject.sts_requests import read_answer, session_request
from agent_broker.inject.sts_tokens import StsMinter
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret
from tests.fakes.aws_server import Aws, Handler
from tests.fakes.clock import FakeClock

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ROLE = "arn:aws:iam::123456789012:role/deploy"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
HOUR_S = 3600


class Sts:
    """The server, and what it noted."""

    def __init__(self, folder):
        self.file, self.log = folder / "mode.json", folder / "log"
        self.log.touch()
        self.set()
        self.handler = type("Handler", (Handler,), {"aws": Aws(self.file, self.log)})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def set(self, **mode):
        self.file.write_text(json.dumps({"keys": {KEY: [SECRET, ""]}, "roles": {ROLE: "4711"}, **mode}))

    @property
    def asked(self):
        lines = map(json.loads, self.log.read_text().splitlines())
        return [(each["action"], each.get("policy", ""), each["ok"]) for each in lines]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def sts(tmp_path):
    made = Sts(tmp_path)
    yield made
    made.close()


@pytest.fixture
def clock():
    return FakeClock(wall=time.time_ns())  # the signatures are made by the real one


def credential(**attributes):
    return Credential("aws/1000/dev", "aws-keys", "aws", 1000, 1, 0, 0, {"regions": "eu-west-1", **attributes})


def pair(secret=SECRET, token=""):
    held = {"aws_access_key_id": KEY, "aws_secret_access_key": secret, "aws_session_token": token}
    return Secret(json.dumps({name: value for name, value in held.items() if value}).encode())


def run(clock, sts, story):
    """Run a story with a minter; ``mint`` takes a credential's attributes."""

    async def whole():
        minter = StsMinter(clock, sts.url)

        async def mint(narrowed="", held=None, **attributes):
            given = await minter.mint(credential(**attributes), held or pair(), narrowed, "")
            return json.loads(given.reveal())

        try:
            return await story(mint)
        finally:
            await minter.close()

    return asyncio.run(whole())


def test_a_key_gets_a_session_of_an_hour(sts, clock):
    session = run(clock, sts, lambda mint: mint())

    assert session["aws_access_key_id"].startswith("ASIA")
    assert set(session) == {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "expiration"}
    assert [session["aws_secret_access_key"], session["aws_session_token"]] == list(
        sts.handler.aws.sessions[session["aws_access_key_id"]][:2]
    )
    assert sts.asked == [("GetSessionToken", "", True)]
    assert json.loads(sts.log.read_text())["seconds"] == HOUR_S


def test_one_session_serves_until_15_minutes_before_its_end(sts, clock):
    async def story(mint):
        first = await mint()
        clock.advance_s(HOUR_S - 901)
        assert await mint() == first
        clock.advance_s(2)
        assert await mint() != first

    run(clock, sts, story)
    assert len(sts.asked) == 2


def test_however_many_ask_at_once_there_is_one_request(sts, clock):
    sts.set(late_s=0.2)

    async def story(mint):
        return await asyncio.gather(*(mint() for _ in range(20)))

    sessions = run(clock, sts, story)

    assert all(each == sessions[0] for each in sessions)
    assert len(sts.asked) == 1


def test_who_leaves_does_not_end_what_others_wait_for(sts, clock):
    sts.set(late_s=0.2)

    async def story(mint):
        first = asyncio.ensure_future(mint())
        while not sts.handler.aws.begun:
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(mint())
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert run(clock, sts, story)["aws_session_token"]
    assert len(sts.asked) == 1


@pytest.mark.parametrize("policy", [READ_ONLY, '{"Version":"2012-10-17","Statement":[]}'])
def test_a_narrowed_session_is_a_federated_one_and_nobody_elses(sts, clock, policy):
    async def story(mint):
        return await mint(policy), await mint(), await mint(policy)

    narrow, wide, again = run(clock, sts, story)

    assert narrow == again != wide
    assert sts.asked == [("GetFederationToken", policy, True), ("GetSessionToken", "", True)]


def test_a_role_is_assumed_with_what_it_wants_to_be_told_and_narrowed(sts, clock):
    role = {"role_arn": ROLE, "external_id": "4711"}

    async def story(mint):
        await mint(**role)
        await mint(READ_ONLY, **role)

    run(clock, sts, story)

    assert sts.asked == [("AssumeRole", "", True), ("AssumeRole", READ_ONLY, True)]


def test_without_what_the_role_wants_aws_says_no_and_the_person_reads_it(sts, clock):
    with pytest.raises(UnavailableError, match="AssumeRole: AccessDenied: not authorized") as caught:
        run(clock, sts, lambda mint: mint(role_arn=ROLE))

    assert "IAM" in caught.value.next_step


def test_a_key_that_aws_does_not_know_is_sent_once_until_it_is_replaced(sts, clock):
    async def story(mint):
        for _ in range(3):
            with pytest.raises(UnavailableError, match="takes these keys no more"):
                await mint(held=pair("another"))
            clock.advance_s(3600)
        return await mint()

    run(clock, sts, story)

    assert [ok for *_, ok in sts.asked] == [False, True]


def test_after_a_failure_sts_is_left_alone_for_ten_seconds(sts, clock):
    sts.set(deny=["GetSessionToken"])

    async def story(mint):
        for pause in (5, 6, 0):
            with pytest.raises(UnavailableError, match="AccessDenied"):
                await mint()
            clock.advance_s(pause)
        sts.set()
        clock.advance_s(11)
        await mint()

    run(clock, sts, story)

    assert [ok for *_, ok in sts.asked] == [False, False, True]


def test_what_is_left_of_a_session_is_given_while_sts_fails_and_nothing_after_its_end(sts, clock):
    async def story(mint):
        first = await mint()
        sts.set(deny=["GetSessionToken"])
        clock.advance_s(HOUR_S - 60)
        assert await mint() == first
        clock.advance_s(61)
        with pytest.raises(UnavailableError, match="AccessDenied"):
            await mint()

    run(clock, sts, story)


def test_nobody_listens(clock, sts):
    sts.close()

    with pytest.raises(UnavailableError, match="STS does not answer"):
        run(clock, sts, lambda mint: mint())


@pytest.mark.parametrize("held", [b"{}", b"\xff", b'{"aws_access_key_id": "a b", "aws_secret_access_key": "c"}'])
def test_what_is_no_pair_is_not_sent(sts, clock, held):
    with pytest.raises((IntegrityError, UnavailableError)):
        run(clock, sts, lambda mint: mint(held=Secret(held)))

    assert sts.asked == []


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_is_none_of_stss_is_not_quoted(status):
    with pytest.raises(UnavailableError) as caught:
        read_answer("GetSessionToken", status, b"<not-xml a-secret-of-somebody")

    told = f"{caught.value} {caught.value.__cause__} {caught.value.next_step}"
    assert "a-secret" not in told


@pytest.mark.parametrize(
    ("attributes", "url"),
    [
        ({"regions": "eu-west-1"}, "https://sts.eu-west-1.amazonaws.com"),
        ({"regions": "cn-north-1"}, "https://sts.cn-north-1.amazonaws.com.cn"),
        ({"regions": ""}, "https://sts.amazonaws.com"),
    ],
)
def test_a_session_is_asked_for_where_the_profile_is(attributes, url):
    request = session_request(credential(**attributes), pair(), "", "")

    assert str(request.url) == url
    assert SECRET not in f"{request} {request.headers} {request.body!r}"
