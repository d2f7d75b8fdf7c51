"""A program that uses google-auth, at a token endpoint and a storage of Google's that verify what they are shown."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tests.demo.machine import run_tool
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, server
from tests.fakes.cloud_logins import ADC, google_mode, service_account

_NEEDED = (
    "google.auth", "google.oauth2", "requests", "urllib3", "idna", "certifi", "charset_normalizer", "pyasn1",
    "pyasn1_modules", "cryptography", "cffi", "_cffi_backend",
)  # fmt: skip
_PYTHON = Path("/usr/bin/python3").resolve().name

RULES = """[[rule]]
agent = "claude"
credential = "gcp/UID/adc"
modes = ["mint"]
"""

_PROGRAM = """#!{python} -I
import sys
import google.auth, google.auth.compute_engine
from google.auth.transport.requests import AuthorizedSession, Request
class Impatient(Request):
    def __call__(self, *args, timeout=3, **more):
        return super().__call__(*args, timeout=3, **more)
scopes = ["https://www.googleapis.com/auth/cloud-platform"]
if sys.argv[2:]:
    found, project = google.auth.compute_engine.Credentials(), ""
    found.refresh(Request())
    print(found.service_account_email)
else:
    found, project = google.auth.default(scopes=scopes)
answer = AuthorizedSession(found, auth_request=Impatient()).get(sys.argv[1])
print(answer.text)
sys.exit(answer.status_code != 200)
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """A service account's key where gcloud keeps application default credentials."""
    world = clients.world
    mode, log = world.root / "logs/google.json", world.root / "logs/google.jsonl"
    mode.write_text(json.dumps(google_mode()))
    log.touch()
    key = service_account()
    program = _program(clients)
    with server(clients, "google_server", "google", f"--mode={mode}", f"--log={log}") as port:
        url = f"http://127.0.0.1:{port}"
        clients.write(ADC, json.dumps({**key, "token_uri": f"{url}/token"}, indent=2))
        _point_broker_at(clients, f"{url}/token")
        yield Stand(
            "google-auth", version("google-auth"),
            {
                "use": f"{program} {url}/storage/v1/b", "program": str(program), "url": url,
                "email": key["client_email"],
                "endpoint": f"127.0.0.1:{world.port}", "site": f".local/lib/{_PYTHON}/site-packages",
            },
            (key["private_key"].splitlines()[5],),
            lambda: sum(json.loads(line)["known"] for line in log.read_text().splitlines()),
            (ADC,),
        )  # fmt: skip


def _point_broker_at(clients: Clients, token_url: str) -> None:
    with clients.broker_down():
        config = clients.world.root / "etc/agent-broker/config.toml"
        before, vertex, after = config.read_text().partition("[upstream.vertex]\n")
        text = before + vertex + re.sub('oauth_token_url = ".*"', f'oauth_token_url = "{token_url}"', after, count=1)
        config.write_text(text)


def _program(clients: Clients) -> Path:
    """Return a program of the user's, in a virtual environment of its own."""
    environment = clients.home / "cloud"
    run_tool("/usr/bin/python3", "-m", "venv", "--without-pip", str(environment))
    for name in _NEEDED:
        found = Path(str(find_spec(name).origin))
        is_package = found.name.startswith("__init__")
        inside = name.replace(".", "/") if is_package else found.name
        target = environment / f"lib/{_PYTHON}/site-packages" / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_package:
            shutil.copytree(found.parent, target)
        else:
            shutil.copyfile(found, target)
    run_tool(str(environment / "bin/python"), "-m", "compileall", "-q", str(environment / "lib"))  # as pip does
    program = clients.write("cloud/bin/buckets", _PROGRAM.replace("{python}", f"{environment}/bin/python"), 0o755)
    for each in (environment, *environment.rglob("*")):
        os.chown(each, clients.uid, clients.world.user.pw_gid, follow_symlinks=False)
    return program


_USE = "{program} {url}/storage/v1/b"
_METADATA = {"GCE_METADATA_HOST": "{endpoint}", "GCE_METADATA_IP": "{endpoint}"}
_TOKEN = "http://{endpoint}/computeMetadata/v1/instance/service-accounts/default/token"

_LATE = f"(sleep 0.1; echo url = {_TOKEN}) | curl -K -"
"""A connection as young as the program is refused for that: its age is told in jiffies (inject.peer)."""

CLIENT = Client(
    "gcp",
    stand,
    RULES,
    (
        Row("lists buckets", PROGRAM, _USE, says="bucket"),
        Row("lists buckets", TERMINAL, _USE, says="bucket"),
        Row("lists buckets where the rule says", AGENT, _USE, says="bucket"),
        Row("finds a metadata server", PROGRAM,
            "GCE_METADATA_HOST={endpoint} GCE_METADATA_IP={endpoint} {program} {url}/storage/v1/b metadata",
            says="{email}"),
        Row("another process asks the metadata server", AGENT,
            f"{_LATE} -sSf -H 'Metadata-Flavor: Google' || {_LATE} -sS -H 'Metadata-Flavor: Google'; false",
            REFUSED, "was not started by gcp"),
        Row("another process asks for an exchange", AGENT,
            "curl -sS -d grant_type=x http://{endpoint}/google/token; false", REFUSED, "access_denied"),
        Row("a web page asks", PROGRAM, "curl -sS http://{endpoint}/computeMetadata/v1/; false", REFUSED,
            "Metadata-Flavor: Google is missing"),
        Row("its interpreter runs something else", AGENT,
            "~/cloud/bin/python -c 'import sys; sys.argv[:] = sys.argv[1:]; exec(open(sys.argv[0]).read())' {program} "
            "{url}/storage/v1/b", REFUSED, "was not started by gcp"),
        Row("a copy of it asks", AGENT, "cp {program} ~/cloud/bin/other && ~/cloud/bin/other {url}/storage/v1/b; "
            "code=$?; rm ~/cloud/bin/other; exit $code", REFUSED, "was not started by gcp"),
        Row("modules from elsewhere are named", AGENT, _USE, REFUSED, "sets PYTHONPATH", {"PYTHONPATH": "/tmp"}),
        Row("another authority is named", AGENT, _USE, REFUSED, "sets REQUESTS_CA_BUNDLE",
            {"REQUESTS_CA_BUNDLE": "/etc/hosts"}),
        Row("another cloud is named", AGENT, _USE, REFUSED, "sets GOOGLE_CLOUD_UNIVERSE_DOMAIN",
            {"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.com"}),
    ),
    options=("--binary", "{program}"),
    down_says="Connection refused",
    slow_says="timed out",
)  # fmt: skip
