"""How each agent logs in by itself, and what its login leaves: one row of data a kind of credential.

As released: Claude Code 2.1.330 (``claude auth login``), Codex CLI 0.169.0 (``codex login``), Gemini CLI 0.61.0, which
has no command for it: it logs in when it starts, and stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent_broker.errors import IntegrityError
from agent_broker.vault.secret import Secret

MAX_RESULT_BYTES: Final = 256 << 10  # tokens have some kilobytes


@dataclass(frozen=True)
class AgentLogin:
    """One agent's own login."""

    arguments: tuple[str, ...]
    """Of the agent's executable, after its name."""
    result: str
    """The file that it leaves, relative to its home."""
    member: str = ""
    """Of that file's JSON object: what the vault keeps; empty: all of it."""
    needs: tuple[str, ...] = ()
    """Members of what is kept that must be there: text that is not empty."""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """What is in its home before it starts, by path."""
    callback_port: int = 0
    """On loopback, where it waits for the person's browser; 0: it shows an address and asks for a code."""
    stays: bool = False
    """It goes on after the login: it is ended when the result is there."""

    def take(self, data: bytes) -> Secret:
        """Return what the vault keeps of the result.

        Raises:
            IntegrityError: it is not what this agent writes; none of it is quoted.
        """
        try:
            whole = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            kept = whole[self.member] if self.member else data
            members = msgspec.json.decode(kept, type=dict[str, object])
        except (msgspec.DecodeError, KeyError) as error:
            raise _not_a_login(self.result) from error
        for name in self.needs:
            value = members.get(name)
            if not isinstance(value, str) or not value:
                raise _not_a_login(self.result)
        return Secret(bytes(kept))


LOGINS: Final[Mapping[str, AgentLogin]] = {
    "anthropic-oauth": AgentLogin(
        ("auth", "login"),
        ".claude/.credentials.json",
        member="claudeAiOauth",
        needs=("accessToken", "refreshToken"),
        environment={"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    ),
    "openai-oauth": AgentLogin(
        ("login", "--config", 'cli_auth_credentials_store="file"'),
        ".codex/auth.json",
        member="tokens",
        needs=("id_token", "access_token", "refresh_token"),
        environment={"BROWSER": "/bin/true"},  # no browser of the room's: the person opens the address
        callback_port=1455,
    ),
    "google-oauth": AgentLogin(
        (),
        ".gemini/oauth_creds.json",
        needs=("access_token", "refresh_token"),
        environment={"NO_BROWSER": "true", "GEMINI_CLI_NO_RELAUNCH": "true", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        files={".gemini/settings.json": '{"security":{"auth":{"selectedType":"oauth-personal"}}}'},
        stays=True,
    ),
}
"""By the kind of the credential that the login renews."""


def _not_a_login(name: str) -> IntegrityError:
    return IntegrityError(
        f"the agent's login left a {name} that is not what this version knows: nothing was stored",
        next_step="update agent-broker, or log in without it and enroll again",
    )
