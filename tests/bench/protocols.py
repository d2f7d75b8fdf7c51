"""The protocols whose shim is timed, one line each: what the client sends, and what the vault holds for it.

Nothing of the product is imported here: bars.py makes a bar of each line, and whoever reads bars shares pages with the
daemons (tests.bench.daemons).
"""

from collections.abc import Mapping
from typing import NamedTuple


class Protocol(NamedTuple):
    """One tool's shim, asked as its client does."""

    tool: str
    command: tuple[str, ...]
    """What the shim is given: the protocol's name, and arguments."""
    stdin: bytes
    to: str
    """What the credential is for (vault.record.DESTINATION_ATTRIBUTE); empty: it is bound to no place."""
    secret: bytes = b"a password of the bench, worth nothing"
    environment: Mapping[str, str] = {}
    attributes: Mapping[str, str] = {}
    """Of the credential, besides its destination."""


_PAIR = b'{"aws_access_key_id": "AKID", "aws_secret_access_key": "of the bench"}'
_LOGIN = {"username": "alice"}
_TOKEN = b'{"access_token": "of the bench", "expires_on": 4102444800, "tenant": "bench"}'
"""Released as it is: a login of Azure's is kept as what tokens are made from, and Microsoft is not on this machine."""
_CLUSTER = (
    '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", '
    '"spec": {"interactive": false, "cluster": {"server": "https://kubectl.bench"}}}'
)

PROTOCOLS = (
    Protocol("git", ("git", "get"), b"protocol=https\nhost=git.bench\npath=a/b.git\n\n", "https://git.bench",
             attributes=_LOGIN),
    Protocol("docker", ("docker-credential-agent-broker", "get"), b"docker.bench", "docker://docker.bench",
             attributes=_LOGIN),
    Protocol("cargo", ("--cargo-plugin",),
             b'{"v":1,"registry":{"index-url":"sparse+https://cargo.bench/i/"},"kind":"get","operation":"read"}\n',
             "https://cargo.bench/i"),
    Protocol("aws", ("aws", "bench"), b"", "", _PAIR, attributes={"profile": "bench"}),
    Protocol("kubectl", ("kubectl", "bench"), b"", "https://kubectl.bench", b'{"token": "of the bench"}',
             {"KUBERNETES_EXEC_INFO": _CLUSTER}, {"username": "bench"}),
    Protocol("azure", ("az", "account", "get-access-token", "--output", "json", "--resource", "https://azure.bench"),
             b"", "", _TOKEN, attributes={"profile": "default"}),
    Protocol("pnpm", ("pnpm", "1000.bench"), b"", "npm://pnpm.bench", attributes={"profile": "bench"}),
    Protocol("keyring", ("keyring", "get", "https://keyring.bench/simple", "alice"), b"", "https://keyring.bench",
             attributes=_LOGIN),
)  # fmt: skip
