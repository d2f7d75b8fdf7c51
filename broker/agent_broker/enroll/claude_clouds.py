"""Claude Code at a cloud: Bedrock of AWS, Vertex AI of Google. Which credential it uses there, and how it is wired.

Claude's own order (observed with 2.1.330). CLAUDE_CODE_USE_BEDROCK: AWS_BEARER_TOKEN_BEDROCK, what
``awsCredentialExport`` prints, the key pair of the environment, the profile of ``~/.aws``. CLAUDE_CODE_USE_VERTEX:
application default credentials (enroll.google_adc). Neither uses any of Anthropic's own credentials.

Wiring: Bedrock by ANTHROPIC_BEDROCK_BASE_URL, the phantom as AWS_BEARER_TOKEN_BEDROCK: Claude then signs nothing, and
sends it with every request, also for the list of models. Vertex by ANTHROPIC_VERTEX_BASE_URL, the phantom as
ANTHROPIC_AUTH_TOKEN, which Claude sends since CLAUDE_CODE_SKIP_VERTEX_AUTH keeps it from asking Google.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from agent_broker.enroll.aws_profile import (
    DEFAULT_REGION,
    KEY_NAMES,
    keys_value,
    region_of,
    take_profile,
)
from agent_broker.enroll.cloud_files import CloudLoginError, place_attributes
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.google_adc import take_adc
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import MISSING, Pointer
from agent_broker.enroll.profile import exports
from agent_broker.enroll.recipe import Decoy, Edit, FoundSecret, InjectionPath, RemoveMember, SetMember, Wire
from agent_broker.vault.record import PROJECT_ATTRIBUTE, REGIONS_ATTRIBUTE
from agent_broker.vault.secret import Secret

Cloud = Literal["bedrock", "vertex", ""]

_SWITCHES: tuple[tuple[Cloud, str], ...] = (
    ("bedrock", "CLAUDE_CODE_USE_BEDROCK"),
    ("vertex", "CLAUDE_CODE_USE_VERTEX"),
)
_UNKNOWN = (
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_GATEWAY",
)
_GATEWAYS = ("CLAUDE_CODE_SKIP_BEDROCK_AUTH", "CLAUDE_CODE_SKIP_VERTEX_AUTH")
_BASE_URLS: Mapping[Cloud, str] = {
    "bedrock": "ANTHROPIC_BEDROCK_BASE_URL",
    "vertex": "ANTHROPIC_VERTEX_BASE_URL",
}
_IN_THE_SHELL: Mapping[Cloud, tuple[str, ...]] = {
    "bedrock": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
    "vertex": ("GOOGLE_APPLICATION_CREDENTIALS",),
}
"""What a shell may export besides: it is not used while enrolled."""
_ON = frozenset({"1", "true", "yes", "on"})
_BEARER: Pointer = ("env", "AWS_BEARER_TOKEN_BEDROCK")
_PAIR = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_COMMANDS = {"bedrock": ("awsCredentialExport", "awsAuthRefresh"), "vertex": ("gcpAuthRefresh",)}
_TITLES = {
    "bedrock-api-key": "Bedrock API key (env.AWS_BEARER_TOKEN_BEDROCK)",
    "aws-keys": "AWS keys (env.AWS_ACCESS_KEY_ID and its secret)",
}
_DEFAULT_LOCATION = "us-east5"
"""What Claude Code asks if CLOUD_ML_REGION is not set."""


@dataclass
class CloudWiring:
    """What becomes of the settings, and of other files."""

    edits: list[Edit]
    held: list[str] = field(default_factory=list)
    decoys: tuple[Decoy, ...] = ()


def cloud_of(settings: DocumentFile) -> Cloud:
    """Return which cloud the settings' environment says; empty: none.

    Raises:
        CloudLoginError: one that is not known here, or a gateway that has the login.
    """
    for name in (*_UNKNOWN, *_GATEWAYS):
        if _is_on(settings, name):
            why = "which is not supported" if name in _UNKNOWN else "so that a gateway has the login, not this machine"
            raise CloudLoginError(
                f"{settings.name}: env.{name} is on, {why}",
                next_step="log in at Anthropic, Bedrock or Vertex AI itself and remove the variable, then try again",
            )
    return next((cloud for cloud, name in _SWITCHES if _is_on(settings, name)), "")


def _is_on(settings: DocumentFile, name: str) -> bool:
    value = settings.value(("env", name))
    return value is not MISSING and str(value).strip().lower() in _ON


def take_cloud(survey: HomeSurvey, settings: DocumentFile, cloud: Cloud) -> CloudWiring:
    """Note the credential that Claude uses at a cloud; return how the settings are changed.

    Raises:
        CloudLoginError: there is none that can be moved.
        MisuseError: a file can't be edited.
    """
    wiring = _vertex(survey, settings) if cloud == "vertex" else _bedrock(survey, settings)
    commands = [name for name in _COMMANDS[cloud] if settings.has((name,))]
    wiring.edits += [RemoveMember((name,)) for name in commands]
    wiring.held += [f"{name} (a command of yours), off while enrolled" for name in commands]
    if settings.has(("env", _BASE_URLS[cloud])):
        survey.warnings.append(
            f"{settings.name} sets {_BASE_URLS[cloud]}; while enrolled, requests go to the host of the region, or to "
            f"what the operator configured ([upstream.{cloud}] base_url): make sure that it is the same"
        )
    for export in exports(survey.files, _IN_THE_SHELL[cloud]):
        survey.warnings.append(
            f"{export.place}: {export.name} names a credential that stays, for every process to read"
        )
    return wiring


def _vertex(survey: HomeSurvey, settings: DocumentFile) -> CloudWiring:
    env = _env(settings)
    regions = [env.get("CLOUD_ML_REGION") or _DEFAULT_LOCATION]
    regions += [value for name, value in env.items() if name.startswith("VERTEX_REGION_") and value]
    project = next((env[name] for name in ("ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT") if env.get(name)), "")
    named = env.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    decoy = take_adc(survey, named, regions=" ".join(dict.fromkeys(regions)), project=project)
    token: Pointer = ("env", "ANTHROPIC_AUTH_TOKEN")
    edits: list[Edit] = [
        SetMember(("env", "ANTHROPIC_VERTEX_BASE_URL"), InjectionPath("/v1")),
        SetMember(token, Wire.PHANTOM),
        SetMember(("env", "CLAUDE_CODE_SKIP_VERTEX_AUTH"), "1", follows=token),
    ]
    if not project:
        found = survey.secrets[-1].attributes[PROJECT_ATTRIBUTE]
        edits.append(SetMember(("env", "ANTHROPIC_VERTEX_PROJECT_ID"), found, follows=token))
    return CloudWiring(edits, decoys=(decoy,))


def _bedrock(survey: HomeSurvey, settings: DocumentFile) -> CloudWiring:
    env = _env(settings)
    profile = env.get("AWS_PROFILE") or "default"
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or ""
    edits: list[Edit] = [
        SetMember(("env", "ANTHROPIC_BEDROCK_BASE_URL"), Wire.INJECTION_URL),
        SetMember(_BEARER, Wire.PHANTOM),
    ]
    edits += [RemoveMember(("env", name)) for name in _PAIR if settings.has(("env", name))]
    wiring = CloudWiring(edits)
    own = _bearer(settings, env) or _pair(survey, settings, env)
    if own is not None:
        region = region or region_of(survey, profile) or DEFAULT_REGION
        survey.needles += [own.value] if own.name == "bedrock-api-key" else []
        survey.secrets.append(replace(own, attributes=place_attributes(region)))
        wiring.held.append(_TITLES[own.name])
    elif settings.has(("awsCredentialExport",)) and env.get("AWS_PROFILE") is None:
        raise CloudLoginError(
            "Claude's only credential for Bedrock is what its awsCredentialExport prints; a command's output can't be "
            "moved",
            next_step="give Claude a key that lasts. Either make a Bedrock API key and put it into "
            '~/.claude/settings.json as {"env": {"AWS_BEARER_TOKEN_BEDROCK": ...}}, or keep keys in a profile '
            "(aws configure --profile claude) and name it there as AWS_PROFILE; then: sudo agent-broker enroll "
            "claude, with --profiles for the profile. They are moved from there, and awsCredentialExport is off while "
            "enrolled",
        )
    else:
        wiring.decoys = (take_profile(survey, profile, region),)
        region = survey.secrets[-1].attributes[REGIONS_ATTRIBUTE]
    if not env.get("AWS_REGION"):
        edits.append(SetMember(("env", "AWS_REGION"), region, follows=_BEARER))
    return wiring


def _bearer(settings: DocumentFile, env: dict[str, str]) -> FoundSecret | None:
    token = env.get(_BEARER[-1], "")
    if not token:
        return None
    return FoundSecret("bedrock-api-key", "bedrock-api-key", Secret(token.encode()), settings.path, _BEARER, "text")


def _pair(survey: HomeSurvey, settings: DocumentFile, env: dict[str, str]) -> FoundSecret | None:
    pair = {name: env.get(variable, "") for name, variable in zip(KEY_NAMES, _PAIR, strict=True)}
    if not pair["aws_access_key_id"] or not pair["aws_secret_access_key"]:
        return None
    where: Pointer = ("env", "AWS_SECRET_ACCESS_KEY")
    survey.needles += [Secret(pair[name].encode()) for name in KEY_NAMES[1:] if pair[name]]
    if pair["aws_session_token"]:
        survey.warnings.append("the AWS keys in the settings are temporary: they end within hours; then enroll anew")
    return FoundSecret("aws-keys", "aws-keys", keys_value(pair), settings.path, where, "fixed")


def _env(settings: DocumentFile) -> dict[str, str]:
    """Return the settings' environment; what is no text there is nothing that a credential could be in."""
    env = settings.value(("env",))
    return {name: value for name, value in env.items() if isinstance(value, str)} if isinstance(env, dict) else {}
