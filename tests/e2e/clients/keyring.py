"""keyring's library with our backend: its own tests of backends, at the real broker, and who may store."""

import contextlib
from collections.abc import Iterator

from tests.e2e.clients.package_index import indexes, names, served
from tests.e2e.clients.python_tools import install, version_of
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients

RULES = """[[rule]]
session = "user"
credential = "keyring/UID/*"
modes = ["release", "store"]
[[rule]]
agent = "claude"
credential = "keyring/UID/*"
"""
_SUITE = """import pytest
from agent_broker_keyring import BrokerKeyring
from keyring.testing.backend import BackendBasicTests

class TestBroker(BackendBasicTests):
    def init_keyring(self):
        return BrokerKeyring()
"""
_SET = """import keyring

def test_it():
    keyring.set_password('{service}', 'alice', 'said')
    assert keyring.get_password('{service}', 'alice') == 'said'
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """A password that twine had, and tests that set others."""
    with indexes(clients) as (first, second):
        lines = ["[distutils]", "index-servers =", "    first", "[first]", f"repository = {first.url}/legacy/"]
        clients.write(".pypirc", "\n".join([*lines, "username = alice", f"password = {first.password}", ""]))
        clients.write("project/suite/test_suite.py", _SUITE)
        for name, service in (("own", "a-service"), ("covered", f"{first.url}/legacy/")):
            clients.write(f"project/{name}/test_{name}.py", _SET.replace("{service}", service))
        given = names(clients, first, second)
        use = f"{given['bin']}/twine upload --non-interactive --disable-progress-bar -r first {given['wheel']}"
        yield Stand(
            "keyring",
            version_of("keyring"),
            {**given, "use": use},
            (first.password,),
            served(first, second),
            (".pypirc",),
        )


_PYTEST = "{bin}/pytest -q -p no:cacheprovider -W ignore "
_SEEN = " && {bin}/twine upload --non-interactive --disable-progress-bar -r first {wheel}"
"""A row works if the server was asked with the real password, too."""

CLIENT = Client(
    "keyring",
    stand,
    RULES,
    (
        Row("keyring's own tests of a backend pass", PROGRAM, _PYTEST + "suite" + _SEEN, says="15 passed"),
        Row("keyring's own tests of a backend pass", TERMINAL, _PYTEST + "suite" + _SEEN, says="15 passed"),
        Row("a program sets a password", PROGRAM, _PYTEST + "own" + _SEEN, says="1 passed"),
        Row("an agent's program is given root's", AGENT, "{use}"),
        Row("an agent's program sets one, without a rule", AGENT, _PYTEST + "own", REFUSED,
            "no policy rule lets agent"),
        Row("a program sets one where root's is", PROGRAM, _PYTEST + "covered", REFUSED, "root keeps the password"),
        Row("a script that is not enrolled sets one", PROGRAM,
            "{bin}/python -c \"import keyring; keyring.set_password('s', 'u', 'p')\"", REFUSED,
            "not started by keyring"),
        Row("the command sets none", PROGRAM, "echo p | keyring set {first}/legacy/ alice", REFUSED,
            "by keyring's library"),
    ),
    ("--binary", "{bin}/pytest", "--binary", "{bin}/twine"),
    prepare=install,
)  # fmt: skip
