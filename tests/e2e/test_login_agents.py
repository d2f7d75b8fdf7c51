"""The real CLIs log in, in a private room, against login servers on loopback; their user's home is closed to others.

Codex can be told where its login server is. Claude and Gemini can't: they get a proxy and an authority that stand for
the internet, and everything else is as released.
"""

import asyncio
import fcntl
import json
import os
import re
import select
import shutil
import struct
import termios
import threading
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from aiohttp import ClientSession

from agent_broker.enroll.login_agents import LOGINS
from agent_broker.enroll.login_room import log_in
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.registry import EnrolledBinary
from agent_broker.inject.oauth_servers import GOOGLE
from agent_broker.inject.oauth_tokens import checked_tokens
from tests.e2e.roles.agents import Claude, Codex, Gemini
from tests.fakes.false_internet import Authority, Proxy
from tests.fakes.login_server import LoginWorld
from tests.fakes.login_stage import KINDS, PATIENCE_S, UID, LoginStage, sha256_of

pytestmark = [pytest.mark.e2e]


HOSTS = (
    "auth.openai.com",
    "platform.claude.com",
    "api.anthropic.com",
    "oauth2.googleapis.com",
    "www.googleapis.com",
    "cloudcode-pa.googleapis.com",
)


STATE = re.compile(r"oauth/authorize\?[\w-]*?([\w-]{43})[^\w-]")
"""The end of the address that Claude shows: what the page would give back with the code."""


