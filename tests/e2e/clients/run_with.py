"""``agent-broker run --with``: curl with a netrc in memory, npm with a token, a program that root named by its hash."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.demo.check import require
from tests.demo.machine import run_tool
from tests.demo.processes import BROKER, REPOSITORY
from tests.e2e.clients.package_index import indexes, names, served
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server
from tests.fakes.npm_server import PACKAGE as NPM_PACKAGE

_LAUNCHER = REPOSITORY / "broker/agent_broker/shim/agent-broker-run"
_ADD_S = 60

RULES = """[[rule]]
agent = "claude"
credential = "run/UID/index"
"""


@contextlib.contextmanager
def curl_stand(clients: Clients) -> Iterator[Stand]:
    """An index whose password a netrc of the user's has, until it is the vault's."""
    with indexes(clients) as (first, second), launcher(clients) as path:
        mine = clients.write("mine.netrc", f"machine 127.0.0.1\nlogin alice\npassword {first.password}\n")
        given = names(clients, first, second)
        yield Stand(
            "curl (run --with)", run_tool("/usr/bin/curl", "--version").split()[1],
            {
                **given, "use": f"curl -sfo got --netrc-file {mine} {first.url}/simple/nothing/",
                "run": f"{BROKER} run", "launcher": str(path), "password": first.password,
                "named": str(path.with_name("named")),
            },
            (first.password, second.password), served(first, second), (),
        )  # fmt: skip


@contextlib.contextmanager
def npm_stand(clients: Clients) -> Iterator[Stand]:
    """A registry whose token an .npmrc of the user's has, until it is the vault's."""
    token = new_password("npm_")
    log = clients.world.root / "logs/npm.jsonl"
    log.write_text("")
    with server(clients, "npm_server", "npm", f"--token={token}", f"--log={log}") as port, launcher(clients) as path:
        host = f"127.0.0.1:{port}"
        mine = clients.write("mine.npmrc", f"//{host}/:_authToken={token}\n")
        view = f"npm --registry http://{host}/ view {NPM_PACKAGE} version"
        yield Stand(
            "npm (run --with)", run_tool("/usr/bin/npm", "--version").strip(),
            {
                "use": f"NPM_CONFIG_USERCONFIG={mine} {view}", "view": view, "run": f"{BROKER} run", "host": host,
                "launcher": str(path), "password": token,
            },
            (token,),
            lambda: sum(json.loads(line)["presented"] == token for line in log.read_text().splitlines()),
            (),
        )  # fmt: skip


@contextlib.contextmanager
def launcher(clients: Clients) -> Iterator[Path]:
    """Put the launcher, and a program of root's that no package owns, where only root writes."""
    folder = clients.world.shim.parent
    path, named = folder / _LAUNCHER.name, folder / "named"
    shutil.copyfile(_LAUNCHER, path)
    shutil.copyfile("/usr/bin/curl", named)
    for each in (path, named):
        each.chmod(0o755)
    yield path
    path.unlink()
    named.unlink()


def add(clients: Clients, stand: Stand, name: str, *options: str) -> None:
    """Keep the stand's password under a name."""
    whose = ("--user", clients.world.user.pw_name, "--launcher", stand.names["launcher"])
    done = subprocess.run(
        [BROKER, "--root", clients.world.root, "secret", "add", name, *whose, *options],
        input=stand.names["password"], capture_output=True, text=True, timeout=_ADD_S, check=False,
    )  # fmt: skip
    require(done.returncode == 0, f"secret add {name} to succeed", done.stderr)


def add_netrc(clients: Clients, stand: Stand) -> None:
    """Keep it for curl, for the named program, and for one that root changes then."""
    netrc = ("--preset", "netrc", "--host", "127.0.0.1", "--login", "alice")
    add(clients, stand, "index", *netrc)
    add(clients, stand, "other", *netrc)
    named = clients.world.shim.parent / "named"
    add(clients, stand, "named", *netrc, "--for", str(named))


