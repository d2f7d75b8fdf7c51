"""What tools keep in a home, with the secrets in it."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

GIT_PASSWORDS = ("ghp_" + "Gi7" * 12, "glpat-" + "Gl9" * 8)
GIT_CREDENTIALS = f"https://ann:{GIT_PASSWORDS[0]}@github.com\nhttps://ann:{GIT_PASSWORDS[1]}@gitlab.example.com\n"

_LOGIN = base64.b64encode(b"ann:" + b"Dk5" * 12).decode()
_TOKEN = "eyJ" + "Tk3" * 20
DOCKER_SECRETS = (_LOGIN, _TOKEN)
DOCKER_AUTHS = {"ghcr.io": {"auth": _LOGIN}, "registry.example.com": {"auth": "", "identitytoken": _TOKEN}}

CARGO_TOKENS = ("cio" + "Cr5" * 10, "crt_" + "Mi3" * 10)
CARGO_CREDENTIALS = f"""\
[registry]
token = "{CARGO_TOKENS[0]}" # of crates.io

[registries.mine]
token = "{CARGO_TOKENS[1]}"
"""
CARGO_CONFIG = '[registries]\nmine = { index = "sparse+https://mine.example.com/index/" }\n'

SSH_KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
SSH_SECRETS = (SSH_KEY.splitlines()[-3],)
"""A line of its private half."""

AWS_SECRETS = ("wJalrXUtnFEMI/K7MDENG/" + "Aw2" * 6, "je7MtGbClwBF/" + "Aw3" * 9)
AWS_CREDENTIALS = f"""\
# keys
[default]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = {AWS_SECRETS[0]}
"""
AWS_CONFIG = f"""\
[default]
region = eu-west-1
[profile dev]
aws_access_key_id = AKIAI44QH8DHBEXAMPLE
aws_secret_access_key = {AWS_SECRETS[1]}
"""

KUBE_TOKENS = ("token-of-alice-" + "Ku1" * 6, "token-of-erin-" + "Ku2" * 6)
KUBE_CONFIG = f"""\
apiVersion: v1
kind: Config
clusters:
- name: first   # ours
  cluster: {{server: "https://first.example:6443", certificate-authority-data: YXV0aG9yaXR5}}
contexts:
- {{name: a, context: {{cluster: first, user: alice}}}}
- {{name: e, context: {{cluster: first, user: erin}}}}
users:
- name: alice
  user:
    token: {KUBE_TOKENS[0]}
- name: erin
  user: {{tokenFile: erin.token}}
"""

AZURE_SECRETS = ("abc8Q~" + "Az1" * 9, "xyz8Q~" + "Az2" * 9)
AZURE_ENTRIES = json.dumps(
    [
        {
            "client_id": f"{number * 4}-2222-3333-4444-555555555555",
            "tenant": f"{tenant}.example",
            "client_secret": secret,
        }
        for number, tenant, secret in zip(("11", "99"), ("one", "two"), AZURE_SECRETS, strict=True)
    ]
)

INDEX_PASSWORDS = ("pypi-" + "Ix1" * 9, "of-pip-" + "Ix2" * 9, "of-uv-" + "Ix3" * 9)
PYPIRC = f"[distutils]\nindex-servers = pypi\n[pypi]\nusername = __token__\npassword = {INDEX_PASSWORDS[0]}\n"
PIP_CONF = f"# mine\n[global]\nindex-url = https://ann:{INDEX_PASSWORDS[1]}@index.example.com/simple\n"
UV_TOML = f'index-url = "https://ann:{INDEX_PASSWORDS[2]}@index.example.com/uv"\n'
NPM_TOKENS = ("npm_" + "Pn1" * 12, "npm_" + "Pn2" * 12)
NPMRC = (
    "; mine\r\n"
    f"//registry.npmjs.org/:_authToken={NPM_TOKENS[0]}\r\n"
    "registry = https://npm.example.com/team/\r\n"
    f"//npm.example.com:8443/team/:_authToken = {NPM_TOKENS[1]}\r\n"
    "//basic.example.com/:_auth=YWxpY2U6c2VjcmV0\r\n"
    "//ci.example.com/:_authToken=${NPM_TOKEN}\r\n"
    "fund=false"
)