class Served:
    """A login world in a thread of its own, behind a false internet if it is asked for; a context manager."""

    def __init__(self, *, with_internet=False):
        self.world = LoginWorld(time.time)
        self.loop = asyncio.new_event_loop()
        self.authority = Authority(HOSTS) if with_internet else None
        self.proxy = None

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self._do(self.world.start(self.authority.server_context() if self.authority else None))
        if self.authority:
            self.proxy = Proxy(HOSTS, self.world.port)
            self._do(self.proxy.start())
        return self

    def __exit__(self, *_):
        if self.proxy:
            self._do(self.proxy.stop())
        self._do(self.world.__aexit__())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _do(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


class Typist:
    """A person at the agent's terminal: waits for a question, types the answer that ``code_of`` finds in the text."""

    def __init__(self, question, code_of):
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        self.text, self._question, self._code_of = "", question, code_of

    def hand_over(self, done):
        readable = [self.master, done]
        while done not in (ready := select.select(readable, [], [], PATIENCE_S)[0]):
            if not ready:
                raise AssertionError(f"nothing more is shown: {self.text[-3000:]!r}")
            try:
                self.text += os.read(self.master, 1 << 16).decode("utf-8", "replace")
            except OSError:
                readable.remove(self.master)
            if self._question and self._question in self.text:
                self._question = ""
                os.write(self.master, f"{self._code_of(self.text)}\r".encode())


def log_in_online(stage, enrollment, typist, **environment):
    """Log in with the false internet; return the login as the vault would keep it, and who was asked."""
    folder = stage.root / "run/agent-broker"
    kind = KINDS[enrollment.agent]
    with Served(with_internet=True) as served:
        login = LOGINS[kind]
        files = {**login.files, "authority.pem": served.authority.pem}
        proxy = f"http://127.0.0.1:{served.proxy.port}"
        variables = {"TERM": "xterm", "HTTPS_PROXY": proxy, "NODE_EXTRA_CA_CERTS": f"{folder}/home/authority.pem"}
        try:
            secret = log_in(
                enrollment, replace(login, files=files), folder=folder, terminal_fd=typist.slave,
                environment={**variables, **environment}, hand_over=typist.hand_over,
            )  # fmt: skip
        except AgentBrokerError as error:
            raise AssertionError(f"{error.explain()} {served.proxy.hosts} {typist.text[-3000:]!r}") from error
        finally:
            os.close(typist.master)
        checked_tokens(kind, secret)
        return json.loads(secret.reveal()), served


@pytest.fixture
def stage():
    with LoginStage() as made:
        yield made


def installed(stage, program, name):
    """Copy an executable into the user's closed home, as an installer would; return it enrolled."""
    path = stage.home / name
    shutil.copy(program, path)
    os.chown(path, UID, UID)
    path.chmod(0o700)
    return EnrolledBinary(str(path), sha256_of(path), path.stat().st_size)


def test_codex_logs_in_by_a_code_and_its_tokens_are_in_the_vault_alone(stage):
    stage.enroll("codex", installed(stage, Codex(stage.root / "codex").binary, "codex"))
    with Served() as served:
        world = served.world
        config = stage.root / "etc/agent-broker/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[upstream.openai]\noauth_token_url = "{world.base_url}/oauth/token"\n')
        terminal = stage.run(agent="codex")
        terminal.until("ABCD-EFGH")
        assert terminal.end() == 0, terminal.text
    kind, version, attributes, secret = stage.held("codex")
    tokens = json.loads(secret)
    assert (kind, version, attributes) == ("openai-oauth", 2, {"note": "kept", "account_id": "acc"})
    assert tokens["access_token"] in world.access
    assert tokens["refresh_token"] == "openai-oauth-1-refresh"
    assert tokens["account_id"] == "acc"
    assert "openai-oauth-1-refresh" not in terminal.text
    assert not (stage.home / ".codex").exists()
    assert stage.in_room() == []


ADDRESS = re.compile(r"http\S+/oauth/authorize\?\S+")


def back_to_codex(text, code, state=""):
    """Return the status of what a browser of this machine is answered that comes back from the address shown."""
    asked = parse_qs(urlsplit(ADDRESS.search(text)[0]).query)
    (back,) = asked["redirect_uri"]
    assert back == f"http://127.0.0.1:{LOGINS['openai-oauth'].callback_port}/auth/callback"
    query = urlencode({"code": code, "state": state or asked["state"][0]})
    return asyncio.run(status_of(f"{back}?{query}"))


async def status_of(url):
    async with ClientSession() as browser, browser.get(url) as page:
        return page.status


def test_codex_logs_in_by_a_browser_that_comes_back_to_the_room_and_by_no_other(stage):
    enrollment = stage.enroll("codex", installed(stage, Codex(stage.root / "codex").binary, "codex"))
    seen = []

    def browse(text):
        seen.extend((back_to_codex(text, "anothers", "guessed"), back_to_codex(text, "the-code")))
        return ""

    authority = f"{stage.root}/run/agent-broker/home/authority.pem"
    typist = Typist("/oauth/authorize?", browse)
    tokens, served = log_in_online(stage, enrollment, typist, CODEX_CA_CERTIFICATE=authority)
    assert tokens["access_token"] in served.world.access
    assert seen == [400, 200]
    kind, form = served.world.requests[0]
    assert (kind, form["grant_type"], form["code"]) == ("openai-oauth", "authorization_code", "the-code")
    assert form["code_verifier"] not in typist.text  # who reads the terminal can't use the code
    assert stage.in_room() == []


def test_gemini_logs_in_by_a_code_and_is_ended_when_it_has(stage):
    typist = Typist("authorization code:", lambda _: "the-code")
    tokens, served = log_in_online(stage, Gemini(stage.root / "gemini").enrollment, typist)
    assert tokens["access_token"] in served.world.access
    assert tokens["refresh_token"].endswith("-refresh")
    assert "oauth2.googleapis.com" in served.proxy.hosts
    kind, form = served.world.requests[0]
    assert (kind, form["grant_type"], form["code"]) == ("google-oauth", "authorization_code", "the-code")
    assert form["client_secret"] == GOOGLE.client_secret
    assert stage.in_room() == []


def test_claude_logs_in_by_a_code(stage):
    typist = Typist("Paste code here", lambda text: f"the-code#{STATE.search(text)[1]}")
    tokens, served = log_in_online(stage, Claude(stage.root / "claude").enrollment, typist)
    assert tokens["accessToken"] in served.world.access
    assert tokens["refreshToken"].endswith("-refresh")
    kind, form = served.world.requests[0]
    assert (kind, form["grant_type"], form["code"]) == ("anthropic-oauth", "authorization_code", "the-code")
    assert stage.in_room() == []
