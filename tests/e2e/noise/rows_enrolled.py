"""git and aws in normal use at servers that demand a credential: with the user's own files, then enrolled."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from msgspec import Struct

from tests.e2e.clients import aws, git, uv
from tests.e2e.clients.row import Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients
from tests.e2e.noise.row import Stated

_PUSH = (
    "rm -rf work && git init -q work && cd work && git commit -q --allow-empty -m x && "
    "git push -q {mine}.git HEAD:BRANCH && git fetch -q {mine}.git BRANCH && git ls-remote {mine}.git"
)
_AWS = "{aws} --endpoint-url {url} --profile dev "
_USE_AWS = f"{_AWS} sts get-caller-identity && {_AWS} s3api list-buckets && {_AWS} configure list"
_LIST = f"{_AWS} s3api list-buckets && {_AWS} s3api list-buckets"


_NETRC = "machine example.org login alice password made-up\n"
_READS = "test -f ~/.netrc && rm -rf fetched && {bin}/uv " + uv.OPTIONS
_COPY = "cp {bin}/uv own-uv; rm -rf fetched; ./own-uv " + uv.OPTIONS + " --keyring-provider disabled"


@contextlib.contextmanager
def _uv(clients: Clients) -> Iterator[Stand]:
    """uv's own stand, beside a ~/.netrc, in which it looks at each request."""
    with uv.stand(clients) as found:
        netrc = clients.write(".netrc", _NETRC)
        yield found
        netrc.unlink()


class Use(Stated, frozen=True, kw_only=True):
    """A command, and by whom."""

    who: str
    command: str
    fails: bool = False
    """It is not given the credential."""


class Tool(Struct, frozen=True):
    """A tool at its server."""

    name: str
    stand: Callable[[Clients], AbstractContextManager[Stand]]
    rules: str
    plain: tuple[Use, ...]
    """Before it is enrolled."""
    enrolled: tuple[Use, ...]
    options: tuple[str, ...] = ()
    """Of ``enroll``."""


def _push(name: str, who: str, branch: str) -> Use:
    return Use(f"git push, fetch over http with a password, {name}", who=who, command=_PUSH.replace("BRANCH", branch))


TOOLS = (
    Tool(
        "git",
        git.stand,
        git.RULES,
        plain=(_push("from ~/.git-credentials", TERMINAL, "plain"),),
        enrolled=(
            _push("enrolled, on a terminal", TERMINAL, "typed"),
            _push("enrolled, by a program", PROGRAM, "program"),
            _push("enrolled, by an agent", AGENT, "agent"),
        ),
    ),
    Tool(
        "aws",
        lambda clients: aws.stand(clients, boto3=False),
        aws.RULES,
        plain=(Use("aws sts, s3api, configure list, with ~/.aws/credentials", who=TERMINAL, command=_USE_AWS),),
        enrolled=(
            Use("aws sts, s3api, configure list, enrolled, on a terminal", who=TERMINAL, command=_USE_AWS),
            Use("aws s3api twice, enrolled, by an agent", who=AGENT, command=_LIST),
        ),
        options=("--binary", aws.AWS),
    ),
    Tool(
        "keyring",
        _uv,
        uv.RULES,
        plain=(),
        enrolled=(
            Use("uv pip install with a plain ~/.netrc, enrolled, on a terminal", who=TERMINAL, command=_READS),
            Use("uv pip install with a plain ~/.netrc, enrolled, by an agent", who=AGENT, command=_READS),
            Use(
                "uv pip install with a plain ~/.netrc, a copy of uv",
                1,
                "warning",
                who=PROGRAM,
                command=_COPY,
                fails=True,
            ),
        ),
        options=("--binary", "{bin}/uv"),
    ),
)
ROWS: tuple[Use, ...] = tuple(use for tool in TOOLS for use in (*tool.plain, *tool.enrolled))
