"""uv from PyPI at an index that demands a login: it asks keyring's command, which is our shim."""

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
OPTIONS = f"pip install --no-cache -q --target fetched --python /usr/bin/python3 {PACKAGE}"


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """One index with its password in uv.toml."""
    with indexes(clients) as (first, second):
        clients.write(
            ".config/uv/uv.toml", f'# mine\nindex-url = "http://alice:{first.password}@{first.host}/simple"\n'
        )
        given = names(clients, first, second)
        yield Stand(
            "uv",
            version_of("uv"),
            {**given, "use": f"rm -rf fetched; {given['bin']}/uv {OPTIONS}"},
            (first.password,),
            served(first, second),
            (".config/uv/uv.toml",),
        )


@contextlib.contextmanager
def table_stand(clients: Clients) -> Iterator[Stand]:
    """Two indexes with a password each, in uv.toml's tables; the package is asked of the first."""
    with indexes(clients) as (first, second):
        tables = "".join(
            f'[[index]]\nname = "{name}"  # mine\nurl = "http://alice:{index.password}@{index.host}/simple"\n{more}\n'
            for name, index, more in (("first", first, "default = true\n"), ("second", second, "explicit = true\n"))
        )
        clients.write(".config/uv/uv.toml", tables)
        given = names(clients, first, second)
        yield Stand(
            "uv ([[index]])",
            version_of("uv"),
            {**given, "use": f"rm -rf fetched; {given['bin']}/uv {OPTIONS}"},
            (first.password, second.password),
            served(first, second),
            (".config/uv/uv.toml",),
        )


_UV = "rm -rf fetched; {bin}/uv " + OPTIONS

CLIENT = Client(
    "keyring",
    stand,
    RULES,
    (
        Row("uv installs", TERMINAL, _UV),
        Row("uv installs", PROGRAM, _UV),
        Row("uv installs where the rule says", AGENT, _UV),
        Row("uv always asks, without a user's name", PROGRAM,
            "printf '[[index]]\\nurl = \"{first}/simple\"\\ndefault = true\\nauthenticate = \"always\"\\n' > own.toml; "
            "rm -rf fetched; {bin}/uv --config-file own.toml " + OPTIONS + " --keyring-provider subprocess"),
        Row("uv asks for an index that no password is for", PROGRAM, _UV + " --index-url http://alice@localhost:{port}/simple",
            REFUSED),
        Row("another process asks as uv does", AGENT, "keyring get {first}/simple --mode creds", REFUSED,
            "not started by keyring"),
        Row("a copy of uv asks", AGENT, "cp {bin}/uv own-uv; rm -rf fetched; ./own-uv " + OPTIONS, REFUSED),
        Row("uv believes another certificate", AGENT, _UV, REFUSED, environment={"SSL_CERT_FILE": "/etc/hosts"}),
    ),
    ("--binary", "{bin}/uv"),
    prepare=install,
    name="uv",
)  # fmt: skip

TABLES = Client(
    "keyring",
    table_stand,
    RULES,
    (
        Row("uv installs, and its file has no password", PROGRAM,
            "! grep -q 'alice:' ~/.config/uv/uv.toml && " + _UV),
        Row("uv installs", TERMINAL, _UV),
        Row("uv installs where the rule says", AGENT, _UV),
        Row("uv asks the other index", AGENT,
            _UV + " --no-config --keyring-provider subprocess --index-url http://alice@{second_host}/simple", REFUSED),
        Row("another process asks as uv does", AGENT, "keyring get {first}/simple alice", REFUSED,
            "not started by keyring"),
    ),
    ("--binary", "{bin}/uv"),
    prepare=install,
    name="uv-tables",
)  # fmt: skip
