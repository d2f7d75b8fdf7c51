"""A service with an .env file, as Node reads it (``process.loadEnvFile``): its token is in the vault, in no file."""

import contextlib
import json
from collections.abc import Iterator

from tests.demo.machine import run_tool
from tests.demo.processes import BROKER
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.run_with import add, launcher, remove
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server
from tests.fakes.npm_server import PACKAGE

RULES = """[[rule]]
agent = "claude"
credential = "run/UID/app"
"""
_APP = """#!/usr/bin/node
process.loadEnvFile('.env')
const headers = { authorization: `Bearer ${process.env.APP_TOKEN}` }
fetch(process.env.APP_SERVER, { headers }).then((answer) => {
  console.log(`${process.env.APP_NAME} was told ${answer.status}`)
  process.exit(answer.ok ? 0 : 1)
})
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """The service, which root installed, and its .env with everything in it."""
    token = new_password("app_")
    log = clients.world.root / "logs/app.jsonl"
    log.touch()
    with server(clients, "npm_server", "app", f"--token={token}", f"--log={log}") as port, launcher(clients) as path:
        app = path.with_name("app")
        app.write_text(_APP)
        app.chmod(0o755)
        _write(clients, f"http://127.0.0.1:{port}/{PACKAGE}", f"APP_TOKEN={token}\n")
        yield Stand(
            ".env (run --with)", f"node {run_tool('/usr/bin/node', '--version').strip()}",
            {
                "use": f"cd ~/app && {app}", "app": str(app), "run": f"{BROKER} run", "launcher": str(path),
                "password": token, "server": f"http://127.0.0.1:{port}/{PACKAGE}",
            },
            (token,),
            lambda: sum(json.loads(line)["presented"] == token for line in log.read_text().splitlines()),
            (),
        )  # fmt: skip
        app.unlink()


def _write(clients: Clients, address: str, more: str = "") -> None:
    clients.write("app/.env", f"# the service\nAPP_NAME=mine\nAPP_SERVER={address}\n{more}", 0o600)


def _move(clients: Clients, stand: Stand) -> None:
    """Keep the token for the service, under a name that a rule is about and another one; take it out of the file."""
    for name in ("app", "other"):
        add(clients, stand, name, "--env", "APP_TOKEN", "--for", stand.names["app"])
    _write(clients, stand.names["server"])


def _put_back(clients: Clients, stand: Stand) -> None:
    remove(clients, stand)
    _write(clients, stand.names["server"], f"APP_TOKEN={stand.names['password']}\n")


_APP_RUN = "cd ~/app && {run} --with app -- {app}"

CLIENT = Client(
    "dotenv",
    stand,
    RULES,
    (
        Row("the service has its token, and its file does not", PROGRAM, "! grep -q TOKEN ~/app/.env && " + _APP_RUN,
            says="mine was told 200"),
        Row("the service has its token", TERMINAL, _APP_RUN, says="app has the secret itself now"),
        Row("the service has its token, where a rule says so", AGENT, _APP_RUN),
        Row("a line that is left in the file is not used", PROGRAM,
            "mkdir -p left && cp ~/app/.env left && echo APP_TOKEN=old >> left/.env && cd left && "
            "{run} --with app -- {app}"),
        Row("the service is started without run", AGENT, "cd ~/app && {app}", REFUSED, "mine was told 401"),
        Row("another secret, without a rule", AGENT, "cd ~/app && {run} --with other -- {app}", REFUSED,
            "no policy rule lets agent"),
        Row("another program is given it", AGENT, "{run} --with app -- env", REFUSED,
            "no secret of these names is for /usr/bin/env"),
        Row("a copy of the service is given it", AGENT, "cp {app} . && cd ~/app && {run} --with app -- $OLDPWD/app",
            REFUSED, "no secret of these names is for"),
        Row("its interpreter runs foreign code", AGENT, "cd ~/app && {launcher} app -- {app}", REFUSED,
            "sets NODE_OPTIONS", {"NODE_OPTIONS": "--require=/dev/null"}),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 6 s",
    enroll=_move,
    unenroll=_put_back,
    used=_APP_RUN,
)  # fmt: skip
