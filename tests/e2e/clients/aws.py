"""The aws command from apt and a program that uses boto3, at an STS and an S3 that verify each signature."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from tests.demo.machine import run_tool
from tests.e2e.clients.environment import make_program
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, server

AWS = "/usr/bin/aws"
_PYTHON = Path("/usr/bin/python3").resolve().name
_ROLE = "arn:aws:iam::123456789012:role/deploy"

_CONFIG = f"""# mine
[default]
region = us-east-1

[profile dev]
# the sandbox
region = eu-west-1
output = json

[profile production]
region = eu-central-1
cli_pager =

[profile deploy]
role_arn = {_ROLE}
source_profile = production
external_id = 4711

[profile work]
sso_session = mine

[sso-session mine]
sso_start_url = https://example.com/start
sso_region = eu-west-1
"""

RULES = """[[rule]]
agent = "claude"
credential = "aws/UID/dev"
session_policy = "arn:aws:iam::aws:policy/ReadOnlyAccess"
"""

_PROGRAM = """#!{python} -I
import sys
import boto3
session = boto3.Session(profile_name=sys.argv[1])
print(session.client("s3", endpoint_url=sys.argv[2]).list_buckets()["Buckets"][0]["Name"])
"""


@contextlib.contextmanager
def stand(clients: Clients, *, boto3: bool = True) -> Iterator[Stand]:
    """Two profiles with keys, as aws configure keeps them, one that assumes a role with them, one of SSO.

    Args:
        clients: whose user has them.
        boto3: a program of boto3 is there too.
    """
    world = clients.world
    pairs = {name: (f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)) for name in ("dev", "production")}
    mode, log = world.root / "logs/aws.json", world.root / "logs/aws.jsonl"
    keys = {key: [secret, ""] for key, secret in pairs.values()}
    mode.write_text(json.dumps({"keys": keys, "roles": {_ROLE: "4711"}}))
    log.touch()
    text = "".join(
        f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        for name, (key, secret) in pairs.items()
    )
    clients.write(".aws/credentials", f"# keys\n{text}")
    clients.write(".aws/config", _CONFIG)
    program = make_program(clients, "buckets", _PROGRAM, "boto3", _is_wanted) if boto3 else ""
    with server(clients, "aws_server", "aws", f"--mode={mode}", f"--log={log}") as port:
        url = f"http://127.0.0.1:{port}"
        with clients.broker_down(), (world.root / "etc/agent-broker/config.toml").open("a") as config:
            config.write(f'\n[upstream.sts]\nbase_url = "{url}"\n')
        yield Stand(
            "aws", run_tool(AWS, "--version").split()[0].partition("/")[2],
            {
                "use": f"{AWS} --endpoint-url {url} --profile dev s3api list-buckets", "aws": AWS, "url": url,
                "shim": str(world.shim), "program": str(program), "site": f".local/lib/{_PYTHON}/site-packages",
            },
            tuple(secret for _, secret in pairs.values()),
            lambda: sum(bool(each["ok"]) and each["action"] in _USES for each in _lines(log)),
            (".aws/credentials", ".aws/config"),
        )  # fmt: skip


def _is_wanted(file: str) -> bool:
    """Leave out what describes services that nobody calls here: 100 MB."""
    _, _, service = file.partition("/data/")
    return "/" not in service or service.partition("/")[0] in {"s3", "sts", "sso", "sso-oidc"}


def _lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


_USES = frozenset({"GET", "PUT", "GetCallerIdentity"})
_LIST = "{aws} --endpoint-url {url} --profile dev s3api list-buckets"
_WHO = "{aws} --endpoint-url {url} --profile dev sts get-caller-identity"
_WRITE = "{aws} --endpoint-url {url} --profile dev s3api create-bucket --bucket third"
_OTHER = "{aws} --endpoint-url {url} --profile production s3api list-buckets"
_OWN_CODE = (
    "/usr/bin/python3 -c \"from awscli.botocore.session import Session; s = Session(profile='dev'); "
    "s.create_client('s3', endpoint_url='{url}').list_buckets()\""
)
_PLANT = "mkdir -p ~/{site} && echo 'import os' > ~/{site}/usercustomize.py; "

CLIENT = Client(
    "aws",
    stand,
    RULES,
    (
        Row("is given a session, not the key", TERMINAL, _WHO, says="key/ASIA"),
        Row("writes", PROGRAM, _WRITE),
        Row("assumes the role of a profile", PROGRAM, "{aws} --endpoint-url {url} --profile deploy s3api list-buckets"),
        Row("a program of boto3 lists buckets", PROGRAM, "{program} dev {url}"),
        Row("lists buckets with the profile that the rule says", AGENT, _LIST),
        Row("writes, which the rule's session policy has not", AGENT, _WRITE, REFUSED, "AccessDenied"),
        Row("a program of boto3 lists buckets where the rule says", AGENT, "{program} dev {url}"),
        Row("uses another profile", AGENT, _OTHER, REFUSED, "no policy rule lets agent"),
        Row("uses the role of another profile", AGENT, "{aws} --endpoint-url {url} --profile deploy s3api list-buckets",
            REFUSED, "no policy rule lets agent"),
        Row("another process asks", AGENT, "{shim} aws dev", REFUSED, "not started by aws"),
        Row("code of its own in the same interpreter asks", AGENT, _OWN_CODE, REFUSED, "not started by aws"),
        Row("a copy of aws asks", AGENT, "cp {aws} ~/aws && python3 ~/aws --endpoint-url {url} --profile dev s3api "
            "list-buckets", REFUSED, "not started by aws"),
        Row("it is renamed", AGENT, "(exec -a aws2 /usr/bin/python3 " + _LIST + ")", REFUSED, "not started by aws"),
        Row("export-credentials prints them", PROGRAM, "{aws} configure export-credentials --profile dev", REFUSED),
        Row("configure get prints them", PROGRAM, "{aws} configure get aws_secret_access_key --profile dev", REFUSED),
        Row("AWS_CONFIG_FILE is the attacker's", AGENT, "cp ~/.aws/config ~/own; " + _LIST, REFUSED,
            "sets AWS_CONFIG_FILE", {"AWS_CONFIG_FILE": "../own"}),
        Row("AWS_ENDPOINT_URL is the attacker's", AGENT, _LIST, REFUSED, "sets AWS_ENDPOINT_URL",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}),
        Row("PYTHONPATH is the attacker's", AGENT, _LIST, REFUSED, "sets PYTHONPATH", {"PYTHONPATH": "/nowhere"}),
        Row("a module of the user's runs in it", AGENT, _PLANT + _LIST + "; code=$?; rm -r ~/.local/lib; exit $code",
            REFUSED, "site-packages"),
        Row("when that is gone", AGENT, _LIST),
        Row("a module of the user's that takes itself away", AGENT, _PLANT + "printf 'import shutil, os\\n"
            "shutil.rmtree(os.path.expanduser(\"~/.local/lib\"))\\n' > ~/{site}/usercustomize.py; " + _LIST, REFUSED,
            "is tainted"),
    ),
    options=("--binary", AWS, "--binary", "{program}"),
    down_says="nobody listens",
    slow_says="did not answer within 6 s",
)  # fmt: skip
