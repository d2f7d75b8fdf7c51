"""npm from its package, with its token in ~/.npmrc: that file is a view that npm alone reads.

The other way, a token for one run, is in run_with.
"""

import contextlib
import json
from collections.abc import Iterator

from tests.demo.machine import run_tool
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.viewed import enroll, unenroll
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server
from tests.fakes.npm_server import PACKAGE

_NPM = "/usr/bin/npm"
RULES = """[[rule]]
agent = "claude"
credential = "file.npmrc/UID/content"
modes = ["view"]
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two registries, and a token of the first, as npm login keeps it."""
    token = new_password("npm_")
    with contextlib.ExitStack() as undo:
        hosts, logs = {}, {}
        for name in ("first", "second"):
            logs[name] = clients.world.root / f"logs/npm-{name}.jsonl"
            logs[name].touch()
            options = (f"--token={token}", f"--log={logs[name]}")
            hosts[name] = f"127.0.0.1:{undo.enter_context(server(clients, 'npm_server', f'npm-{name}', *options))}"
        settings = f"registry=http://{hosts['first']}/\n//{hosts['first']}/:_authToken={token}\n"
        clients.write(".npmrc", settings + "update-notifier=false\nfund=false\n")
        use = f"{_NPM} view {PACKAGE} version"
        yield Stand(
            "npm", run_tool(_NPM, "--version").strip(),
            {
                "use": use, "soon": f"timeout -s KILL 10 {use}", "npm": _NPM, "package": PACKAGE, **hosts,
                "file": ".npmrc", "for": f"--for {_NPM}",
            },
            (token,),
            lambda: sum(
                json.loads(line)["presented"] == token for log in logs.values() for line in log.read_text().splitlines()
            ),
            (".npmrc",),
        )  # fmt: skip


_STRANGER = "it is none of the programs that read the file"
_FOLDER = "rm -rf own && mkdir own && cd own && "
_STEAL = """echo '{"name":"own","version":"1.0.0","scripts":{"steal":"cat ~/.npmrc","preinstall":"cat ~/.npmrc"}}' """

CLIENT = Client(
    "npm",
    stand,
    RULES,
    (
        Row("looks at a package", PROGRAM, "{use}", says="1.0.0"),
        Row("looks at a package", TERMINAL, "{use}", says="1.0.0"),
        Row("installs a package, where a rule says so", AGENT,
            _FOLDER + "{npm} init -y && {npm} install --ignore-scripts {package}"),
        Row("writes a setting into the file, which is kept", PROGRAM,
            "{npm} config set --location=user fetch-retries=3 && {npm} config get fetch-retries && {use}", says="3"),
        Row("takes it out again", PROGRAM, "{npm} config delete --location=user fetch-retries && {use}"),
        Row("another program reads the file", AGENT, "cat ~/{file}; false", REFUSED, "_authToken=npm_",
            tells=_STRANGER),
        Row("another program writes the file", AGENT, "echo mine >> ~/{file}", REFUSED, "Permission denied"),
        Row("node reads the file", AGENT,
            "node -p \"String(require('fs').readFileSync(process.env.HOME + '/{file}'))\"; false", REFUSED,
            "_authToken=npm_", tells=_STRANGER),
        Row("a script of a package, that npm runs, reads it", AGENT,
            _FOLDER + _STEAL + "> package.json && {npm} run steal; {npm} install; false", REFUSED, "_authToken=npm_"),
        Row("is told to print the token", AGENT, "{npm} config get //{first}/:_authToken; {npm} config ls -l; false",
            REFUSED, "protected"),
        Row("the attacker's registry is asked", AGENT, "{use} --registry=http://{second}/", REFUSED),
        Row("a folder's own registry is asked", AGENT,
            _FOLDER + "echo '{}' > package.json && echo registry=http://{second}/ > .npmrc && {use}", REFUSED),
        Row("a copy of npm", AGENT, "cp -r $(dirname $(dirname $(readlink -f {npm}))) own-npm && "
            "node own-npm/bin/npm-cli.js view {package} version", REFUSED, tells=_STRANGER),
        Row("NODE_OPTIONS is the attacker's", AGENT, "{use}", REFUSED, tells="sets NODE_OPTIONS",
            environment={"NODE_OPTIONS": "--require=/dev/null"}),
    ),
    enroll=enroll,
    unenroll=unenroll,
    used="{soon}",
    name="npm-view",
)  # fmt: skip
