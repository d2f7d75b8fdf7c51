"""git from apt, over HTTP, at a server that demands a password: two repositories there, and a second server."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.demo.machine import run_tool
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server

_CONFIG = """[user]
\tname = Alice
\temail = alice@example.com
[credential]
\thelper = store
\thelper = cache --timeout=60
"""

RULES = """[[rule]]
agent = "claude"
credential = "git/UID/*"
to = "{mine}"
"""
"""Beside what enroll wrote: the user's own programs, any of them."""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two servers with one login each, as git-credential-store keeps them."""
    world = clients.world
    logins = {name: f"alice:{new_password('ghp_')}" for name in ("first", "second")}

    def log_of(name: str) -> Path:
        return world.root / f"logs/git-{name}.jsonl"

    with contextlib.ExitStack() as undo:
        ports = {}
        for name, login in logins.items():
            root = world.root / f"repositories-{name}"
            for repository in ("mine", "other"):
                bare = root / f"{repository}.git"
                subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
                subprocess.run(["git", "-C", str(bare), "config", "http.receivepack", "true"], check=True)
            log_of(name).touch()
            options = (f"--root={root}", f"--login={login}", f"--log={log_of(name)}")
            ports[name] = undo.enter_context(server(clients, "git_server", f"git-{name}", *options))
        lines = [f"http://{logins[name]}@127.0.0.1%3a{ports[name]}\n" for name in logins]
        clients.write(".git-credentials", "".join(lines))
        clients.write(".gitconfig", _CONFIG, 0o644)
        first = f"http://127.0.0.1:{ports['first']}"
        yield Stand(
            "git", run_tool("git", "--version").split()[-1],
            {
                "use": f"git ls-remote {first}/mine.git", "server": f"127.0.0.1:{ports['first']}",
                "mine": f"{first}/mine", "other": f"{first}/other",
                "elsewhere": f"http://127.0.0.1:{ports['second']}/mine", "shim": str(world.shim),
                "unknown": f"http://localhost:{ports['first']}/mine",
            },
            tuple(login.partition(":")[2] for login in logins.values()),
            lambda: sum(sum(login == each for each in _presented(log_of(name))) for name, login in logins.items()),
            (".git-credentials", ".gitconfig", ".gitconfig.agent-broker"),
        )  # fmt: skip


def _presented(log: Path) -> list[str]:
    return [json.loads(line)["presented"] for line in log.read_text().splitlines()]


_PUSH = (
    "rm -rf work && git init -q work && cd work && git commit -q --allow-empty -m x && git push -q {mine}.git HEAD:main"
)
_ASK = r"printf 'protocol=http\nhost={server}\npath=mine.git\n\n'"

CLIENT = Client(
    "git",
    stand,
    RULES,
    (
        Row("fetches", PROGRAM, "git ls-remote {mine}.git"),
        Row("fetches", TERMINAL, "git ls-remote {other}.git"),
        Row("pushes where the rule says", AGENT, _PUSH),
        Row("asks for another repository", AGENT, "git ls-remote {other}.git", REFUSED, "no policy rule lets agent"),
        Row("asks for another server", AGENT, "git ls-remote {elsewhere}.git", REFUSED, "no policy rule lets agent"),
        Row("asks a server that no password is for", PROGRAM, "git ls-remote {unknown}.git", REFUSED,
            "could not read Username"),
        Row("leaves the repository by ..", AGENT, "git ls-remote {mine}/../other.git", REFUSED, "told us to quit"),
        Row("erases a password that the server refused", PROGRAM, "printf 'protocol=http\nhost={server}\n\n' | "
            "git credential reject; git ls-remote {mine}.git"),
        Row("writes no password anywhere", TERMINAL, "git ls-remote {mine}.git", keeps=".git-credentials"),
        Row("another process asks", AGENT, _ASK + " | {shim} git get", REFUSED, "not started by git"),
        Row("git credential fill prints it", AGENT, _ASK + " | git credential fill", REFUSED, "not started by git"),
        Row("a copy of git asks", AGENT, "cp /usr/lib/git-core/git-remote-http ~/git-remote-http; "
            "~/git-remote-http {mine}.git {mine}.git <<< list", REFUSED, "not started by git"),
        Row("a command of its own as helper", PROGRAM, "rm -rf own && git init -q own && cd own && "
            "git config credential.helper '' && git config --add credential.helper '!{shim} git get | tee loot' && "
            "git ls-remote {mine}.git", REFUSED, "another command than the enrolled one"),
        Row("GIT_SSH_COMMAND is set", AGENT, "git ls-remote {mine}.git", REFUSED, "sets GIT_SSH_COMMAND",
            {"GIT_SSH_COMMAND": "/bin/true"}),
        Row("git -c is used", AGENT, "git -c http.sslVerify=false ls-remote {mine}.git", REFUSED,
            "sets GIT_CONFIG_PARAMETERS"),
        Row("a trace is asked for", AGENT, "git ls-remote {mine}.git", REFUSED, "sets GIT_TRACE_CURL",
            {"GIT_TRACE_CURL": "1"}),
        Row("its parts are elsewhere", AGENT, "cp -r /usr/lib/git-core ~/parts; git ls-remote {mine}.git", REFUSED,
            "not started by git", {"GIT_EXEC_PATH": "/proc/self/cwd/../parts"}),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 2 s",
)  # fmt: skip
