"""kubectl's credential plugin: one argument, the kubeconfig's user; the cluster comes in ``KUBERNETES_EXEC_INFO``.

Read from kubectl 1.20 and 1.32 and the Python client 37 (client-go, plugin/pkg/client/auth/exec; ``v1`` and ``v1beta1``
of client.authentication.k8s.io differ in nothing that is used here). kubectl sets the variable itself, over whatever
its own environment or the kubeconfig says, so the server in it is the one that it will talk to: with ``--server`` and
a changed kubeconfig too.

A credential is for its server, believed by the certificate authority and the name that it was enrolled with, and for
nothing that is not checked. What is stored is ``{"token": ...}`` or the certificate and key, as the answer has them.
Every answer ends after LIFETIME_S, so that a client that goes on for hours asks again; nothing else makes it.

kubectl runs a plugin that fails once more, and prints its stderr each time. The Python client goes on without login.
"""

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Final

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "kubectl"
VARIABLE: Final = "KUBERNETES_EXEC_INFO"
AUTHORITY: Final = "ca_sha256"
"""Of the certificates that the server is checked with, as kubectl hands them on; empty: the machine's own."""
SERVER_NAME: Final = "tls_server_name"
"""Which name its certificate must be for; empty: the server's."""
VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
LIFETIME_S: Final = 300
_UNCHECKED: Final = (
    b"agent-broker: nothing is given to a server that is not checked: without insecure-skip-tls-verify\n"
)
_IN_CLEAR: Final = b"agent-broker: nothing is given to a server without TLS: kubectl must be told https://\n"
_NOT_FOUND: Final = (
    b"agent-broker keeps no credential of this user for this server with this certificate authority; if the cluster "
    b"changed: sudo agent-broker unenroll kubectl, then enroll it again\n"
)


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return which user's credential is asked for, and for which cluster.

    Raises:
        NotThisProtocolError: kubectl does not call it so, or does not say which cluster it is about.
    """
    del stdin
    if len(arguments) != 1:
        raise NotThisProtocolError("the argument is the name of a user in the kubeconfig")
    info = _loaded(environment.get(VARIABLE, ""))
    version, spec = info.get("apiVersion"), info.get("spec")
    if info.get("kind") != "ExecCredential" or version not in VERSIONS or not isinstance(spec, dict):
        raise NotThisProtocolError(f"{VARIABLE} is no ExecCredential of a version that is known")
    cluster = spec.get("cluster")
    if not isinstance(cluster, dict):
        raise NotThisProtocolError("no cluster is named: provideClusterInfo must be true in the kubeconfig")
    if cluster.get("insecure-skip-tls-verify"):
        return Answer(1, stderr=_UNCHECKED)
    server = _text(cluster, "server")
    if not server.startswith("https://"):
        return Answer(1, stderr=_IN_CLEAR)
    wanted = {AUTHORITY: authority_of(_text(cluster, "certificate-authority-data")),
              SERVER_NAME: _text(cluster, "tls-server-name")}  # fmt: skip
    return Question(server, arguments[0], requires=tuple(wanted.items()), form=str(version))


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what kubectl reads; it is good for LIFETIME_S after ``asked.asked_s``.

    Raises:
        NotThisProtocolError: what is stored is no credential of this tool's.
    """
    del username
    try:
        stored = json.loads(password)
    except ValueError as error:
        raise NotThisProtocolError("what is stored is no credential of kubectl's") from error
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(asked.asked_s + LIFETIME_S))
    status = {**stored, "expirationTimestamp": ends}
    return json.dumps({"apiVersion": asked.form, "kind": "ExecCredential", "status": status}).encode() + b"\n"


def not_found(asked: Question) -> Answer:
    """Return what kubectl prints."""
    del asked
    return Answer(1, stderr=_NOT_FOUND)


def authority_of(data: str) -> str:
    """Return the fingerprint of a kubeconfig's ``certificate-authority-data``; empty: there is none.

    Raises:
        NotThisProtocolError: it is not base64.
    """
    if not data:
        return ""
    try:
        return hashlib.sha256(base64.b64decode("".join(data.split()), validate=True)).hexdigest()
    except binascii.Error as error:
        raise NotThisProtocolError("certificate-authority-data is not base64") from error


def _loaded(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotThisProtocolError(f"{VARIABLE} is not JSON") from error
    if not isinstance(found, dict):
        raise NotThisProtocolError(f"{VARIABLE} is no object")
    return found


def _text(cluster: Mapping[str, object], name: str) -> str:
    value = cluster.get(name) or ""
    if not isinstance(value, str):
        raise NotThisProtocolError(f"{name} is no text")
    return value
