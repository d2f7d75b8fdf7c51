"""git and pip, enrolled, with a password in ~/.netrc, where they look before they ask: it is a view that they read."""

import contextlib
from collections.abc import Iterator

from tests.demo.check import require
from tests.e2e.clients import git, pip, viewed
from tests.e2e.clients.netrc import STRANGER
from tests.e2e.clients.package_index import indexes, names, served
from tests.e2e.clients.python_tools import install, version_of
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients

RULES = """[[rule]]
agent = "claude"
credential = "file.netrc/UID/content"
modes = ["view"]
"""


@contextlib.contextmanager
def git_stand(clients: Clients) -> Iterator[Stand]:
    """git's own stand, with the first server's password in ~/.netrc and in no file of git's."""
    with git.stand(clients) as found:
        (clients.home / ".git-credentials").unlink()
        password = found.secrets[0]
        clients.write(".netrc", f"machine 127.0.0.1 login alice password {password}\n")
        soon = f"timeout -s KILL 5 {found.names['use']}"
        names = {**found.names, "soon": soon, "file": ".netrc", "for": "--for git"}
        yield Stand("git (~/.netrc)", found.version, names, found.secrets, found.served, (".netrc", ".gitconfig"))
        (clients.home / ".netrc").unlink()


@contextlib.contextmanager
def pip_stand(clients: Clients) -> Iterator[Stand]:
    """An index that no file of pip's has a password of."""
    with indexes(clients) as (first, second):
        clients.write(".netrc", f"machine 127.0.0.1\nlogin alice\npassword {first.password}\n")
        clients.write(".config/pip/pip.conf", f"[global]\nindex-url = {first.url}/simple\n")
        given = names(clients, first, second)
        fetch = f"{given['bin']}/pip {pip.OPTIONS}"
        uses = {"use": f"rm -rf fetched; {fetch}", "soon": f"timeout -s KILL 20 {fetch}"}
        yield Stand(
            "pip (~/.netrc)", version_of("pip"), {**given, **uses, "file": ".netrc", "for": "--for keyring"},
            (first.password,), served(first, second), (".netrc", ".config/pip/pip.conf"),
        )  # fmt: skip
        (clients.home / ".netrc").unlink()


def _enroll(clients: Clients, stand: Stand, tool: str, *options: str) -> None:
    told = clients.enroll(tool, *options)
    hint = f"enroll --file {clients.home}/.netrc --for {tool}"
    require(hint in " ".join(told.split()), f"the plan to say {hint}", told)
    viewed.enroll(clients, stand)


GIT = Client(
    "netrc",
    git_stand,
    RULES,
    (
        Row("fetches", PROGRAM, "{use}"),
        Row("fetches", TERMINAL, "{use}"),
        Row("fetches, where a rule says so", AGENT, "{use}"),
        Row("another program reads the file", AGENT, "cat ~/.netrc; false", REFUSED, "login alice", tells=STRANGER),
        Row("curl, which was not named", AGENT, "curl -q -sSfn {mine}.git/info/refs?service=git-upload-pack", REFUSED,
            "401", tells=STRANGER),
        Row("git itself reads the file", AGENT, "git hash-object ~/.netrc; git diff --no-index /dev/null ~/.netrc; "
            "git config -f ~/.netrc -l; false", REFUSED, tells=STRANGER),
        Row("a copy of git", AGENT, "cp /usr/lib/git-core/git-remote-http ~/git-remote-http; "
            "~/git-remote-http {mine}.git {mine}.git <<< list", REFUSED, tells=STRANGER),
        Row("a trace is asked for", AGENT, "{use}", REFUSED, tells="sets GIT_TRACE_CURL",
            environment={"GIT_TRACE_CURL": "1"}),
        Row("git -c is used", AGENT, "git -c http.proxy=http://127.0.0.1:9 ls-remote {mine}.git", REFUSED,
            tells="sets GIT_CONFIG_PARAMETERS"),
    ),
    enroll=lambda clients, stand: _enroll(clients, stand, "git"),
    unenroll=lambda clients, stand: _unenroll(clients, stand, "git"),
    used="{soon}",
    name="git-netrc",
)  # fmt: skip

PIP = Client(
    "netrc",
    pip_stand,
    RULES,
    (
        Row("fetches", PROGRAM, "{use}"),
        Row("fetches", TERMINAL, "{use}"),
        Row("fetches, where a rule says so", AGENT, "{use}"),
        Row("another program reads the file", AGENT, "cat ~/.netrc; false", REFUSED, "login alice", tells=STRANGER),
        Row("python -m pip reads the file", AGENT, "rm -rf fetched; {bin}/python -m pip " + pip.OPTIONS, REFUSED,
            tells=STRANGER),
        Row("a copy of pip", AGENT, "cp {bin}/pip own-pip; rm -rf fetched; ./own-pip " + pip.OPTIONS, REFUSED,
            tells=STRANGER),
        Row("PYTHONPATH is the attacker's", AGENT, "{use}", REFUSED, tells="sets PYTHONPATH",
            environment={"PYTHONPATH": "/tmp"}),
    ),
    prepare=install,
    enroll=lambda clients, stand: _enroll(clients, stand, "keyring", "--binary", stand.names["bin"] + "/pip"),
    unenroll=lambda clients, stand: _unenroll(clients, stand, "keyring"),
    used="{soon}",
    name="pip-netrc",
)  # fmt: skip


def _unenroll(clients: Clients, stand: Stand, tool: str) -> None:
    viewed.unenroll(clients, stand)
    clients.unenroll(tool)
