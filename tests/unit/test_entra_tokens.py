"""Tokens of Azure's service principals: the real minter, at a login on loopback that verifies secrets and JWTs."""

import asyncio
import json
import threading
import time
from http.server import ThreadingHTTPServer

import pytest

from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.inject.entra_tokens import EntraMinter
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret
from tests.fakes.certificates import certificate_and_key
from tests.fakes.clock import FakeClock
from tests.fakes.entra_server import Handler

CLIENT, TENANT, SECRET = "11111111-2222-3333-4444-555555555555", "t.example", "abc8Q~a-secret-of-the-test"
SCOPE = "https://vault.azure.net/.default"
CREDENTIAL = Credential("azure/1000/default", "azure-service-principal", "azure", 1000, 1, 0, 0, {"profile": "default"})


class Login:
    """The server, and what it noted."""

    def __init__(self, folder):
        self.file, self.log = folder / "mode.json", folder / "log"
        self.log.touch()
        self.set()
        made = {"mode_file": self.file, "log": self.log, "given": {}}
        self.handler = type("Handler", (Handler,), made)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def set(self, **mode):
        self.file.write_text(json.dumps({"secrets": {CLIENT: SECRET}, **mode}))

    @property
    def asked(self):
        lines = map(json.loads, self.log.read_text().splitlines())
        return [(each["scope"], each["ok"]) for each in lines]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def login(tmp_path):
    made = Login(tmp_path)
    yield made
    made.close()


@pytest.fixture
def clock():
    return FakeClock(wall=time.time_ns())


def held(**changes):
    return Secret(json.dumps({"client_id": CLIENT, "tenant": TENANT, "client_secret": SECRET, **changes}).encode())


def run(clock, login, story):
    async def whole():
        minter = EntraMinter(clock, login.url)

        async def mint(scope=SCOPE, secret=None, narrowed=""):
            return json.loads((await minter.mint(CREDENTIAL, secret or held(), narrowed, scope)).reveal())

        try:
            return await story(mint)
        finally:
            await minter.close()

    return asyncio.run(whole())


def test_a_secret_gets_a_token_for_one_scope_and_tenant(login, clock):
    token = run(clock, login, lambda mint: mint())

    assert login.handler.given[token["access_token"]][0] == SCOPE
    assert token["tenant"] == TENANT
    assert abs(token["expires_on"] - time.time() - 3599) < 60
    assert login.asked == [(SCOPE, True)]


def test_a_token_serves_until_five_minutes_before_its_end_and_for_its_scope_alone(login, clock):
    async def story(mint):
        first = await mint()
        assert await mint("https://other/.default") != first
        clock.advance_s(3599 - 301)
        assert await mint() == first
        clock.advance_s(2)
        assert await mint() != first

    run(clock, login, story)
    assert len(login.asked) == 3


def test_a_certificates_key_signs_and_stays(login, clock):
    certificate, key = certificate_and_key()
    login.set(certificates={CLIENT: certificate})

    token = run(clock, login, lambda mint: mint(secret=held(client_secret="", certificate=key + certificate)))

    assert token["access_token"] in login.handler.given


def test_a_certificate_that_microsoft_does_not_know_is_refused(login, clock):
    certificate, key = certificate_and_key()
    login.set(certificates={CLIENT: certificate_and_key()[0]})

    with pytest.raises(UnavailableError, match="another certificate"):
        run(clock, login, lambda mint: mint(secret=held(client_secret="", certificate=key + certificate)))


def test_a_secret_that_microsoft_does_not_know_is_sent_once(login, clock):
    async def story(mint):
        for _ in range(3):
            with pytest.raises(UnavailableError, match="no more: AADSTS7000215") as caught:
                await mint(secret=held(client_secret="abc8Q~another"))
            assert "another" not in str(caught.value)
            clock.advance_s(100)
        return await mint()

    run(clock, login, story)
    assert [ok for _, ok in login.asked] == [False, True]


@pytest.mark.parametrize(
    "secret",
    [
        b"{}", b"\xff", b'{"client_id": "a", "tenant": "b"}',
        b'{"client_id": "a", "tenant": "../b", "client_secret": "c"}',
        b'{"client_id": "a", "tenant": "b", "certificate": "none"}',
    ],
)  # fmt: skip
def test_what_is_no_service_principal_is_not_sent(login, clock, secret):
    with pytest.raises(IntegrityError):
        run(clock, login, lambda mint: mint(secret=Secret(secret)))

    assert login.asked == []


def test_azure_knows_no_session_policies_so_a_rule_with_one_gives_nothing(login, clock):
    with pytest.raises(UnavailableError, match="can't be narrowed"):
        run(clock, login, lambda mint: mint(narrowed="arn:aws:iam::aws:policy/ReadOnlyAccess"))

    assert login.asked == []
