"""pip from PyPI at an index that demands a login: by keyring's command, which is our shim, and by keyring's library.

It installs elsewhere than into its own environment: one that changes itself is another program afterwards.
"""

import contextlib
from collections.abc import Iterator

from tests.e2e.clients.package_index import indexes, names, served
from tests.e2e.clients.python_tools import install, version_of
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients
from tests.fakes.index_server import PACKAGE

RULES = """[[rule]]
agent = "claude"
credential = "keyring/UID/*"
to = "{first}"
"""
OPTIONS = f"--no-input --disable-pip-version-check --no-cache-dir -q download --no-deps -d fetched {PACKAGE}"


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """One index with its password in pip.conf."""
    with indexes(clients) as (first, second):
        address = f"http://alice:{first.password}@{first.host}/simple"
        elsewhere = f"http://alice:{second.password}@{second.host}/simple"
        clients.write(
            ".config/pip/pip.conf", f"# mine\n[global]\nindex-url = {address}\n\n[search]\nindex-url = {elsewhere}\n"
        )
        given = names(clients, first, second)
        yield Stand(
            "pip",
            version_of("pip"),
            {**given, "use": f"rm -rf fetched; {given['bin']}/pip {OPTIONS}"},
            (first.password, second.password),
            served(first, second),
            (".config/pip/pip.conf",),
        )


_PIP = "rm -rf fetched; {bin}/pip "
_FETCH = _PIP + OPTIONS
_OTHER = _PIP + "--index-url http://alice@{second_host}/simple " + OPTIONS

CLIENT = Client(
    "keyring",
    stand,
    RULES,
    (
        Row("pip fetches by the keyring command", TERMINAL, _FETCH),
        Row("pip fetches by the keyring command", PROGRAM, _FETCH),
        Row("pip fetches by keyring's library", PROGRAM, _PIP + "--keyring-provider import " + OPTIONS),
        Row("pip fetches where the rule says", AGENT, _FETCH),
        Row("pip fetches elsewhere", AGENT, _OTHER, REFUSED),
        Row("pip installs elsewhere", PROGRAM, _PIP + f"--no-input -q install --target fetched {PACKAGE}"),
        Row("another process asks as pip does", AGENT, "keyring --mode=creds --output=json get {first}/simple alice",
            REFUSED, "not started by keyring"),
        Row("a copy of pip asks", AGENT, "cp {bin}/pip own-pip; rm -rf fetched; ./own-pip " + OPTIONS, REFUSED),
        Row("python -m pip asks", AGENT, "rm -rf fetched; {bin}/python -m pip " + OPTIONS, REFUSED),
        Row("pip believes another certificate", AGENT, _FETCH, REFUSED, environment={"PIP_CERT": "/etc/hosts"}),
    ),
    ("--binary", "{bin}/pip"),
    prepare=install,
    name="pip",
)  # fmt: skip
