"""The home of the throw-away user: Claude Code set up with a key and a login, as its users have them.

The values are made up anew each time, in the shape of real ones; they open nothing anywhere.
"""

import json
import os
import secrets
import time
from pathlib import Path
from pwd import struct_passwd

from msgspec import Struct

SETTINGS = ".claude/settings.json"
CREDENTIALS = ".claude/.credentials.json"
STATE = ".claude.json"
_LAST_WEEK_S = 7 * 24 * 3600

# Indentation as an editor and three pasted snippets leave it.
_SETTINGS_TEXT = """{
   "env": {
      "ANTHROPIC_API_KEY": "API-KEY",
        "EDITOR":"vim" ,
      "BASH_DEFAULT_TIMEOUT_MS": "60000"
   },
  "permissions": {"allow": [ "Bash", "Read(~/project/**)" ], "deny":["Read(./.env)"]},
     "includeCoAuthoredBy" : false,
\t"statusLine": { "type":"command","command": "printf 'caf\\u00e9'" },
   "cleanupPeriodDays":   14
}
"""


class Keys(Struct, frozen=True):
    """The user's real secrets."""

    api_key: str
    access_token: str
    refresh_token: str

    def named(self) -> dict[str, str]:
        """Return each with the name that people know it by."""
        return {
            "API key": self.api_key,
            "access token": self.access_token,
            "refresh token": self.refresh_token,
        }

    def __repr__(self) -> str:
        return "Keys(...)"


def new_keys() -> Keys:
    """Make up a user's secrets."""
    return Keys(
        api_key=f"sk-ant-api03-{_random(93)}AA",
        access_token=f"sk-ant-oat01-{_random(93)}AA",
        refresh_token=f"sk-ant-ort01-{_random(93)}AA",
    )


def masked(secret: str) -> str:
    """Return what of a secret may be shown."""
    return f"{secret[:13]}…{secret[-4:]}"


def make_home(home: Path, owner: struct_passwd, keys: Keys) -> None:
    """Fill a home."""
    files = {
        SETTINGS: (_SETTINGS_TEXT.replace("API-KEY", keys.api_key), 0o640),
        CREDENTIALS: (json.dumps({"claudeAiOauth": _login(keys)}), 0o600),
        STATE: (json.dumps(_state(), indent=2), 0o600),
        "project/README.md": ("# A small project\n", 0o644),
        ".bashrc": ("export EDITOR=vim\n", 0o644),
    }
    home.mkdir(mode=0o750)
    for name, (text, mode) in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.utime(path, ns=(time.time_ns(), time.time_ns() - _LAST_WEEK_S * 1_000_000_000 - secrets.randbelow(10**9)))
    for path in (home, *home.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _login(keys: Keys) -> dict[str, object]:
    return {
        "accessToken": keys.access_token,
        "refreshToken": keys.refresh_token,
        "expiresAt": int(time.time() * 1000) + 6 * 3600 * 1000,
        "scopes": ["user:inference", "user:profile", "user:sessions:claude_code"],
        "subscriptionType": "max",
        "rateLimitTier": "default_claude_max_5x",
    }


def _state() -> dict[str, object]:
    return {
        "numStartups": 41,
        "hasCompletedOnboarding": True,
        "lastOnboardingVersion": "2.1.330",
        "theme": "dark",
        "oauthAccount": {"emailAddress": "dev@example.com", "organizationName": "Example", "organizationRole": "admin"},
        "mcpServers": {"files": {"type": "stdio", "command": "true", "args": [], "env": {}}},
        "tipsHistory": {"new-user-warmup": 3, "memory-command": 12},
    }


def _random(length: int) -> str:
    return secrets.token_urlsafe(length)[:length]
