"""The real Gemini CLI with its Google login in a view: it refreshes that by itself, and writes it in place.

Gemini can't be told where Google is. It gets a proxy and an authority that stand for the internet.
"""

import asyncio
import contextlib
import json
import shlex
import threading
from collections.abc import Coroutine, Iterator

from tests.e2e.agents.gemini import Gemini, login
from tests.e2e.clients.world import PROGRAM
from tests.e2e.view.place import Place
from tests.fakes.false_internet import Authority, Proxy
from tests.fakes.mock_provider import Mode
from tests.fakes.model_apis import ModelProvider

_FILE = ".gemini/oauth_creds.json"
_LEFT_S = -60
"""The access token was valid until a minute ago."""
_NEW_ACCESS = "ya29.the-new-one-of-the-test"
_HOSTS = ("oauth2.googleapis.com", "www.googleapis.com", "cloudcode-pa.googleapis.com")


def gemini_refreshed(made: Place) -> dict[str, object]:
    """Gemini with a login out of date is asked twice: what it sent, and where its new tokens are."""
    held, gemini, clients = login(_LEFT_S), Gemini(), made.clients
    program = gemini.layouts["npm, Node 20"](clients.world)
    for name, text in held.files.items():
        clients.write(name, str(text))
    path = clients.home / _FILE
    clients.broker("enroll", "--file", str(path), "--for", str(program), *made.whose, "--yes")
    before = clients.alert_kinds()
    with _google() as (provider, proxy, authority):
        trusted = clients.write("authority.pem", authority)
        variables = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NODE_EXTRA_CA_CERTS": str(trusted)}
        command = f"cd ~/project && {shlex.join(gemini.command(program, 'go on'))} < /dev/null"
        said = [made.run(PROGRAM, command, **gemini.environment("npm, Node 20"), **variables).text for _ in range(2)]
    shown = clients.run(PROGRAM, f"cat ~/{_FILE}").text
    secrets = [*held.secrets.values(), _NEW_ACCESS]
    told: dict[str, object] = {
        "said": said,
        "refreshes": sum(each.target == "/token" for each in provider.seen),
        "sent": sorted({str(each.auth) for each in provider.seen if gemini.asks_model(each.target)}),
        "still a link": path.is_symlink(),
        "a stranger saw": [value[:16] for value in secrets if value in shown],
        "in files": [value[:16] for value in secrets if value in _all_text(made)],
        "alerts": clients.kinds_since(before, 1),
    }
    clients.broker("unenroll", "--file", str(path), *made.whose, "--yes")
    tokens = json.loads(path.read_text())
    told["given back"] = [tokens["access_token"] == _NEW_ACCESS, tokens["refresh_token"]]
    told["refresh token"] = held.secrets["refresh token"]
    return told


def _all_text(made: Place) -> str:
    found = [path for path in (made.home / ".gemini").rglob("*") if not path.is_symlink() and path.is_file()]
    return "\n".join(path.read_text(errors="replace") for path in found)


@contextlib.contextmanager
def _google() -> Iterator[tuple[ModelProvider, Proxy, str]]:
    """Serve Google's hosts in a thread; give who answers, the way to it, and whom to trust."""
    loop, authority, provider = asyncio.new_event_loop(), Authority(_HOSTS), ModelProvider()
    provider.mode = Mode(new_access=_NEW_ACCESS, rotate=False)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result()

    try:
        do(provider.start(tls=authority.server_context()))
        proxy = Proxy(_HOSTS, provider.port)
        do(proxy.start())
        try:
            yield provider, proxy, authority.pem
        finally:
            do(proxy.stop())
            do(provider.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
