"""Each kind of decoy is read by the tool that thieves (and users) read it with: the value itself comes out.

The tools are the real ones, offline. What a tool reads must be in the decoy's record as a digest: that is how the
broker knows it again.
"""

import base64
import json
import netrc
import os
import subprocess
import zlib
from pathlib import Path

import botocore.session
import dotenv
import google.auth
import google.oauth2.credentials
import google.oauth2.service_account
import kubernetes.config
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from kubernetes.client import Configuration

from agent_broker.honeytoken.kinds import KINDS, kind_of
from agent_broker.honeytoken.tokens import BASE62
from tests.fakes.plant_world import GID, UID, PlantWorld


@pytest.fixture
def world():
    world = PlantWorld()
    yield world
    world.close()


def planted(world, kind, mine=None):
    """Plant one at its default path, beside what is the user's; return where."""
    path = kind_of(kind).default_path
    if mine is not None:
        world.file(path, mine)
    world.plant(kind)
    return world.home / path


def as_user(world, *command, text="", **environment):
    """Run a real tool as the user, in that home."""
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        user=UID,
        group=GID,
        extra_groups=(),
        cwd=world.home,
        env={"PATH": os.environ["PATH"], "HOME": str(world.home), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-200:].replace(done.stdout, "")
    return done.stdout


def checksum_is_right(token, prefix):
    """GitHub's rule, computed here in another way than there."""
    body, end = token.removeprefix(prefix)[:30], token[-6:]
    number = 0
    for char in end:
        number = number * 62 + BASE62.index(char)
    return len(token) == len(prefix) + 36 and number == zlib.crc32(body.encode())


@pytest.mark.parametrize("mine", [None, "[default]\naws_access_key_id = AKIAMINE\naws_secret_access_key = mine\n"])
def test_botocore_reads_the_profile_and_the_users_own_stays_the_default(world, mine):
    path = planted(world, "aws-profile", mine)
    (name,) = set(botocore.configloader.raw_config_parse(str(path))) - {"default"}
    session = botocore.session.Session(profile=name)
    session.set_config_variable("credentials_file", str(path))
    found = session.get_credentials()
    assert found.method == "shared-credentials-file"
    assert world.knows(found.access_key)
    assert world.knows(found.secret_key)
    assert (len(found.access_key), len(found.secret_key)) == (20, 40)
    own = botocore.configloader.raw_config_parse(str(path)).get("default")
    assert own == (None if mine is None else {"aws_access_key_id": "AKIAMINE", "aws_secret_access_key": "mine"})


def test_the_shim_of_the_users_profile_is_not_outranked(world):
    path = planted(world, "aws-profile", "")
    answer = {"Version": 1, "AccessKeyId": "AKIASHIM", "SecretAccessKey": "s", "Expiration": "2100-01-01T00:00:00Z"}
    shim = world.root / "shim"
    shim.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    shim.chmod(0o755)
    config = world.root / "config"
    config.write_text(f"[default]\ncredential_process = {shim}\n")
    session = botocore.session.Session()
    session.set_config_variable("credentials_file", str(path))
    session.set_config_variable("config_file", str(config))
    found = session.get_credentials()
    assert (found.method, found.access_key) == ("custom-process", "AKIASHIM")


def test_google_auth_loads_the_service_account_and_signs_with_its_key(world):
    path = planted(world, "gcp-service-account")
    found = google.oauth2.service_account.Credentials.from_service_account_file(path)
    assert len(found.sign_bytes(b"anything")) == 256
    assert found.service_account_email.endswith(".iam.gserviceaccount.com")
    assert world.knows(found.signer.key_id)
    assert world.knows(json.loads(path.read_text())["private_key"])


def test_google_auth_loads_the_users_login(world):
    found = google.oauth2.credentials.Credentials.from_authorized_user_file(planted(world, "google-oauth"))
    assert world.knows(found.refresh_token)
    assert world.knows(found.client_secret)


def test_google_auth_does_not_find_it_by_itself(world, monkeypatch):
    """Its default place would win over an emulated metadata server."""
    planted(world, "google-oauth")
    monkeypatch.setenv("HOME", str(world.home))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(google.auth.exceptions.DefaultCredentialsError):
        google.auth.default()


def test_google_auth_takes_the_login_of_gemini(world):
    stored = json.loads(planted(world, "gemini-oauth").read_text())
    found = google.oauth2.credentials.Credentials(token=stored["access_token"], refresh_token=stored["refresh_token"])
    headers = {}
    found.apply(headers)
    assert found.valid
    assert world.knows(headers["authorization"].removeprefix("Bearer "))
    assert world.knows(found.refresh_token)
    assert stored["expiry_date"] == 4102444800000


KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:  # mine
  - cluster: {server: "https://mine.example"}
    name: mine
contexts:
  - context: {cluster: mine, user: me}
    name: mine
current-context: mine
users:
  - name: me
    user: {token: my-own-token}
