"""Honeytokens with the form of what developers' tools keep: clouds, registries, forges, hosts."""

import base64
import uuid

from agent_broker.honeytoken.entry import Honeytoken, JsonMember, JsonValue, Lines, WholeFile, YamlEntries
from agent_broker.honeytoken.keys import ssh_private_key
from agent_broker.honeytoken.tokens import aws_key, github_token, host_name, npm_token, password, place_name

GITHUB = "github.com"


def aws_profile() -> Honeytoken:
    """Return a profile with a long-lived key, under a name that no shim serves: a static key outranks those."""
    name, (key_id, secret) = place_name(), aws_key()
    text = f"[{name}]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
    return Honeytoken("aws-profile", name, Lines(text, "end", (f"[{name}]",), "ini"), (key_id, secret))


def github() -> Honeytoken:
    """Return a personal access token in a file of its own."""
    token = github_token()
    return Honeytoken("github-token", GITHUB, WholeFile(f"{token}\n".encode()), (token,))


def npm() -> Honeytoken:
    """Return a registry's token for npm."""
    host, token = host_name("npm"), npm_token()
    return Honeytoken("npm-token", host, Lines(f"//{host}/:_authToken={token}\n", "start", (host,)), (token,))


def docker_auth() -> Honeytoken:
    """Return a registry login for docker."""
    host, word = host_name("registry"), password()
    auth = base64.b64encode(f"deploy:{word}".encode()).decode()
    return Honeytoken("docker-auth", host, JsonMember(("auths", host), {"auth": auth}), (word, auth))


def kubeconfig() -> Honeytoken:
    """Return a cluster, a user and a context; never the current one. Keys in the order in which kubectl writes them."""
    name, host, token = place_name(), host_name("k8s"), str(uuid.uuid4())
    server = f"https://{host}:6443"
    items: dict[str, dict[str, JsonValue]] = {
        "clusters": {"cluster": {"server": server}, "name": name},
        "contexts": {"context": {"cluster": name, "user": name}, "name": name},
        "users": {"name": name, "user": {"token": token}},
    }
    head: dict[str, JsonValue] = {"apiVersion": "v1", "current-context": "", "kind": "Config", "preferences": {}}
    return Honeytoken("kubeconfig", name, YamlEntries(items, head=head), (token,))


def ssh_key() -> Honeytoken:
    """Return a real key pair in one file, known to no host."""
    name = f"{place_name()}@bastion"
    key = ssh_private_key(name)
    body = "".join(key.splitlines()[1:-1])
    return Honeytoken("ssh-private-key", name, WholeFile(key.encode()), (key, body))


def env_file() -> Honeytoken:
    """Return variables that look like a service's."""
    word, token = password(), github_token()
    url = f"postgres://app:{word}@{host_name('db')}:5432/app"
    text = f"PROD_DATABASE_URL={url}\nPROD_DEPLOY_TOKEN={token}\n"
    names = ("PROD_DATABASE_URL=", "PROD_DEPLOY_TOKEN=")
    return Honeytoken("env-file", "PROD_DATABASE_URL", Lines(text, "start", names), (word, token, url))


def netrc() -> Honeytoken:
    """Return a machine's login. First in the file: behind a ``default`` or an open macro it would be read by nobody."""
    host, word = host_name("git"), password()
    text = f"machine {host}\n  login deploy\n  password {word}\n"
    return Honeytoken("netrc", host, Lines(text, "start", (host,)), (word,))


def git_credentials() -> Honeytoken:
    """Return a line of git's credential store."""
    host, token = host_name("git"), github_token()
    return Honeytoken("git-credentials", host, Lines(f"https://deploy:{token}@{host}\n", "start", (host,)), (token,))


def gh_hosts(*, is_new: bool) -> Honeytoken:
    """Return a host of gh's: github.com itself in a new file, since gh takes an only host for its default."""
    host, token = GITHUB if is_new else host_name("ghe"), github_token()
    value = {"user": "deploy", "oauth_token": token, "git_protocol": "https"}
    return Honeytoken("gh-hosts", host, YamlEntries({}, {host: value}), (token,))
