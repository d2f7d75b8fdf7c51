"""kubectl from apt at an API server on loopback, with kubeconfigs as administrators hand them out."""

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.demo.machine import run_tool
from tests.e2e.clients.certificate import make_certificate
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server

KUBECTL = "/usr/bin/kubectl"

RULES = """[[rule]]
agent = "claude"
credential = "kubectl/UID/alice"
to = "{server}"
"""

_CONFIG = """# the clusters of the team
apiVersion: v1
kind: Config
clusters:
- name: first
  cluster:
    server: {server}   # the first one
    certificate-authority-data: {authority}
- name: second
  cluster: {{server: "{second}", certificate-authority-data: {authority2}}}
contexts:
- name: first
  context: {{cluster: first, user: alice, namespace: default}}
- name: second
  context:
    cluster: second
    user: bob
- name: third
  context:
    cluster: first
    user: carol
current-context: first
users:
- name: alice
  user:
    token: {token}   # until December
- name: bob
  user: {{token: "{token2}"}}
- name: carol
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
preferences: {{}}
"""
_FURTHER = """apiVersion: v1
kind: Config
contexts:
- context: {{cluster: first, user: dave}}
  name: keys
- context: {{cluster: first, user: erin}}
  name: a file
users:
- name: dave
  user: {{client-certificate: pki/dave.crt, client-key: pki/dave.key}}
- name: erin
  user:
    tokenFile: erin.token
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two clusters, and users with a token, a certificate, and files of both."""
    tokens = {name: new_password() for name in ("first", "second")}
    logs = clients.world.root / "logs"
    names = {
        "kubectl": KUBECTL,
        "use": f"{KUBECTL} get pods",
        "shim": str(clients.world.shim),
        "python": sys.executable,
    }
    keys = _certificates(logs)
    with contextlib.ExitStack() as undo:
        for name, token in tokens.items():
            log = logs / f"cluster-{name}.jsonl"
            log.touch()
            certificate, key = make_certificate(logs, f"cluster-{name}")
            options = (f"--token={token}", f"--log={log}", f"--certificate={certificate}", f"--key={key}")
            options += (f"--authority={logs / 'users.crt'}", f"--once={clients.home / 'refuse-once'}")
            port = undo.enter_context(server(clients, "kube_server", f"cluster-{name}", *options))
            names[f"server-{name}"] = f"https://127.0.0.1:{port}"
            names[f"authority-{name}"] = _base64(certificate)
        names |= {
            "server": names["server-first"],
            "second": names["server-second"],
            "once": str(clients.home / "refuse-once"),
        }
        _write(clients, names, tokens, keys)
        version = json.loads(run_tool(KUBECTL, "version", "--client", "-o", "json"))["clientVersion"]["gitVersion"]
        held = (*tokens.values(), *(_base64(key) for _, key in keys.values()))
        yield Stand(
            "kubectl", version, names, held, lambda: _presented(logs, tokens),
            (".kube/config", ".kube/further", ".kube/pki/dave.key", ".kube/erin.token"),
        )  # fmt: skip


def _write(clients: Clients, names: dict[str, str], tokens: dict[str, str], keys: dict[str, tuple[Path, Path]]) -> None:
    certificate, key = keys["carol"]
    config = _CONFIG.format(
        server=names["server"], second=names["second"], authority=names["authority-first"],
        authority2=names["authority-second"], token=tokens["first"], token2=tokens["second"],
        certificate=_base64(certificate), key=_base64(key),
    )  # fmt: skip
    clients.write(".kube/config", config)
    clients.write(".kube/further", _FURTHER.format().replace("\n", "\r\n"))
    certificate, key = keys["dave"]
    clients.write(".kube/pki/dave.crt", certificate.read_text())
    clients.write(".kube/pki/dave.key", key.read_text())
    clients.write(".kube/erin.token", tokens["first"] + "\n")
    clients.write(".profile", "export KUBECONFIG=$HOME/.kube/config:$HOME/.kube/further\n")


