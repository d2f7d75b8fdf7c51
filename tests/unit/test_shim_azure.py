"""``az account get-access-token``, as a pure function, and as azure-identity itself asks and reads it."""

import json
import subprocess
import time

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential

from agent_broker_shims import azure
from agent_broker_shims.port import Answer, NotThisProtocolError, Question

_GET = ["account", "get-access-token", "--output", "json"]
VAULT = "https://vault.azure.net"
NUMBER = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--resource", VAULT], Question(VAULT, name="default", scope=f"{VAULT}/.default")),
        ([f"--resource={VAULT}/"], Question(VAULT, name="default", scope=f"{VAULT}//.default")),
        (["--scope", f"{VAULT}/.default", "-t", "t.example"],
         Question(VAULT, name="t.example", scope=f"{VAULT}/.default")),
        (["--resource", NUMBER], Question(f"api://{NUMBER}", name="default", scope=f"{NUMBER}/.default")),
        (["--resource-type", "ms-graph"], Question("https://graph.microsoft.com", name="default",
                                                    scope="https://graph.microsoft.com//.default")),
        ([], Question("https://management.core.windows.net", name="default",
                      scope="https://management.core.windows.net//.default")),
    ],
)  # fmt: skip
def test_what_a_token_is_asked_for(options, asked):
    assert azure.question([*_GET, *options], b"", {}) == asked


@pytest.mark.parametrize("arguments", [[], ["login"], ["account", "show"], ["account"], ["--version"]])
def test_every_other_command_is_the_azure_clis_own(arguments):
    answer = azure.question(arguments, b"", {})

    assert isinstance(answer, Answer)
    assert (answer.exit_code, answer.stdout) == (2, b"")
    assert b"az login" not in answer.stderr


@pytest.mark.parametrize(
    "options",
    [["--tenant"], ["--tenant", "../x"], ["--tenant", "a", "-t", "a"],
     ["--subscription", "s"], ["--resource", "vault"], ["--scope", "a b://c"],
     ["--query", "accessToken"], ["-o", "tsv"], ["--resource", "https://x\ny"], ["vault"]],
)  # fmt: skip
def test_what_can_t_be_answered_as_az_would_is_refused(options):
    with pytest.raises(NotThisProtocolError):
        azure.question([*_GET, *options], b"", {})


@pytest.mark.parametrize("kept", [b"", b"[]", b"{}", b'{"access_token": "x", "expires_on": "soon", "tenant": "t"}'])
def test_what_is_no_token_is_not_answered(kept):
    with pytest.raises(NotThisProtocolError):
        azure.answer(Question("", name="default"), "", kept)


class Az:
    """What azure-identity starts instead of az: the pure module, with this answer."""

    def __init__(self, token=None, stderr=""):
        self.token, self.stderr, self.asked = token, stderr, []

    def __call__(self, arguments, **_):
        self.asked.append(azure.question(arguments[1:], b"", {}))
        if self.token is None:
            raise subprocess.CalledProcessError(3, arguments, stderr=self.stderr)
        return azure.answer(self.asked[-1], "", json.dumps(self.token).encode()).decode()


def credential(monkeypatch, az, **options):
    monkeypatch.setattr("azure.identity._credentials.azure_cli.shutil.which", lambda name: f"/x/{name}")
    monkeypatch.setattr("azure.identity._credentials.azure_cli.subprocess.check_output", az)
    return AzureCliCredential(**options)


def test_azure_identity_takes_the_token_and_its_end(monkeypatch):
    ends_s = int(time.time()) + 3599
    az = Az({"access_token": "eyJ0.x", "expires_on": ends_s, "tenant": "t"})

    token = credential(monkeypatch, az, tenant_id="t.example").get_token(f"{VAULT}/.default")

    assert (token.token, token.expires_on) == ("eyJ0.x", ends_s)
    assert az.asked == [Question(VAULT, name="t.example", scope=f"{VAULT}/.default")]


def test_a_refusal_ends_azure_identity_and_is_what_the_person_reads(monkeypatch):
    az = Az(stderr="agent-broker: no policy rule lets agent claude use azure/1000/default\n")

    with pytest.raises(ClientAuthenticationError, match="no policy rule lets agent claude"):
        credential(monkeypatch, az).get_token(f"{VAULT}/.default")
