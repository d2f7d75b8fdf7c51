"""azure-identity, at a login and a server that verify what they are shown."""

import contextlib
import json
import secrets
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.e2e.clients.environment import make_program
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, server

RULES = """[[rule]]
agent = "claude"
credential = "azure/UID/default"
to = "{url}"
"""

_PROGRAM = """#!{python} -I
import sys, urllib.request
from azure.identity import AzureCliCredential, DefaultAzureCredential
url, kind, tenant = (*sys.argv[1:], "", "")[:3]
made = DefaultAzureCredential() if kind == "default" else AzureCliCredential(tenant_id=tenant)
token = made.get_token(f"{url}/.default").token
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
print(urllib.request.urlopen(request, timeout=20).read())
"""


_PLAIN = """import json, os, sys, urllib.parse, urllib.request
url = sys.argv[1]
entry = json.load(open(os.path.expanduser("~/.azure/service_principal_entries.json")))[0]
form = {key: entry[key] for key in ("client_id", "client_secret")}
form |= {"grant_type": "client_credentials", "scope": f"{url}/.default"}
asked = urllib.request.urlopen(f"{url}/{entry['tenant']}/oauth2/v2.0/token", urllib.parse.urlencode(form).encode())
token = json.load(asked)["access_token"]
urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}))
"""
"""What works with the file alone, before it is enrolled and after."""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two service principals, as az login keeps them, and a program that asks az for tokens."""
    world = clients.world
    tenants = [str(uuid.uuid4()) for _ in range(2)]
    entries = [
        {"client_id": str(uuid.uuid4()), "tenant": each, "client_secret": f"abc8Q~{secrets.token_urlsafe(24)}"}
        for each in tenants
    ]
    mode, log = world.root / "logs/azure.json", world.root / "logs/azure.jsonl"
    mode.write_text(json.dumps({"secrets": {each["client_id"]: each["client_secret"] for each in entries}}))
    log.touch()
    clients.write(".azure/service_principal_entries.json", json.dumps(entries))
    profile = {"subscriptions": [{"isDefault": True, "user": {"name": entries[0]["client_id"]}}]}
    clients.write(".azure/azureProfile.json", json.dumps(profile))
    program = make_program(clients, "azure-tool", _PROGRAM, "azure-identity")
    stand_in = clients.home / ".local/bin/az"
    stand_in.symlink_to(world.shim)
    with server(clients, "entra_server", "azure", f"--mode={mode}", f"--log={log}") as port:
        url = f"http://127.0.0.1:{port}"
        with clients.broker_down(), (world.root / "etc/agent-broker/config.toml").open("a") as config:
            config.write(f'\n[upstream.entra]\nbase_url = "{url}"\n')
        plain = clients.write("plain.py", _PLAIN, 0o644)
        yield Stand(
            "azure-identity", version("azure-identity"),
            {
                "use": f"{program} {url} || /usr/bin/python3 {plain} {url}", "url": url, "program": str(program),
                "other": tenants[1], "shim": str(world.shim), "az": str(stand_in),
            },
            tuple(each["client_secret"] for each in entries),
            lambda: sum(bool(each["ok"]) and each["action"] == "use" for each in _lines(log)),
            (".azure/service_principal_entries.json",),
        )  # fmt: skip
    stand_in.unlink()


def _lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


_ASK = "az account get-access-token --output json --resource {url}"

CLIENT = Client(
    "azure",
    stand,
    RULES,
    (
        Row("gets a token as the Azure CLI gives one", PROGRAM, "{program} {url}"),
        Row("gets it as the default credential", TERMINAL, "{program} {url} default"),
        Row("gets one of the tenant that it names", PROGRAM, "{program} {url} cli {other}"),
        Row("gets one where the rule says", AGENT, "{program} {url}"),
        Row("wants one for another server", AGENT, "{program} https://vault.azure.net", REFUSED,
            "no policy rule lets agent"),
        Row("wants one of another tenant", AGENT, "{program} {url} cli {other}", REFUSED, "no policy rule lets agent"),
        Row("another process asks", AGENT, _ASK, REFUSED, "not started by azure"),
        Row("a copy of the program asks", AGENT, "cp {program} ~/azure-tool/bin/copy && ~/azure-tool/bin/copy {url}; "
            "code=$?; rm ~/azure-tool/bin/copy; exit $code", REFUSED, "azure"),
        Row("the user's code runs in it", AGENT, "{program} {url}", REFUSED, "sets PYTHONPATH",
            {"PYTHONPATH": "/nowhere"}),
        Row("another command of az", PROGRAM, "az account show", REFUSED, "by its full path"),
    ),
    options=("--binary", "{program}"),
    down_says="nobody listens",
    slow_says="did not answer within 6 s",
)  # fmt: skip
