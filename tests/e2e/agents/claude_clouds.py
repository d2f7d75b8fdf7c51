"""Claude Code at the clouds: every login that people have there."""

import json
from collections.abc import Callable, Mapping

from tests.e2e.agents.client import Login, made_up
from tests.fakes.cloud_logins import ADC, PROJECT, aws_keys, aws_mode, google_mode, service_account, user_login

PAIR = "Bedrock, keys in the settings' `env`"
PROFILE = "Bedrock, profile of `~/.aws/credentials`"
SERVICE_ACCOUNT = "Vertex AI, service account's key"
_REGION = "eu-west-1"
_SETTINGS = ".claude/settings.json"
_CREDENTIALS = ".aws/credentials"
_KEY_FILE = "keys/vertex.json"
_BEDROCK = {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": _REGION, "ANTHROPIC_MODEL": "eu.anthropic.claude-opus-5-5"}
_VERTEX = {
    "CLAUDE_CODE_USE_VERTEX": "1",
    "CLOUD_ML_REGION": "europe-west1",
    "ANTHROPIC_VERTEX_PROJECT_ID": PROJECT,
    "VERTEX_REGION_CLAUDE_HAIKU_4_5": "global",
}
_CONFIG = {".claude.json": json.dumps({"numStartups": 41, "hasCompletedOnboarding": True}, indent=2)}


def _files(env: Mapping[str, str], files: Mapping[str, str], **members: object) -> dict[str, str]:
    settings = {"permissions": {"allow": ["Bash"]}, "env": dict(env), **members}
    return {_SETTINGS: json.dumps(settings, indent=4), **_CONFIG, **files}


def _signed(pair: Mapping[str, str]) -> dict[str, str]:
    return {"authorization": f"AWS4 {pair['aws_access_key_id']}/{_REGION}/bedrock"}


def _named(pair: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", " "): value for name, value in pair.items() if name != "aws_access_key_id"}


def _pair() -> Login:
    pair = aws_keys()
    files = _files({**_BEDROCK, **{name.upper(): value for name, value in pair.items()}}, {})
    return Login(files, _named(pair), _signed(pair), provider=aws_mode(pair))


def _bearer() -> Login:
    token = made_up("ABSK", 120)
    files = _files({**_BEDROCK, "AWS_BEARER_TOKEN_BEDROCK": token}, {})
    return Login(files, {"Bedrock API key": token}, {"authorization": f"Bearer {token}"}, provider=aws_mode())


def _profile() -> Login:
    """Of two, with a session token: the other one is not the agent's."""
    pair = aws_keys(session=True)
    text = "[work]\nregion = us-west-2\naws_access_key_id = AKIAOTHEROTHEROTHER1\naws_secret_access_key = other\n"
    text += "[agent]\n" + "".join(f"{name} = {value}\n" for name, value in pair.items())
    files = _files({**_BEDROCK, "AWS_PROFILE": "agent"}, {_CREDENTIALS: text})
    return Login(files, _named(pair), _signed(pair), provider=aws_mode(pair), options=("--profiles",))


def _command() -> Login:
    pair = aws_keys(session=True)
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    printed = json.dumps({"Credentials": dict(zip(names, pair.values(), strict=True))})
    files = _files(_BEDROCK, {"keys.json": printed}, awsCredentialExport="cat ~/keys.json")
    return Login(files, {}, _signed(pair), provider=aws_mode(pair), refused="a command's output can't be moved")


def _google(login: dict[str, str], path: str, secret: str) -> Login:
    token = made_up("ya29.", 150)
    env = {} if path == ADC else {"GOOGLE_APPLICATION_CREDENTIALS": f"@HOME@/{path}"}
    files = _files({**_VERTEX, **env}, {path: json.dumps(login, indent=2)})
    known = google_mode(*([login] if "refresh_token" in login else []))
    return Login(
        files,
        {"access token": token, "secret of the file": secret},
        {"authorization": f"Bearer {token}"},
        needs_its_maker=True,
        provider={**known, "new_access": token},
        options=("--profiles",),
    )


def _user() -> Login:
    login = user_login()
    return _google(login, ADC, login["refresh_token"])


def _service_account() -> Login:
    login = service_account()
    return _google(login, _KEY_FILE, login["private_key"].splitlines()[5])


CLOUD_WAYS: Mapping[str, Callable[[], Login]] = {
    PAIR: _pair,
    "Bedrock, API key": _bearer,
    PROFILE: _profile,
    "Bedrock, `awsCredentialExport`": _command,
    "Vertex AI, application default credentials": _user,
    SERVICE_ACCOUNT: _service_account,
}
