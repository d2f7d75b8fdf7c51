"""What is enrolled in the tests that stop a transaction at each of its steps: one entry a way to hold a credential.

To cover another recipe, add a line: its files before, and the secrets in them. The tests count the steps themselves.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_broker.cli.enrolling import store_of
from agent_broker.config.layout import Layout
from agent_broker.enroll.aws import AwsRecipe
from agent_broker.enroll.azure import AzureRecipe
from agent_broker.enroll.cargo import CargoRecipe
from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.codex import CodexRecipe
from agent_broker.enroll.data_recipe import DataRecipe
from agent_broker.enroll.docker import DockerRecipe
from agent_broker.enroll.exported import Exports
from agent_broker.enroll.gcp import GcpRecipe
from agent_broker.enroll.gemini import GeminiRecipe
from agent_broker.enroll.git import GitRecipe
from agent_broker.enroll.keyring import KeyringRecipe
from agent_broker.enroll.kubectl import KubectlRecipe
from agent_broker.enroll.pnpm import PnpmRecipe
from agent_broker.enroll.recipe import Recipe
from agent_broker.enroll.recipe_file import parse_recipe
from agent_broker.enroll.ssh import SshRecipe
from tests.fakes import agent_files as held
from tests.fakes import cloud_logins, tool_files
from tests.fakes.enroll_world import ACCESS, API_KEY, CONFIG, OAUTH, PRIMARY_KEY, REFRESH, SETTINGS, UID


@dataclass(frozen=True)
class Case:
    """One home."""

    recipe: Callable[[Path], Recipe]
    """Given a folder that stands for the system's own configuration."""
    files: Mapping[str, str]
    """By path relative to the home; ``@HOME@`` in a text is the home."""
    secrets: tuple[str, ...]
    script: str = ""
    """The npm package that its program is; none: a native executable."""
    opened: Callable[[str, bytes], bytes] = lambda _, data: data
    """What a file of the home, by its name, says to whoever opens it as the agent does."""
    wiring: str = ""
    """Of a tool: what its files say once it is enrolled. Empty: an agent."""
    program: str = ""
    """The name of its executable, of a tool that has to have one."""
    like: str = ""
    """Another case that differs in its files alone: what does not depend on them is asked of that one."""


_IN_EVERY_FORMAT = "a recipe as data, in every format"


def _claude(system: Path) -> Recipe:
    return ClaudeRecipe(managed_settings=system / "managed-settings.json")


def _claude_and_profiles(system: Path) -> Recipe:
    return ClaudeRecipe(managed_settings=system / "managed-settings.json", exports=Exports(move=True))


def _codex(system: Path) -> Recipe:
    return CodexRecipe(system_folder=system / "etc-codex")


def _codex_and_profiles(system: Path) -> Recipe:
    return CodexRecipe(system_folder=system / "etc-codex", exports=Exports(move=True))


def _gemini(system: Path) -> Recipe:
    return GeminiRecipe(system_settings=system / "system.json")


def _gemini_and_profiles(system: Path) -> Recipe:
    return GeminiRecipe(system_settings=system / "system.json", exports=Exports(move=True))


def shipped(name: str) -> Callable[[Path], Recipe]:
    """Return what makes the recipe of an agent that is data."""
    return lambda _: DataRecipe(store_of(Layout()).shipped()[name], Exports(move=True))


def _every_format(_: Path) -> Recipe:
    return DataRecipe(parse_recipe(held.RECIPE.encode(), "mine.toml", {"bearer": True}))


_BACKUP = ".claude/backups/.claude.json.backup.1"
_LOGIN = {".claude/.credentials.json": json.dumps(OAUTH)}
_CONFIGURED = {".claude.json": json.dumps(CONFIG), _BACKUP: json.dumps(CONFIG)}
_GEMINI = "@google/gemini-cli"
_AT_VERTEX = {".gemini/settings.json": json.dumps({"security": {"auth": {"selectedType": "vertex-ai"}}})}
_BY_KEY = {".gemini/settings.json": json.dumps(held.GEMINI_BY_KEY)}
_KEYCHAIN = held.gemini_keychain(held.GEMINI_KEY, os.uname().nodename, str(UID))

