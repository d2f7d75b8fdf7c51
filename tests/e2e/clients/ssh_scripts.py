"""Programs of paramiko and asyncssh: scripts that speak the ssh-agent's protocol, and prove no host to it."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version

from tests.e2e.clients.environment import make_program
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.ssh import hosts, limit, ssh_stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients

RULES = """[[rule]]
agent = "claude"
credential = "ssh/UID/id_ed25519"
"""
_PARAMIKO = """#!{python}
import sys, paramiko
client = paramiko.SSHClient()
client.load_host_keys(sys.argv[2])
client.connect("127.0.0.1", int(sys.argv[1]), "root")
print(client.exec_command("echo in")[1].read().decode(), end="")
client.close()
"""
_ASYNCSSH = """#!{python}
import asyncio, os, sys, asyncssh
async def main():
    where = {"username": "root", "known_hosts": sys.argv[2], "config": None}
    if "SSH_AUTH_SOCK" in os.environ:
        agent = await asyncssh.connect_agent()
        where["client_keys"] = await agent.get_keys()
    async with asyncssh.connect("127.0.0.1", int(sys.argv[1]), **where) as host:
        print((await host.run("echo in")).stdout, end="")
asyncio.run(main())
"""
"""Told which keys: otherwise it loads ``~/.ssh/id_ed25519``, and gives up at a decoy."""


def _stand(library: str, text: str) -> Callable[[Clients], AbstractContextManager[Stand]]:
    @contextlib.contextmanager
    def stand(clients: Clients) -> Iterator[Stand]:
        """A program in an environment of its own; the second host lets in only the key that must prove its host."""
        with hosts(clients) as (good, bad):
            bad.authorize((clients.home / ".ssh/work.pub").read_text().strip())
            program = make_program(clients, f"{library}-tool", text, library)
            use = f"{program} {good.port} ~/.ssh/known_hosts"
            other = clients.write("project/other.py", text.partition("\n")[2], 0o644)
            names = {"program": str(program), "environment": str(program.parents[1]), "other": str(other)}
            yield ssh_stand(clients, library, version(library), good, bad, **names, use=use)

    return stand


def _enroll(clients: Clients, stand: Stand) -> None:
    clients.enroll("ssh", "--binary", stand.names["program"])
    limit(clients, "--any-client")


def _client(library: str, text: str) -> Client:
    return Client(
        "ssh",
        _stand(library, text),
        RULES,
        (
            Row("logs in", PROGRAM, _USE),
            Row("logs in", TERMINAL, _USE),
            Row("logs in with the key that a rule is about", AGENT, _USE),
            Row("logs in with a key that must prove its host", PROGRAM,
                f"{_AT} {{program}} {{bad}} {{known}}", REFUSED),
            Row("ssh, beside it, logs in", PROGRAM, "{login}work -p {port} good true"),
            Row("its interpreter runs another script", AGENT,
                f"{_AT} {{environment}}/bin/python {{other}} {{port}} {{known}}", REFUSED),
            Row("its interpreter runs the same text", AGENT,
                f"{_AT} {{environment}}/bin/python - {{port}} {{known}} < {{program}}", REFUSED),
            Row("a copy of it, in its environment, asks", AGENT, "cp {program} {environment}/bin/copy; "
                f"{_AT} {{environment}}/bin/copy {{port}} {{known}}; code=$?; rm {{environment}}/bin/copy; exit $code",
                REFUSED),
            Row("a module of its environment is changed", AGENT, "cd {environment}/lib/python3*/site-packages; "
                "cp -p " + library + "/__init__.py ~/kept; echo >> " + library + "/__init__.py; " + _USE
                + "; code=$?; cp -p ~/kept " + library + "/__init__.py; exit $code", REFUSED),
            Row("modules from elsewhere are named", AGENT, _USE, REFUSED, environment={"PYTHONPATH": "/nowhere"}),
            Row("logs in again", AGENT, _USE),
        ),
        enroll=_enroll,
        used="timeout 20 " + _USE_ALONE,
        name=library,
    )  # fmt: skip


_AT = "SSH_AUTH_SOCK={socket}"
_USE_ALONE = "env SSH_AUTH_SOCK={socket} {use}"
_USE = f"{_AT} {{use}}"

PARAMIKO = _client("paramiko", _PARAMIKO)
ASYNCSSH = _client("asyncssh", _ASYNCSSH)
