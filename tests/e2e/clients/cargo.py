"""cargo from apt, at two registries that demand a token: the owners of a crate are what it asks for."""

import contextlib
import json
from collections.abc import Iterator

from tests.demo.machine import run_tool
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server

CARGO = "/usr/bin/cargo"

RULES = """[[rule]]
agent = "claude"
credential = "cargo/UID/*"
to = "{index}"
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two registries with one token each, as cargo login keeps them."""
    world = clients.world
    tokens = {name: new_password("crt_") for name in ("first", "second")}
    with contextlib.ExitStack() as undo:
        ports = {}
        for name, token in tokens.items():
            log = world.root / f"logs/cargo-{name}.jsonl"
            log.touch()
            ports[name] = undo.enter_context(
                server(clients, "cargo_server", f"cargo-{name}", f"--token={token}", f"--log={log}")
            )
        index = {name: f"http://127.0.0.1:{port}/index/" for name, port in ports.items()}
        settings = [f'[registries.{name}]\nindex = "sparse+{index[name]}"\n' for name in index]
        clients.write(".cargo/config.toml", "# mine\n[net]\nretry = 0\n\n" + "\n".join(settings), 0o644)
        held = [f'[registries.{name}]\ntoken = "{token}"\n' for name, token in tokens.items()]
        clients.write(".cargo/credentials.toml", "\n".join(held))
        log = world.root / "logs/cargo-first.jsonl"
        yield Stand(
            "cargo", run_tool(CARGO, "--version").split()[1],
            {
                "use": f"{CARGO} owner --list --registry first mine", "cargo": CARGO, "shim": str(world.shim),
                "other": f"{CARGO} owner --list --registry second mine", "index": index["first"],
                "unknown": f"sparse+http://localhost:{ports['first']}/index/",
            },
            tuple(tokens.values()),
            lambda: sum(json.loads(line)["presented"] == tokens["first"] for line in log.read_text().splitlines()),
            (".cargo/config.toml", ".cargo/credentials.toml"),
        )  # fmt: skip


ASK = (
    r"""printf '{"v":1,"registry":{"index-url":"sparse+{index}","name":"first"},"kind":"get","operation":"owners","""
    r""""args":[]}\n' | {shim} --cargo-plugin"""
)
ELSEWHERE = (
    "rm -rf own && mkdir -p own/.cargo && cd own && "
    r"""printf '[registries.evil]\nindex = "{unknown}"\ncredential-provider = "{shim}"\n' """
    "> .cargo/config.toml && "
    "{cargo} owner --list --registry evil mine"
)

CLIENT = Client(
    "cargo",
    stand,
    RULES,
    (
        Row("asks who owns a crate", PROGRAM, "{use}"),
        Row("asks who owns a crate", TERMINAL, "{use}"),
        Row("asks where the rule says", AGENT, "{use}"),
        Row("asks another registry", AGENT, "{other}", REFUSED, "no policy rule lets agent"),
        Row("a project's own registry wants the token", AGENT, ELSEWHERE, REFUSED, "no token found"),
        Row("logs out, and the token stays", PROGRAM, "{cargo} logout --registry first; {use}",
            says="agent-broker logout"),
        Row("another process asks", AGENT, ASK + "; false", REFUSED, "not started by cargo"),
        Row("a copy of cargo asks", AGENT, "cp {cargo} ~/cargo && ~/cargo owner --list --registry first mine", REFUSED,
            "not started by cargo"),
        Row("--config is the attacker's", AGENT, "{use} --config=net.retry=1", REFUSED, "not started by cargo"),
        Row("CARGO_HTTP_CAINFO is the attacker's", AGENT, "{use}", REFUSED, "sets CARGO_HTTP_CAINFO",
            {"CARGO_HTTP_CAINFO": "/etc/ssl/certs/ca-certificates.crt"}),
        Row("writes no token anywhere", TERMINAL, "{use}", keeps=".cargo/credentials.toml"),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 2 s",
)  # fmt: skip