def _certificates(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Make an authority, and a certificate of it for each user."""
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority, authority_key = folder / "users.crt", folder / "users.key"
    run_tool("openssl", "req", "-x509", *ec, "-days", "2", "-subj", "/CN=users",
             "-keyout", str(authority_key), "-out", str(authority))  # fmt: skip
    made = {}
    for name in ("carol", "dave"):
        certificate, key, request = (folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        run_tool("openssl", "req", *ec, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        run_tool("openssl", "x509", "-req", "-days", "2", "-in", str(request), "-CA", str(authority),
                 "-CAkey", str(authority_key), "-CAcreateserial", "-out", str(certificate))  # fmt: skip
        made[name] = certificate, key
    return made


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _presented(logs: Path, tokens: dict[str, str]) -> int:
    """Count the requests that came with a real credential, to whatever server."""
    lines = [json.loads(line) for log in logs.glob("cluster-*.jsonl") for line in log.read_text().splitlines()]
    return sum(line["token"] in tokens.values() or bool(line["name"]) for line in lines)


_GET = "{kubectl} get pods"
_BOTH = "export KUBECONFIG=$HOME/.kube/config:$HOME/.kube/further; "
INFO = (
    '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false,"cluster":'
    '{"server":"{server}","certificate-authority-data":"{authority-first}"}}}'
)
_OWN = "sed 's#{server} #{second} #; s#{authority-first}#{authority-second}#' ~/.kube/config > ~/own; "
_PYTHON = (
    "import kubernetes as k; k.config.load_kube_config(); print(k.client.CoreV1Api().list_namespaced_pod('default'))"
)
_PROXY = (
    "{kubectl} proxy --port=0 > ~/proxy & until grep -q Starting ~/proxy; do sleep 0.1; done; "
    "curl -sSf http://$(grep -o '127.*' ~/proxy)/api/v1/namespaces/default/pods; code=$?; kill %1; exit $code"
)

CLIENT = Client(
    "kubectl",
    stand,
    RULES,
    (
        Row("lists pods", PROGRAM, _GET, says="web"),
        Row("lists pods", TERMINAL, _GET, says="web"),
        Row("lists pods where the rule says", AGENT, _GET, says="web"),
        Row("logs in with a certificate", PROGRAM, "{kubectl} --context third get pods", says="web"),
        Row("logs in with a key's file, in a second kubeconfig", PROGRAM, _BOTH + "{kubectl} --context keys get pods",
            says="web"),
        Row("logs in with a token's file, in a second kubeconfig", PROGRAM,
            _BOTH + "{kubectl} --context 'a file' get pods", says="web"),
        Row("is told to show the kubeconfig and what it sends", PROGRAM,
            "{kubectl} config view --raw --flatten && {kubectl} -v=10 get pods", says="provideClusterInfo"),
        Row("the server refuses once", PROGRAM, "touch {once}; {kubectl} get pods; {kubectl} get pods",
            says="Unauthorized"),
        Row("asks another cluster", AGENT, "{kubectl} --context second get pods", REFUSED, "no policy rule lets agent"),
        Row("asks as another user", AGENT, "{kubectl} --user carol get pods", REFUSED, "no policy rule lets agent"),
        Row("the kubeconfig has the attacker's server", AGENT, _OWN + "{kubectl} --kubeconfig ~/own get pods", REFUSED,
            "keeps no credential of this user for this server"),
        Row("KUBECONFIG has the attacker's server and authority", AGENT, _OWN + _GET, REFUSED,
            "keeps no credential of this user for this server", {"KUBECONFIG": "../own"}),
        Row("--server is the attacker's", AGENT, "{kubectl} --server {second} get pods", REFUSED,
            "keeps no credential of this user for this server"),
        Row("the certificate is not checked", AGENT, "{kubectl} --server {second} --insecure-skip-tls-verify get pods",
            REFUSED, "not checked"),
        Row("a proxy for everybody", AGENT, _PROXY, REFUSED, "not started by kubectl"),
        Row("another process asks", AGENT, f"KUBERNETES_EXEC_INFO='{INFO}' {{shim}} kubectl alice", REFUSED,
            "not started by kubectl"),
        Row("a program in Python asks", AGENT, f'{{python}} -c "{_PYTHON}"', REFUSED, "not started by kubectl"),
        Row("a copy of kubectl asks", AGENT, "cp -L {kubectl} ~/kubectl && ~/kubectl get pods", REFUSED,
            "not started by kubectl"),
        Row("it is renamed", AGENT, "(exec -a helm {kubectl} get pods)", REFUSED, "not started by kubectl"),
        Row("a plugin of its own asks for it", AGENT, "printf '#!/bin/sh\nexec {shim} kubectl alice' > ~/plugin; "
            'chmod +x ~/plugin; sed "s#command: .*#command: $HOME/plugin#" ~/.kube/config > ~/own; '
            "{kubectl} --kubeconfig ~/own get pods", REFUSED, "stands between it and the shim"),
        Row("the kubeconfig says which cluster it is", AGENT, _OWN + "sed -i 's#env: null#env: [{name: "
            f"KUBERNETES_EXEC_INFO, value: '\"'\"'{INFO}'\"'\"'}}]#' ~/own; {{kubectl}} --kubeconfig ~/own get pods",
            REFUSED, "keeps no credential of this user for this server"),
        Row("the cluster is not named", AGENT, "sed 's#provideClusterInfo: true#provideClusterInfo: false#' "
            "~/.kube/config > ~/own; {kubectl} --kubeconfig ~/own get pods", REFUSED, "no cluster is named"),
        Row("another authority of Go's is set", AGENT, _GET, REFUSED, "sets SSL_CERT_FILE",
            {"SSL_CERT_FILE": "/dev/null"}),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 2 s",
)  # fmt: skip
