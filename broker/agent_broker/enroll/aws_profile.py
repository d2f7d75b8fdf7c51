"""AWS keys as an agent's login for Bedrock: a pair in the settings' environment, or a profile of ``~/.aws``.

Of a profile, the pair is moved and a decoy pair takes its place; other profiles stay as they are. What has no keys of
its own (SSO, a role, a process) is refused with the reason: there is nothing that could be moved.
"""

import json

from agent_broker.enroll.cloud_files import CloudLoginError, place_attributes, require_consent
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import Decoy, Edit, FoundSecret, SetMember
from agent_broker.honeytoken.likeness import decoy_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.honeytoken.tokens import aws_key
from agent_broker.vault.secret import Secret

NAME = "aws-profile"
"""The last part of the credential's id."""
CREDENTIALS = ".aws/credentials"
CONFIG = ".aws/config"
KEY_NAMES = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
DEFAULT_REGION = "us-east-1"
"""What Claude Code uses if nothing says another."""

_OTHERS = "the aws command and every AWS SDK"
_INSTEAD = "a Bedrock API key as AWS_BEARER_TOKEN_BEDROCK in the env of ~/.claude/settings.json"
_REFUSED = {
    "sso_session": "logs in by SSO",
    "sso_start_url": "logs in by SSO",
    "login_session": "logs in by the browser",
    "role_arn": "assumes a role",
    "credential_process": "gets its keys from a command",
    "web_identity_token_file": "gets its keys from a web identity",
}
"""What a profile has instead of keys; temporary ones that the broker can't renew."""


def region_of(survey: HomeSurvey, profile: str) -> str:
    """Return the region that a profile names in ``~/.aws/config``; empty: none. Opens that file alone."""
    config = DocumentFile.load(survey.files, CONFIG, "ini")
    return config.text((_section_of_config(profile), "region")) or ""


def keys_value(pair: dict[str, str]) -> Secret:
    """Return a pair in the vault's form (inject.sigv4.AwsKeys)."""
    return Secret(json.dumps({name: value for name, value in pair.items() if value}).encode())


def take_profile(survey: HomeSurvey, profile: str, region: str) -> Decoy:
    """Note a profile's keys, what becomes of their file, and its row of the plan.

    Args:
        survey: what it is noted in.
        profile: its name.
        region: the agent's; empty: the profile's.

    Returns:
        The decoy. The file stays one that the aws command may open; whoever else does raises an alert.

    Raises:
        CloudLoginError: there are no such keys; its owner did not agree.
        MisuseError: the file can't be edited.
    """
    config = DocumentFile.load(survey.files, CONFIG, "ini")
    _require_keys(survey, config, profile)
    require_consent(survey, CREDENTIALS, _OTHERS, _INSTEAD)
    file = DocumentFile.load(survey.files, CREDENTIALS, "ini")
    pair = {name: file.text((profile, name)) or "" for name in KEY_NAMES}
    if not pair["aws_access_key_id"] or not pair["aws_secret_access_key"]:
        raise _no_keys(survey, profile)
    region = region or file.text((profile, "region")) or region_of(survey, profile) or DEFAULT_REGION
    where: Pointer = (profile, "aws_secret_access_key")
    found = FoundSecret(NAME, "aws-keys", keys_value(pair), CREDENTIALS, where, "fixed", place_attributes(region))
    survey.secrets.append(found)
    survey.needles += [Secret(pair[name].encode()) for name in KEY_NAMES[1:] if pair[name]]
    made = decoy_pair(pair)
    edits: list[Edit] = [SetMember((profile, name), value) for name, value in made.items()]
    others = sorted(set(file.members()) - {profile})
    will = "secret to the vault; a decoy pair instead, watched"
    will += f"; other profiles stay: {', '.join(others)}" if others else ""
    survey.change(file, edits, f"keys of the profile {profile}", will)
    if pair["aws_session_token"]:
        survey.warnings.append(
            f"the keys of the profile {profile} are temporary: they end within hours, and the broker can't renew them"
        )
    return Decoy(CREDENTIALS, "aws-profile", digests_of(made.values()), shared=True)


def decoy_pair(pair: dict[str, str]) -> dict[str, str]:
    """Return a pair of the same shape that opens nothing."""
    key_id, secret = aws_key()
    made = {"aws_access_key_id": pair["aws_access_key_id"][:4] + key_id[4:], "aws_secret_access_key": secret}
    token = pair.get("aws_session_token")
    return {**made, "aws_session_token": decoy_like(token)} if token else made


def _require_keys(survey: HomeSurvey, config: DocumentFile, profile: str) -> None:
    section = _section_of_config(profile)
    instead = next((why for name, why in _REFUSED.items() if config.has((section, name))), "")
    if instead:
        raise CloudLoginError(
            f"the profile {profile} of {config.name} {instead}: such keys are temporary and can't be moved",
            next_step="give Claude a Bedrock API key (AWS_BEARER_TOKEN_BEDROCK in the env of ~/.claude/settings.json), "
            "or a profile with keys of its own (AWS_PROFILE there); then try again",
        )
    if config.has((section, "aws_access_key_id")):
        raise CloudLoginError(
            f"{config.name} holds keys itself, in the profile {profile}",
            next_step=f"move them into {survey.files.absolute(CREDENTIALS)}, then try again",
        )
    if survey.files.look(CREDENTIALS) is None:
        raise _no_keys(survey, profile)


def _section_of_config(profile: str) -> str:
    return profile if profile == "default" else f"profile {profile}"


def _no_keys(survey: HomeSurvey, profile: str) -> CloudLoginError:
    return CloudLoginError(
        f"{survey.files.absolute(CREDENTIALS)} has no keys for the profile {profile}, which Claude uses for Bedrock",
        next_step="put AWS_BEARER_TOKEN_BEDROCK into the env of ~/.claude/settings.json, or keys into that profile; "
        "then try again",
    )