CASES = {
    "claude, API key in the settings": Case(_claude, {".claude/settings.json": SETTINGS}, (API_KEY,)),
    "claude, API key in the configuration": Case(_claude, _CONFIGURED, (PRIMARY_KEY,)),
    "claude, OAuth login": Case(_claude, _LOGIN, (ACCESS, REFRESH)),
    "claude, all at once": Case(
        _claude,
        {".claude/settings.json": SETTINGS, **_CONFIGURED, **_LOGIN},
        (API_KEY, PRIMARY_KEY, ACCESS, REFRESH),
    ),
    "claude, profile for Bedrock": Case(
        _claude_and_profiles,
        {
            ".claude/settings.json": json.dumps({"env": {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-west-1"}}),
            ".aws/credentials": held.AWS_PROFILES,
        },
        (held.AWS_KEYS["aws_secret_access_key"],),
    ),
    "claude, login for Vertex AI": Case(
        _claude_and_profiles,
        {".claude/settings.json": json.dumps({"env": held.VERTEX}), cloud_logins.ADC: json.dumps(held.GOOGLE_ADC)},
        (held.GOOGLE_ADC["refresh_token"],),
    ),
    "claude, token in the settings": Case(
        _claude,
        {".claude/settings.json": json.dumps({"env": {"ANTHROPIC_AUTH_TOKEN": API_KEY}})},
        (API_KEY,),
        like="claude, API key in the settings",
    ),
    "claude, OAuth token in the settings": Case(
        _claude,
        {".claude/settings.json": json.dumps({"env": {"CLAUDE_CODE_OAUTH_TOKEN": ACCESS}})},
        (ACCESS,),
        like="claude, API key in the settings",
    ),
    "claude, keys of a profile": Case(
        _claude_and_profiles, {".bashrc": held.CLAUDE_BASHRC}, held.CLAUDE_EXPORTED, like="codex, keys of profiles"
    ),
    "claude, keys for Bedrock in the settings": Case(
        _claude,
        {".claude/settings.json": json.dumps({"env": {**held.BEDROCK, **held.AWS_VARIABLES}})},
        (held.AWS_KEYS["aws_secret_access_key"],),
        like="claude, API key in the settings",
    ),
    "claude, API key for Bedrock": Case(
        _claude,
        {".claude/settings.json": json.dumps({"env": {**held.BEDROCK, "AWS_BEARER_TOKEN_BEDROCK": API_KEY}})},
        (API_KEY,),
        like="claude, API key in the settings",
    ),
    "claude, service account for Vertex AI": Case(
        _claude_and_profiles,
        {
            ".claude/settings.json": json.dumps({"env": {**held.VERTEX, **held.ACCOUNT_VARIABLE}}),
            "keys/vertex.json": json.dumps(held.GOOGLE_ACCOUNT),
        },
        held.GOOGLE_ACCOUNT_KEY,
        like="claude, login for Vertex AI",
    ),
    "codex, API key": Case(_codex, {".codex/auth.json": json.dumps(held.CODEX_BY_KEY)}, (held.OPENAI_KEY,)),
    "codex, ChatGPT login and settings": Case(
        _codex,
        {".codex/auth.json": json.dumps(held.CODEX_BY_LOGIN), ".codex/config.toml": held.CODEX_SETTINGS},
        held.CODEX_TOKENS,
    ),
    "codex, keys of profiles": Case(
        _codex_and_profiles,
        {
            ".codex/auth.json": json.dumps(held.CODEX_BY_KEY),
            ".bashrc": held.BASHRC,
            ".config/environment.d/50-key.conf": held.ENVIRONMENT_D,
        },
        (held.OPENAI_KEY, held.EXPORTED_KEY),
    ),
    "codex, keys of its own .env": Case(
        _codex_and_profiles,
        {".codex/auth.json": json.dumps(held.CODEX_BY_KEY), ".codex/.env": held.CODEX_ENV},
        (held.OPENAI_KEY, held.EXPORTED_KEY),
        like="codex, keys of profiles",
    ),
    "codex, key of .profile": Case(
        _codex_and_profiles,
        {".codex/auth.json": json.dumps(held.CODEX_BY_KEY), ".profile": held.BASHRC},
        (held.OPENAI_KEY, held.EXPORTED_KEY),
        like="codex, keys of profiles",
    ),
    "gemini, API key in .env": Case(
        _gemini, {".gemini/.env": held.GEMINI_ENV, **_BY_KEY}, (held.GEMINI_KEY,), script=_GEMINI
    ),
    "gemini, Google login": Case(
        _gemini,
        {
            ".gemini/oauth_creds.json": json.dumps(held.GOOGLE_LOGIN),
            ".gemini/settings.json": json.dumps(held.GEMINI_BY_LOGIN),
        },
        held.GOOGLE_TOKENS,
        script=_GEMINI,
    ),
    "gemini, file keychain": Case(
        _gemini,
        {".gemini/gemini-credentials.json": _KEYCHAIN, **_BY_KEY},
        (held.GEMINI_KEY,),
        script=_GEMINI,
        opened=held.opened_by_gemini,
    ),
    "gemini, key of a profile": Case(
        _gemini_and_profiles,
        {".bashrc": held.GEMINI_ENV, **_BY_KEY},
        (held.GEMINI_KEY,),
        script=_GEMINI,
        like="codex, keys of profiles",
    ),
    "gemini, key in ~/.env": Case(
        _gemini_and_profiles,
        {".env": held.GEMINI_ENV, **_BY_KEY},
        (held.GEMINI_KEY,),
        script=_GEMINI,
        like="codex, keys of profiles",
    ),
    "gemini, API key for Vertex AI": Case(
        _gemini,
        {".gemini/.env": f"# mine\nGOOGLE_API_KEY={held.GEMINI_KEY}\n", **_AT_VERTEX},
        (held.GEMINI_KEY,),
        script=_GEMINI,
        like="gemini, API key in .env",
    ),
    "gemini, login for Vertex AI": Case(
        _gemini_and_profiles,
        {".gemini/.env": held.GEMINI_PROJECT, **_AT_VERTEX, cloud_logins.ADC: json.dumps(held.GOOGLE_ADC)},
        (held.GOOGLE_ADC["refresh_token"],),
        script=_GEMINI,
        like="claude, login for Vertex AI",
    ),
    "gemini, service account for Vertex AI": Case(
        _gemini_and_profiles,
        {
            ".gemini/.env": held.GEMINI_PROJECT + "GOOGLE_APPLICATION_CREDENTIALS=@HOME@/keys/vertex.json\n",
            **_AT_VERTEX,
            "keys/vertex.json": json.dumps(held.GOOGLE_ACCOUNT),
        },
        held.GOOGLE_ACCOUNT_KEY,
        script=_GEMINI,
        like="claude, login for Vertex AI",
    ),
    "aider, keys in ~/.env": Case(
        shipped("aider"),
        {".env": f"# mine\nexport OPENAI_API_KEY='{held.OPENAI_KEY}' # work\nANTHROPIC_API_KEY={held.ANTHROPIC_KEY}\n"},
        (held.OPENAI_KEY, held.ANTHROPIC_KEY),
        script="aider",
        like=_IN_EVERY_FORMAT,
    ),
    "aider, keys of a profile": Case(
        shipped("aider"),
        {".profile": f"export OPENAI_API_KEY={held.OPENAI_KEY}\nexport ANTHROPIC_API_KEY={held.ANTHROPIC_KEY}\n"},
        (held.OPENAI_KEY, held.ANTHROPIC_KEY),
        script="aider",
        like=_IN_EVERY_FORMAT,
    ),
    "copilot, keys in two profiles": Case(
        shipped("copilot"),
        {
            ".profile": f"umask 022\nexport COPILOT_PROVIDER_API_KEY='{held.OPENAI_KEY}'  # work\n",
            ".bashrc": f"export COPILOT_PROVIDER_API_KEY={held.EXPORTED_KEY}\nalias ll='ls -l'",
        },
        (held.OPENAI_KEY, held.EXPORTED_KEY),
        script="copilot",
        like=_IN_EVERY_FORMAT,
    ),
    "qwen, key in its own .env": Case(
        shipped("qwen"),
        {".qwen/.env": f"OPENAI_API_KEY={held.OPENAI_KEY}\n", ".qwen/settings.json": '{"ui": {"theme": "Default"}}'},
        (held.OPENAI_KEY,),
        script="@qwen-code/qwen-code",
        like=_IN_EVERY_FORMAT,
    ),
    "opencode, keys of a profile": Case(
        shipped("opencode"),
        {
            ".config/opencode/opencode.json": held.OPENCODE_SETTINGS,
            ".local/share/opencode/auth.json": "{}",
            ".profile": f"export OPENAI_API_KEY={held.OPENAI_KEY}\nexport ANTHROPIC_API_KEY={held.ANTHROPIC_KEY}\n"
            f"export GOOGLE_GENERATIVE_AI_API_KEY={held.GEMINI_KEY}\n",
        },
        held.OPENCODE_KEYS,
        like=_IN_EVERY_FORMAT,
    ),
    "opencode, a third key in its file": Case(
        shipped("opencode"),
        {
            ".config/opencode/opencode.json": held.OPENCODE_SETTINGS,
            ".local/share/opencode/auth.json": json.dumps({"google": {"type": "api", "key": held.GEMINI_KEY}}),
        },
        (held.GEMINI_KEY,),
        like=_IN_EVERY_FORMAT,
    ),
    "opencode, keys in its file and in a profile": Case(
        shipped("opencode"),
        {
            ".local/share/opencode/auth.json": json.dumps(held.OPENCODE_AUTH),
            ".config/opencode/opencode.json": held.OPENCODE_SETTINGS,
            ".profile": held.PROFILE,
        },
        held.OPENCODE_KEYS,
    ),
    "git, passwords of two servers": Case(
        lambda root: GitRecipe(root / "bin/shim"),
        {".git-credentials": tool_files.GIT_CREDENTIALS, ".gitconfig": "[user]\n\tname = Ann\n"},
        tool_files.GIT_PASSWORDS,
        wiring="useHttpPath",
    ),
    "docker, two logins": Case(
        lambda root: DockerRecipe(root / "bin/shim"),
        {".docker/config.json": json.dumps({"auths": tool_files.DOCKER_AUTHS, "detachKeys": "ctrl-q"}, indent="\t")},
        tool_files.DOCKER_SECRETS,
        wiring="credHelpers",
        like="git, passwords of two servers",
    ),
    "cargo, tokens of two registries": Case(
        lambda root: CargoRecipe(root / "bin/shim"),
        {".cargo/credentials.toml": tool_files.CARGO_CREDENTIALS, ".cargo/config.toml": tool_files.CARGO_CONFIG},
        tool_files.CARGO_TOKENS,
        wiring="credential-provider",
        like="git, passwords of two servers",
    ),
    "pnpm, tokens of two registries": Case(
        lambda root: PnpmRecipe(root / "bin/shim"),
        {".npmrc": tool_files.NPMRC},
        tool_files.NPM_TOKENS,
        wiring="tokenHelper",
        like="git, passwords of two servers",
    ),
    "aws, keys in both files": Case(
        lambda root: AwsRecipe(root / "bin/shim"),
        {".aws/credentials": tool_files.AWS_CREDENTIALS, ".aws/config": tool_files.AWS_CONFIG},
        tool_files.AWS_SECRETS,
        wiring="credential_process",
        like="git, passwords of two servers",
    ),
    "kubectl, a token and a token's file": Case(
        lambda root: KubectlRecipe(root / "bin/shim"),
        {".kube/config": tool_files.KUBE_CONFIG, ".kube/erin.token": tool_files.KUBE_TOKENS[1]},
        tool_files.KUBE_TOKENS,
        wiring="provideClusterInfo",
        like="git, passwords of two servers",
    ),
    "gcp, a login": Case(
        lambda _: GcpRecipe(),
        {cloud_logins.ADC: json.dumps(held.GOOGLE_ADC)},
        (held.GOOGLE_ADC["refresh_token"],),
        wiring="external_account",
        program="terraform",
        like="git, passwords of two servers",
    ),
    "azure, two service principals": Case(
        lambda root: AzureRecipe(root / "bin/shim"),
        {".azure/service_principal_entries.json": tool_files.AZURE_ENTRIES},
        tool_files.AZURE_SECRETS,
        wiring="client_secret",  # a decoy: whom to ask is in no file
        like="git, passwords of two servers",
    ),
    "keyring, passwords of three programs": Case(
        lambda root: KeyringRecipe(root / "bin/shim"),
        {
            ".pypirc": tool_files.PYPIRC,
            ".config/pip/pip.conf": tool_files.PIP_CONF,
            ".config/uv/uv.toml": tool_files.UV_TOML,
        },
        tool_files.INDEX_PASSWORDS,
        wiring="keyring-provider",
        program="uv",
        like="git, passwords of two servers",
    ),
    "ssh, a key and settings": Case(
        lambda _: SshRecipe(Path("/run/agent-broker/ssh.sock")),
        {".ssh/id": tool_files.SSH_KEY, ".ssh/config": "Host a\n  User me\n"},
        tool_files.SSH_SECRETS,
        wiring="IdentityAgent",
        like="git, passwords of two servers",
    ),
    _IN_EVERY_FORMAT: Case(_every_format, held.RECIPE_FILES, held.RECIPE_KEYS),
}
