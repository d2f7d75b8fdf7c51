"""kubectl's protocol, as a pure function."""

import base64
import json
from datetime import UTC, datetime

import pytest

from agent_broker_shims import kubectl
from agent_broker_shims.port import Answer, NotThisProtocolError, Question

V1 = "client.authentication.k8s.io/v1"
AUTHORITY = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
CLUSTER = {"server": "https://10.0.0.1:6443", "certificate-authority-data": AUTHORITY}


def told(cluster=CLUSTER, version=V1, **more):
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False, "cluster": cluster}, **more}
    return {"KUBERNETES_EXEC_INFO": json.dumps(info)}


@pytest.mark.parametrize("version", [V1, "client.authentication.k8s.io/v1beta1"])
def test_the_cluster_that_kubectl_names_is_what_is_asked_for(version):
    asked = kubectl.question(["alice"], b"", told(version=version))

    required = (("ca_sha256", kubectl.authority_of(AUTHORITY)), ("tls_server_name", ""))
    assert asked == Question("https://10.0.0.1:6443", "alice", requires=required, form=version)


def test_another_authority_or_name_is_another_cluster():
    asked = [
        kubectl.question(["alice"], b"", told(each))
        for each in (CLUSTER, {"server": CLUSTER["server"]}, {**CLUSTER, "tls-server-name": "other"})
    ]

    assert len({each.requires for each in asked}) == 3


@pytest.mark.parametrize(
    ("cluster", "why"),
    [({**CLUSTER, "insecure-skip-tls-verify": True}, b"not checked"), ({"server": "http://10.0.0.1"}, b"without TLS")],
)
def test_what_is_not_checked_gets_nothing(cluster, why):
    answer = kubectl.question(["alice"], b"", told(cluster))

    assert isinstance(answer, Answer)
    assert (answer.exit_code, answer.stdout) == (1, b"")
    assert why in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ([], told()),
        (["alice", "bob"], told()),
        (["alice"], {}),
        (["alice"], {"KUBERNETES_EXEC_INFO": "{"}),
        (["alice"], {"KUBERNETES_EXEC_INFO": "[" * 10_000}),
        (["alice"], {"KUBERNETES_EXEC_INFO": "[]"}),
        (["alice"], told(version="client.authentication.k8s.io/v1alpha1")),
        (["alice"], told(kind="Other")),
        (["alice"], told(cluster=None)),
        (["alice"], told({"server": 1})),
        (["alice"], told({**CLUSTER, "certificate-authority-data": "%"})),
    ],
)
def test_what_is_not_kubectls_is_none(arguments, environment):
    with pytest.raises(NotThisProtocolError):
        kubectl.question(arguments, b"", environment)


@pytest.mark.parametrize("stored", [{"token": "t"}, {"clientCertificateData": "c", "clientKeyData": "k"}])
def test_the_answer_is_what_is_stored_with_an_end(stored):
    asked = Question("https://a", form=V1, asked_s=int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()))

    answer = json.loads(kubectl.answer(asked, "", json.dumps(stored).encode()))

    status = {**stored, "expirationTimestamp": "2026-01-01T00:05:00Z"}
    assert answer == {"apiVersion": V1, "kind": "ExecCredential", "status": status}


def test_what_is_stored_of_another_tool_is_no_answer():
    with pytest.raises(NotThisProtocolError):
        kubectl.answer(Question("https://a"), "", b"password")


def test_kubectl_prints_why_there_is_nothing():
    answer = kubectl.not_found(Question("https://a"))

    assert answer.exit_code == 1
    assert b"enroll" in answer.stderr
