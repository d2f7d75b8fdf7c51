"""pnpm 12 from npm, at two registries that demand a token: its token helpers are links to the shim."""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tests.demo.machine import run_tool
from tests.e2e.agents_generic.installed import pnpm
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server
from tests.fakes.npm_server import PACKAGE

RULES = """[[rule]]
agent = "claude"
credential = "pnpm/UID/*"
to = "npm://{first}"
"""
_SAFE = "--ignore-scripts --ignore-pnpmfile"


def install() -> None:
    """Download it, if it is not there; raises StepFailedError."""
    pnpm()


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two registries with one token each, as pnpm login keeps them."""
    world, program = clients.world, pnpm()
    tokens = {name: new_password("npm_") for name in ("first", "second")}
    with contextlib.ExitStack() as undo:
        hosts = {}
        for name, token in tokens.items():
            log = world.root / f"logs/pnpm-{name}.jsonl"
            log.touch()
            port = undo.enter_context(server(clients, "npm_server", f"pnpm-{name}", f"--token={token}", f"--log={log}"))
            hosts[name] = f"127.0.0.1:{port}"
        mine = "".join(f"//{hosts[name]}/:_authToken={token}\n" for name, token in tokens.items())
        clients.write(".npmrc", f"; mine\n{mine}fund=false\nregistry=http://{hosts['first']}/\n")
        clients.write("project/package.json", '{"name":"mine","version":"1.0.0"}\n')
        logs = [world.root / f"logs/pnpm-{name}.jsonl" for name in tokens]
        name = hosts["first"].replace(":", "-")
        yield Stand(
            "pnpm", run_tool(str(program), "--version").strip(),
            {
                "use": f"{program} view {_SAFE} {PACKAGE} version", "pnpm": str(program), "safe": _SAFE,
                "package": PACKAGE, **hosts, "unknown": hosts["first"].replace("127.0.0.1", "localhost"),
                "helper": str(world.shim.with_name(f"pnpm@{clients.uid}.{name}")),
            },
            tuple(tokens.values()),
            lambda: _presented(tokens.values(), logs),
            (".npmrc",),
        )  # fmt: skip


def _presented(tokens: Collection[str], logs: Iterable[Path]) -> int:
    lines = [line for each in logs for line in each.read_text().splitlines()]
    return sum(json.loads(line)["presented"] in tokens for line in lines)


_VIEW = "{pnpm} view {safe} {package} version"
_FOLDER = 'rm -rf own && mkdir own && cd own && echo \'{"name":"own","version":"1.0.0"%s}\' > package.json && '
_SCRIPT = ',"scripts":{"preinstall":"echo got $({helper}) > ran"}'
_EMULATED = _FOLDER.replace("%s", _SCRIPT) + r"printf 'packages: []\nshellEmulator: true\n' > pnpm-workspace.yaml && "
_PLAIN = _FOLDER.replace("%s", "")

CLIENT = Client(
    "pnpm",
    stand,
    RULES,
    (
        Row("looks at a package", PROGRAM, "{use}", says="1.0.0"),
        Row("looks at a package", TERMINAL, "{use}", says="1.0.0"),
        Row("installs a package where the rule says", AGENT, _PLAIN + "{pnpm} add {safe} {package}"),
        Row("asks another registry", AGENT, "{use} --registry=http://{second}/", REFUSED,
            tells="npm://{second}; refused: no policy rule lets agent"),
        Row("asks a registry that no token is for", PROGRAM, "{use} --registry=http://{unknown}/", REFUSED),
        Row("a folder's own registry is asked", AGENT,
            _PLAIN + "echo registry=http://{second}/ > .npmrc && {use}", REFUSED),
        Row("a folder names the helper for its own registry", AGENT,
            _PLAIN + r"printf 'registry=http://{second}/\n//{second}/:tokenHelper={helper}\n' > .npmrc && {use}",
            REFUSED, "TOKEN_HELPER_IN_PROJECT_CONFIG"),
        Row("the helper is named for another registry", AGENT,
            "{use} --registry=http://{second}/ --config.//{second}/:tokenHelper={helper}", REFUSED,
            tells="not started by pnpm"),
        Row("another process asks", AGENT, "{helper}; false", REFUSED, "not started by pnpm"),
        Row("pnpm starts the helper as a program", AGENT, "{pnpm} exec {safe} {helper}; false", REFUSED,
            "not started by pnpm"),
        Row("a folder's script asks, in pnpm's own shell", AGENT, _EMULATED + "{pnpm} install; false", REFUSED,
            "not started by pnpm"),
        Row("a folder's script is not run", AGENT, _EMULATED + "{pnpm} add {safe} {package} && test ! -e ran"),
        Row("a folder's hooks may run", AGENT, "{pnpm} view --ignore-scripts {package} version", REFUSED,
            tells="with --ignore-scripts and --ignore-pnpmfile"),
        Row("a folder's setting runs the helper as a shell", AGENT,
            _PLAIN + "echo script-shell={helper} > .npmrc && {pnpm} run {safe} nothing; {pnpm} exec -c nothing; false",
            REFUSED),
        Row("a copy of pnpm asks", AGENT, "cp {pnpm} ~/pnpm && ~/pnpm view {safe} {package}", REFUSED,
            tells="not started by pnpm"),
        Row("the user's settings are the attacker's", AGENT, "cp ~/.npmrc own.npmrc && {use}", REFUSED,
            tells="sets NPM_CONFIG_USERCONFIG", environment={"NPM_CONFIG_USERCONFIG": "own.npmrc"}),
        Row("HOME is the attacker's", AGENT, "mkdir -p own && cp ~/.npmrc own && HOME=$PWD/own {use}", REFUSED,
            tells="its HOME is not"),
        Row("writes no token anywhere", TERMINAL, "{use}", keeps=".npmrc"),
    ),
    options=("--binary", "{pnpm}"),
    prepare=install,
)  # fmt: skip