"""
KUBECONFIG_JSON = json.dumps({"current-context": "", "clusters": [], "contexts": [], "users": []})


@pytest.mark.parametrize("mine", [None, KUBECONFIG, KUBECONFIG_JSON])
def test_the_kubernetes_client_reads_the_context(world, mine):
    path = planted(world, "kubeconfig", mine)
    (name,) = {each["name"] for each in yaml.safe_load(path.read_text())["contexts"]} - {"mine"}
    found = Configuration()
    kubernetes.config.load_kube_config(str(path), context=name, client_configuration=found)
    (token,) = found.api_key.values()
    assert world.knows(token.removeprefix("Bearer "))
    assert found.host.endswith(".internal:6443")
    if mine is KUBECONFIG:
        own = Configuration()
        kubernetes.config.load_kube_config(str(path), client_configuration=own)
        assert (own.host, *own.api_key.values()) == ("https://mine.example", "Bearer my-own-token")
    else:
        assert not yaml.safe_load(path.read_text()).get("current-context")


def test_ssh_keygen_gives_the_public_key_of_the_pair_with_its_comment(world):
    path = planted(world, "ssh-private-key")
    done = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", path], capture_output=True, text=True, check=True)
    kind, public, comment = done.stdout.split()  # as root: it asks the user database, which has no such user
    assert kind == "ssh-ed25519"
    key = load_ssh_private_key(path.read_bytes(), None).public_key().public_bytes_raw()
    assert base64.b64decode(public).endswith(key)
    assert comment.endswith("@bastion")
    assert world.knows(path.read_text())


@pytest.mark.parametrize("mine", [None, "https://me:mine@github.com\n"])
def test_git_fills_in_the_token_of_its_host_and_the_users_own(world, mine):
    path = planted(world, "git-credentials", mine)
    host = path.read_text().splitlines()[0].rpartition("@")[2]
    store = ("git", "-c", "credential.helper=", "-c", "credential.helper=store", "credential", "fill")
    filled = as_user(world, *store, text=f"protocol=https\nhost={host}\n\n", GIT_TERMINAL_PROMPT="0")
    fields = dict(line.split("=", 1) for line in filled.splitlines())
    assert world.knows(fields["password"])
    assert checksum_is_right(fields["password"], "ghp_")
    if mine:
        own = as_user(world, *store, text="protocol=https\nhost=github.com\n\n", GIT_TERMINAL_PROMPT="0")
        assert "password=mine" in own


@pytest.mark.parametrize(
    "mine", [None, "default login me password mine\n", "machine github.com login me password mine"]
)
def test_netrc_reads_the_login_and_the_users_own(world, mine):
    path = planted(world, "netrc", mine)
    found = netrc.netrc(path)
    (host,) = set(found.hosts) - {"default", "github.com"}
    assert world.knows(found.hosts[host][2])
    if mine:
        assert found.authenticators("github.com") == ("me", "", "mine")


@pytest.mark.parametrize("mine", [None, "github.com:\n    user: me\n    oauth_token: gho_mine\n"])
def test_gh_reads_the_token(world, mine):
    path = planted(world, "gh-hosts", mine)
    host = "github.com" if mine is None else path.read_text().splitlines()[3].rstrip(":")
    token = as_user(world, "gh", "auth", "token", "--hostname", host).strip()
    assert world.knows(token)
    assert checksum_is_right(token, "ghp_")
    asked = as_user(world, "gh", "auth", "git-credential", "get", text=f"protocol=https\nhost={host}\n\n")
    assert f"password={token}" in asked.splitlines()
    if mine:
        assert as_user(world, "gh", "auth", "token", "--hostname", "github.com").strip() == "gho_mine"


def test_gh_prefers_the_variable_that_a_shim_sets(world):
    planted(world, "gh-hosts")
    asked = as_user(
        world, "gh", "auth", "git-credential", "get", text="protocol=https\nhost=github.com\n\n", GH_TOKEN="from-shim"
    )
    assert "password=from-shim" in asked.splitlines()


def test_gh_takes_the_token_of_its_own_file(world):
    token = planted(world, "github-token").read_text().strip()
    asked = as_user(
        world, "gh", "auth", "git-credential", "get", text="protocol=https\nhost=github.com\n\n", GH_TOKEN=token
    )
    assert f"password={token}" in asked.splitlines()
    assert world.knows(token)
    assert checksum_is_right(token, "ghp_")


@pytest.mark.parametrize("mine", [None, "; mine\n//r.example/:_authToken=npm_mine\nfund=false"])
def test_npm_sends_the_token_to_its_registry(world, mine):
    """``npm config`` shows no token: npm's own library that answers for registries does."""
    path = planted(world, "npm-token", mine)
    host = path.read_text().split("/")[2]
    library = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=True).stdout.strip()
    script = f"""
        const folder = '{library}/npm/node_modules/@npmcli/config';
        const Config = require(folder);
        const {{definitions, shorthands, flatten}} = require(folder + '/lib/definitions');
        const c = new Config({{definitions, shorthands, flatten, npmPath: '{library}/npm', argv: [], cwd: '/'}});
        c.load().then(() => console.log(JSON.stringify([c.getCredentialsByURI('https://{host}/').token,
          c.getCredentialsByURI('https://r.example/').token ?? null, c.get('fund')])));
    """
    token, own, fund = json.loads(as_user(world, "node", "-e", script))
    assert world.knows(token)
    assert checksum_is_right(token, "npm_")
    assert (own, fund) == ((None, True) if mine is None else ("npm_mine", False))


@pytest.mark.parametrize("kind", ["claude-api-key", "openai-api-key", "env-file"])
@pytest.mark.parametrize("mine", [None, "MINE='of two\nlines'\n"])
def test_dotenv_reads_the_variables_and_the_users_own(world, kind, mine):
    found = dotenv.dotenv_values(planted(world, kind, mine))
    assert found.pop("MINE", None) == (None if mine is None else "of two\nlines")
    assert found
    assert all(map(world.knows, found.values()))


def test_the_users_own_value_of_the_same_name_wins_if_it_comes_later(world):
    path = planted(world, "claude-api-key")
    path.write_text(path.read_text() + "ANTHROPIC_API_KEY=mine\n")
    assert dotenv.dotenv_values(path)["ANTHROPIC_API_KEY"] == "mine"


def test_every_kind_is_proven_here():
    text = Path(__file__).read_text()
    others = {"docker-auth", "claude-oauth"}  # test_honeytoken_servers
    assert [kind.name for kind in KINDS if f'"{kind.name}"' not in text and kind.name not in others] == []
