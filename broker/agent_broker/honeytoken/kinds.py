"""The kinds of honeytoken: where each goes, what it looks like, and why it never stands in the way of a real one."""

from collections.abc import Callable
from dataclasses import dataclass

from agent_broker.errors import MisuseError
from agent_broker.honeytoken import agents, machines
from agent_broker.honeytoken.entry import Honeytoken


@dataclass(frozen=True)
class Kind:
    """One kind."""

    name: str
    default_path: str
    """Relative to the home."""
    looks_like: str
    """For people: what a thief believes to have found."""
    never_outranks: str
    """For people: why no program uses it in place of a real credential, or of the broker's."""
    make: Callable[[bool], Honeytoken]
    """Makes a fresh one; True: the file does not exist yet."""
    sign_of_use: str = ""
    """A folder or file, relative to the home, that is there if its tool is in use; empty: its default path's folder."""
    requires: tuple[str, ...] = ()
    """Keys that an existing YAML file must have at its root."""
    tool_reads: bool = False
    """Whether a tool opens the default path by itself, with whatever is there."""


def _always(make: Callable[[], Honeytoken]) -> Callable[[bool], Honeytoken]:
    return lambda _is_new: make()


_OWN_FILE = "a file of its own, which no tool reads by itself"
_EARLIER = "variables of the environment win, and so does a later line of the same file"

KINDS: tuple[Kind, ...] = (
    Kind(
        "claude-oauth",
        ".claude/.credentials.json",
        "a login of Claude Code's",
        "the last credential that Claude looks for; refused where a login is",
        _always(agents.claude_oauth),
        tool_reads=True,
    ),
    Kind(
        "claude-api-key",
        ".config/anthropic/.env",
        "an API key of Anthropic's",
        _EARLIER,
        _always(agents.claude_api_key),
        sign_of_use=".claude",
    ),
    Kind(
        "openai-api-key",
        ".config/openai/.env",
        "an API key of OpenAI's",
        _EARLIER,
        _always(agents.openai),
        sign_of_use=".codex",
    ),
    Kind(
        "gemini-oauth",
        ".gemini/oauth_creds.json",
        "a Google login of Gemini CLI's",
        "used only with Google login, which would have its file there: refused then",
        _always(agents.gemini_oauth),
        tool_reads=True,
    ),
    Kind(
        "google-oauth",
        ".config/gcloud/legacy_credentials/adc.json",
        "a user's Google login",
        "not where Google's libraries look by themselves, so metadata servers stay in force",
        _always(agents.google_oauth),
        sign_of_use=".config/gcloud",
    ),
    Kind(
        "gcp-service-account",
        ".config/gcloud/service-account.json",
        "a service account's key",
        _OWN_FILE,
        _always(agents.gcp_service_account),
    ),
    Kind(
        "aws-profile",
        ".aws/credentials",
        "a profile with a long-lived key",
        "a profile of its own name: of the same name it would win over credential_process",
        _always(machines.aws_profile),
        tool_reads=True,
    ),
    Kind("github-token", ".github_token", "a personal access token", _OWN_FILE, _always(machines.github), ".config/gh"),
    Kind(
        "npm-token",
        ".npmrc",
        "a registry's token",
        "a registry of its own name",
        _always(machines.npm),
        ".npm",
        tool_reads=True,
    ),
    Kind(
        "docker-auth",
        ".docker/config.json",
        "a registry login",
        "a registry of its own name; helpers win over it in any case",
        _always(machines.docker_auth),
        tool_reads=True,
    ),
    Kind(
        "kubeconfig",
        ".kube/config",
        "a cluster with a user's token",
        "a context of its own name, never the current one",
        _always(machines.kubeconfig),
        tool_reads=True,
    ),
    Kind(
        "ssh-private-key",
        ".ssh/id_ed25519_backup",
        "a private key without a passphrase",
        "not a name that ssh tries by itself",
        _always(machines.ssh_key),
    ),
    Kind("env-file", ".env", "a service's password and token", _EARLIER, _always(machines.env_file), "."),
    Kind("netrc", ".netrc", "a host's login", "a host of its own name", _always(machines.netrc), ".", tool_reads=True),
    Kind(
        "git-credentials",
        ".git-credentials",
        "a forge's token in git's store",
        "a host of its own name; helpers before it win in any case",
        _always(machines.git_credentials),
        ".gitconfig",
        tool_reads=True,
    ),
    Kind(
        "gh-hosts",
        ".config/gh/hosts.yml",
        "a login of GitHub's CLI",
        "beside github.com a host of its own name; GH_TOKEN wins over it",
        lambda is_new: machines.gh_hosts(is_new=is_new),
        requires=(machines.GITHUB,),
        tool_reads=True,
    ),
)


def kind_of(name: str) -> Kind:
    """Return a kind by its name.

    Raises:
        MisuseError: there is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise MisuseError("there is no such kind of decoy", next_step=f"one of: {', '.join(each.name for each in KINDS)}")