def add_tokens(clients: Clients, stand: Stand) -> None:
    """Keep it in the three ways that npm takes it."""
    add(clients, stand, "index", "--preset", "npm", "--host", stand.names["host"])
    add(clients, stand, "rc", "--preset", "npmrc", "--host", stand.names["host"])
    add(clients, stand, "token", "--preset", "node-auth-token")


def remove(clients: Clients, stand: Stand) -> None:
    """Delete all of them."""
    del stand
    for each in json.loads(clients.broker("secret", "list", "--json")):
        clients.broker("secret", "remove", each["name"], "--user", clients.world.user.pw_name, "--yes")


_GET = " curl -sSfo /dev/null {first}/simple/nothing/"
_CURL = "{run} --with index --" + _GET
_DIRECT = "{launcher} index -- /usr/bin/curl -sSfo /dev/null {first}/simple/nothing/"

CURL = Client(
    "run",
    curl_stand,
    RULES,
    (
        Row("curl is given a netrc in memory", TERMINAL, _CURL, says="curl has the secret itself now"),
        Row("curl is given a netrc in memory", PROGRAM, _CURL),
        Row("curl is given a netrc in memory, where a rule says so", AGENT, _CURL),
        Row("the launcher is typed", TERMINAL, _DIRECT),
        Row("a program that root named by its hash", PROGRAM,
            "{run} --with named -- {named} -sSfo /dev/null {first}/simple/nothing/"),
        Row("what would taint is left out", PROGRAM, _CURL, says="left out of the environment: GCONV_PATH",
            environment={"GCONV_PATH": "/tmp"}),
        Row("curl is given another secret, without a rule", AGENT, "{run} --with other --" + _GET, REFUSED,
            "no policy rule lets agent"),
        Row("another program is given it", PROGRAM, "{run} --with index -- env", REFUSED,
            "no secret of these names is for /usr/bin/env"),
        Row("a curl of the user's", PROGRAM, "cp /usr/bin/curl .; {run} --with index -- ./curl {first}", REFUSED,
            "no secret of these names is for"),
        Row("a copy of the launcher asks", AGENT, "cp {launcher} . && ./agent-broker-run index -- /usr/bin/curl",
            REFUSED, "not started by run"),
        Row("the launcher is started with LD_PRELOAD", AGENT, _DIRECT, REFUSED, "sets LD_PRELOAD",
            {"LD_PRELOAD": "/dev/null"}),
        Row("the launcher is traced", AGENT, "gdb -q -batch -ex run --args " + _DIRECT, REFUSED, "tainted"),
        Row("another process asks as the launcher does", AGENT, "{shim} run index -- /usr/bin/curl", REFUSED),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 6 s",
    enroll=add_netrc,
    unenroll=remove,
    used="{run} --with index --" + _GET,
    name="curl",
)  # fmt: skip

_NPM = "{run} --with index -- {view}"

NPM = Client(
    "run",
    npm_stand,
    RULES,
    (
        Row("npm is given a token by a variable", PROGRAM, _NPM, says="1.0.0"),
        Row("npm is given a token by a variable, where a rule says so", AGENT, _NPM),
        Row("npm is given its configuration in memory", TERMINAL, "{run} --with rc -- {view}"),
        Row("npm is given what an .npmrc names", PROGRAM,
            "echo '//{host}/:_authToken=${NODE_AUTH_TOKEN}' > .npmrc; {run} --with token -- {view}; code=$?; "
            "rm .npmrc; exit $code"),
        Row("npm runs foreign code", AGENT, "{launcher} index -- $(readlink -f $(which npm)) --version", REFUSED,
            "sets NODE_OPTIONS", {"NODE_OPTIONS": "--require=/dev/null"}),
        Row("node alone is given it", PROGRAM, "{run} --with index -- node -p process.env", REFUSED,
            "no secret of these names is for"),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 6 s",
    enroll=add_tokens,
    unenroll=remove,
    used=_NPM,
    name="npm",
)  # fmt: skip
