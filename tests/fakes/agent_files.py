"""Files of Codex, Gemini, OpenCode and of an agent that is data, as they are before an enrolment."""

import base64
import json
from functools import cache
from typing import Any

from agent_broker.enroll.gemini_keychain import GeminiKeychain, SealedFileError, new_file
from tests.fakes.cloud_logins import PROJECT, aws_keys, service_account, user_login

OPENAI_KEY = "sk-proj-" + "kQ7_" * 18 + "T3BlbkFJ" + "Zx9-" * 18
EXPORTED_KEY = "sk-proj-" + "Ex3_" * 18 + "T3BlbkFJ" + "Wv5-" * 18
GEMINI_KEY = "AIza" + "Kq7_" * 8 + "xyz"
ANTHROPIC_KEY = "sk-ant-api03-" + "Oc5" * 30 + "-_AA"


def jwt(**claims: Any) -> str:
    """Make up a JWT as a login server gives them."""
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*texts, "sIgNaTuRe-" * 9))


CODEX_TOKENS = (
    jwt(email="me@example.com", exp=1795000000, **{"https://api.openai.com/auth": {"chatgpt_plan_type": "pro"}}),
    jwt(sub="user-1", exp=1795000000, iat=1794000000),
    "rt_" + "Rr5" * 30,
)
CODEX_BY_KEY = {"auth_mode": "apikey", "OPENAI_API_KEY": OPENAI_KEY}
CODEX_BY_LOGIN = {
    "auth_mode": "chatgpt",
    "OPENAI_API_KEY": None,
    "tokens": {
        **dict(zip(("id_token", "access_token", "refresh_token"), CODEX_TOKENS, strict=True)),
        "account_id": "acc-1",
    },
    "last_refresh": "2026-11-20T08:00:00Z",
}
CODEX_SETTINGS = """\
# my settings
model = "gpt-6"   # the good one

[projects."/w"]
trust_level = "trusted"
"""
BASHRC = f"alias ll='ls -l'\nexport CODEX_API_KEY='{EXPORTED_KEY}'  # work\nexport EDITOR=vi\n"
CODEX_ENV = f"# mine\nexport OPENAI_API_KEY='{EXPORTED_KEY}'  # work\nCODEX_API_KEY={OPENAI_KEY}\n\nEDITOR=vi"
ENVIRONMENT_D = f"EDITOR=vi\nCODEX_API_KEY={EXPORTED_KEY}\n"

GOOGLE_TOKENS = ("ya29.a0" + "Ac9" * 40, "1//03" + "Rf2" * 30, jwt(sub="1", exp=1795000000))
GOOGLE_LOGIN = {
    **dict(zip(("access_token", "refresh_token", "id_token"), GOOGLE_TOKENS, strict=True)),
    "scope": "https://www.googleapis.com/auth/cloud-platform",
    "token_type": "Bearer",
    "expiry_date": 1795000000000,
}
AWS_KEYS = aws_keys()
AWS_PROFILES = (
    "# mine\n[default]\n" + "".join(f"{name} = {value}\n" for name, value in AWS_KEYS.items())
    + "[other]\naws_access_key_id = AKIAOTHEROTHEROTHER1\naws_secret_access_key = " + "other" * 8 + "\n"
)  # fmt: skip
AWS_VARIABLES = {name.upper(): value for name, value in AWS_KEYS.items()}
BEDROCK = {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-west-1"}
CLAUDE_EXPORTED = (ANTHROPIC_KEY, "gateway-" + "Gw5" * 20, "sk-ant-oat01-" + "To5" * 31 + "AA")
_CLAUDE_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
CLAUDE_BASHRC = "umask 022\n" + "".join(
    f"export {name}='{value}'  # mine\n" for name, value in zip(_CLAUDE_VARIABLES, CLAUDE_EXPORTED, strict=True)
)
VERTEX = {
    "CLAUDE_CODE_USE_VERTEX": "1",
    "CLOUD_ML_REGION": "europe-west1",
    "ANTHROPIC_VERTEX_PROJECT_ID": PROJECT,
}
GOOGLE_ADC = user_login()
GOOGLE_ACCOUNT = service_account()
GOOGLE_ACCOUNT_KEY = (GOOGLE_ACCOUNT["private_key"].splitlines()[5],)
ACCOUNT_VARIABLE = {"GOOGLE_APPLICATION_CREDENTIALS": "@HOME@/keys/vertex.json"}
GEMINI_PROJECT = f"# mine\nGOOGLE_CLOUD_PROJECT={PROJECT}\nGOOGLE_CLOUD_LOCATION=us-central1\n"
GEMINI_BY_KEY = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "ui": {"theme": "Default"}}
GEMINI_BY_LOGIN = {"security": {"auth": {"selectedType": "oauth-personal"}}}
GEMINI_ENV = f"# mine\nexport EDITOR=vi\nGEMINI_API_KEY='{GEMINI_KEY}'  # the key\n"


