"""The real Codex CLI with its login in a view: it refreshes that by itself, and writes it back through the link."""

import json
import shlex
from pathlib import Path

from tests.demo.processes import ended
from tests.demo.provider import Provider
from tests.e2e.agents.codex import Codex, login
from tests.e2e.clients.world import PROGRAM
from tests.e2e.view.place import Place

_FILE = ".codex/auth.json"
_LEFT_S = -60
"""The access token was valid until a minute ago."""
_NEW = ("mock-access-1", "mock-refresh-1")
"""What the provider gives (tests.fakes.mock_provider): its first refresh."""


def refreshed(made: Place) -> dict[str, object]:
    """Codex with a login out of date is asked twice: what it sent, and where its new tokens are."""
    held, codex, clients = login(_LEFT_S), Codex(), made.clients
    program = codex.executable(codex.layouts["npm, Node 20"](clients.world))
    path = clients.write(_FILE, str(held.files[_FILE]))
    clients.broker("enroll", "--file", str(path), "--for", str(program), *made.whose, "--yes")
    folder = clients.world.root / "provider-of-codex"
    folder.mkdir()
    provider = Provider(folder, "tests.fakes.model_apis")
    with ended(provider.process):
        provider.wait()
        said = [_asked(made, codex, program, provider.base_url) for _ in range(2)]
    shown, secrets = clients.run(PROGRAM, f"cat ~/{_FILE}").text, [*held.secrets.values(), *_NEW]
    sent = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    told: dict[str, object] = {
        "said": said,
        "refreshes": sum(each["target"] == "/oauth/token" for each in sent),
        "sent": sorted({str(each["auth"]) for each in sent if each["target"].endswith("/responses")}),
        "still a link": path.is_symlink(),
        "a stranger saw": [value[:16] for value in secrets if value in shown],
        "in files": _holders(made, secrets),
    }
    clients.broker("unenroll", "--file", str(path), *made.whose, "--yes")
    tokens = json.loads(path.read_text())["tokens"]
    told["given back"] = [tokens["access_token"], tokens["refresh_token"]]
    return told


def _asked(made: Place, codex: Codex, program: Path, url: str) -> str:
    words = [str(program), *codex.options_directly(url), *codex.command(program, "go on")[1:]]
    override = {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{url}/oauth/token"}
    return made.run(PROGRAM, f"cd ~/project && {shlex.join(words)} < /dev/null", **override).text


def _holders(made: Place, secrets: list[str]) -> list[str]:
    """Return the user's plain files that hold one of them."""
    found = [path for path in (made.home / ".codex").rglob("*") if not path.is_symlink() and path.is_file()]
    return [str(path) for path in found if any(value.encode() in path.read_bytes() for value in secrets)]
