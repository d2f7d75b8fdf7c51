"""A home full of credentials, each with a value of its own, and what ``scan`` says of it. Needs root."""

import json
import os
import subprocess
import sys
from pathlib import Path

from agent_broker.cli.main import main
from agent_broker.honeytoken import tokens
from tests.fakes.enroll_world import GID, SECRETS, UID, EnrollWorld

PROGRAM = "import sys; from agent_broker.cli.main import main; sys.exit(main())"
PLANTED = {
    name: tokens.password() + name
    for name in ("bashrc", "zshenv", "fish", "envd", "envrc", "dotenv", "codex", "toml", "aws", "pgpass", "mcp", "gem")
}
EXPORTED = tokens.anthropic_api_key()
GITHUB = tokens.github_token()
EVERYTHING = (EXPORTED, GITHUB, *PLANTED.values(), *(secret.decode() for secret in SECRETS))
"""Each of these is in ``stocked``'s home, and must be in no output."""


class ScanWorld(EnrollWorld):
    """See EnrollWorld; its parent folder can be entered by everybody."""

    def __init__(self) -> None:
        super().__init__(parent="/tmp")

    def file(self, path: str, data: str | bytes, mode: int = 0o600) -> Path:
        """A file of the user's, and the folders on the way."""
        place = self.home / path
        for folder in reversed(place.relative_to(self.home).parents[:-1]):
            if not (self.home / folder).exists():
                self.make_folder(self.home / folder)
        return self.make(place, data, mode)

    def stocked(self) -> "ScanWorld":
        """One credential in each of the places that people use."""
        self.full()
        told = PLANTED
        self.file(
            ".bashrc", f'PS1="$ "\nexport ANTHROPIC_API_KEY="{EXPORTED}"\nexport X_TOKEN={told["bashrc"]}\n', 0o644
        )
        self.file(".zshenv", f"export OPENAI_API_KEY='{told['zshenv']}'\n")
        self.file(".config/fish/config.fish", f"set -gx GEMINI_API_KEY {told['fish']}\n")
        self.file(".config/environment.d/keys.conf", f"GITHUB_TOKEN={told['envd']}\n")
        self.file("src/web/.envrc", f"export GH_TOKEN={GITHUB}\nexport DB_PASSWORD={told['envrc']}\n")
        self.file("src/web/.env", f"SESSION_SECRET={told['dotenv']}\nPORT=8080\n", 0o644)
        self.file("src/web/.env.example", "SESSION_SECRET=changeme-changeme\n")
        self.file("src/web/.mcp.json", json.dumps({"mcpServers": {"db": {"env": {"DB_TOKEN": told["mcp"]}}}}))
        self.file(".codex/auth.json", json.dumps({"OPENAI_API_KEY": told["codex"]}))
        self.file(".codex/config.toml", f'[model_providers.x]\nexperimental_bearer_token = "{told["toml"]}"\n')
        self.file(".gemini/.env", f"GEMINI_API_KEY={told['gem']}\n")
        self.file(".aws/credentials", f"[default]\naws_access_key_id = AKIA1\naws_secret_access_key = {told['aws']}\n")
        self.file(".pgpass", f"db:5432:app:ann:{told['pgpass']}\n")
        self.file(".ssh/id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\nnone\n")
        return self

    @property
    def installation(self) -> Path:
        """What ``--root`` is given."""
        return self.root / "r"

    def words(self, *options: str) -> list[str]:
        return ["--root", str(self.installation), "scan", "--home", str(self.home), *options]

    def scan(self, *options: str) -> int:
        """As root, in this process."""
        return main(self.words("--user", str(UID), *options))

    def scan_as_user(self, *options: str, uid: int = UID, groups: tuple[int, ...] = ()) -> subprocess.CompletedProcess:
        """As a user, in a process of that user's."""
        return subprocess.run(
            [sys.executable, "-I", "-c", PROGRAM, *self.words(*options)],
            user=uid,
            group=GID,
            extra_groups=groups,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )


def places(report: dict) -> dict[tuple[str, str], dict]:
    """The credentials of a report's one home by path (below the home) and name."""
    (home,) = report["homes"]
    return {(os.path.relpath(row["path"], home["home"]), row["name"]): row for row in home["credentials"]}