def gemini_keychain(key: str, host: str, user: str) -> str:
    """Gemini's own file with a key in it, which it seals under names that everybody knows."""
    _names.update(host=host, user=user)
    return new_file(key, host=host, user=user).decode()


_names = {"host": "", "user": ""}


@cache
def opened_by_gemini(name: str, data: bytes) -> bytes:
    """What Gemini reads in a file of this name, also where a transaction keeps it under another one."""
    if b":" not in data[:40]:
        return data
    try:
        return (GeminiKeychain(data, **_names).api_key() or "").encode()
    except SealedFileError:
        return data


OPENCODE_KEYS = (ANTHROPIC_KEY, OPENAI_KEY, GEMINI_KEY)
OPENCODE_AUTH = {
    "anthropic": {"type": "api", "key": ANTHROPIC_KEY},
    "openai": {"type": "api", "key": OPENAI_KEY},
    "github": {"type": "oauth", "expires": 1},
}
PROFILE = f'umask 022\nexport GEMINI_API_KEY="{GEMINI_KEY}"'
OPENCODE_SETTINGS = '{\n  // mine\n  "theme": "dark"\n}\n'

_FORMATS = {
    "json": ('{{ // mine\n "auth": {{"key": "{key}" , "user": 1}}\n}}', ("auth", "key")),
    "toml": ("# mine\n[auth]\nkey = '{key}' # work\n\n[other]\nx = [1,\n 2]", ("auth", "key")),
    "env": ("# mine\r\nexport KEY='{key}' # work\r\n", ("KEY",)),
    "shell": ("# mine\nexport KEY='{key}'\nalias ll='ls -l'", ("KEY",)),
    "fish": ("# mine\nset -gx KEY '{key}' # work\n", ("KEY",)),
    "systemd": ("# mine\nKEY={key}\n", ("KEY",)),
    "ini": ("; mine\n[default]\nkey = {key}\nregion=eu\n", ("default", "key")),
}
_BECOMES = ("phantom", "decoy", "removed")
_KEYS = {name: f"sk-{name}-" + "Zx9-" * 12 for name in _FORMATS}
RECIPE_KEYS = tuple(_KEYS.values())
RECIPE_FILES = {f".mine/mine.{name}": text.format(key=_KEYS[name]) for name, (text, _) in _FORMATS.items()}
RECIPE = (
    """\
name = "mine"
[program]
commands = ["mine"]
[role]
argv0_names = ["mine"]
[[credential]]
name = "key"
kind = "bearer"
base_url = "https://models.example.com"
"""
    + "".join(
        f"""\
[[credential.place]]
file = ".mine/mine.{name}"
format = "{name}"
pointer = {json.dumps(pointer)}
becomes = "{_BECOMES[number % 3]}"
watch = true
"""
        for number, (name, (_, pointer)) in enumerate(_FORMATS.items())
    )
    + """\
[[credential.set]]
file = ".mine/made.json"
format = "json"
pointer = ["url"]
value = "{address}/v1"
"""
)
