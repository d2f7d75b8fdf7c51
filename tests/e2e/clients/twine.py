"""twine from PyPI at an index that takes uploads from whoever has a login: it asks our backend of keyring."""

import contextlib
from collections.abc import Iterator, Mapping

from tests.e2e.clients.package_index import Index, indexes, names, served
from tests.e2e.clients.python_tools import install, version_of
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients

RULES = """[[rule]]
agent = "claude"
credential = "keyring/UID/*"
to = "{first}"
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two servers in ``~/.pypirc``."""
    with indexes(clients) as (first, second):
        clients.write(".pypirc", pypirc({"first": first, "second": second}))
        given = names(clients, first, second)
        yield Stand(
            "twine",
            version_of("twine"),
            {**given, "use": f"{given['bin']}/twine {OPTIONS} -r first {given['wheel']}"},
            (first.password, second.password),
            served(first, second),
            (".pypirc",),
        )


def pypirc(servers: Mapping[str, Index]) -> str:
    """Return the text of ``~/.pypirc``."""
    lines = ["[distutils]", "index-servers =", *(f"    {name}" for name in servers), ""]
    for name, each in servers.items():
        lines += [f"[{name}]", f"repository = {each.url}/legacy/", "username = alice", f"password = {each.password}"]
    return "\n".join([*lines, ""])


OPTIONS = "upload --non-interactive --disable-progress-bar"
_UPLOAD = "{bin}/twine " + OPTIONS + " -r first {wheel}"

CLIENT = Client(
    "keyring",
    stand,
    RULES,
    (
        Row("twine uploads", TERMINAL, _UPLOAD),
        Row("twine uploads", PROGRAM, _UPLOAD),
        Row("twine uploads where the rule says", AGENT, _UPLOAD),
        Row("twine uploads elsewhere", AGENT, "{bin}/twine " + OPTIONS + " -r second {wheel}", REFUSED,
            "no policy rule lets agent"),
        Row("another process asks as twine does", AGENT, "{bin}/keyring get {first}/legacy/ alice", REFUSED,
            "not started by keyring"),
        Row("a script of the attacker's asks by the library", AGENT,
            "echo 'import keyring; print(keyring.get_password(\"{first}/legacy/\", \"alice\"))' > ~/own.py; "
            "{bin}/python ~/own.py", REFUSED, "not started by keyring"),
        Row("PYTHONPATH is the attacker's", AGENT, _UPLOAD, REFUSED, "sets PYTHONPATH", {"PYTHONPATH": "/tmp"}),
        Row("twine believes another certificate", AGENT, _UPLOAD, REFUSED, "sets TWINE_CERT",
            {"TWINE_CERT": "/etc/hosts"}),
    ),
    ("--binary", "{bin}/twine"),
    down_says="agent-broker",
    slow_says="agent-broker",
    prepare=install,
    name="twine",
)  # fmt: skip
