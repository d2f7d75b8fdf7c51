"""Google's application default credentials as an agent's login for Vertex AI: a user's, or a service account's key.

Found where Google's libraries look: the file that GOOGLE_APPLICATION_CREDENTIALS names, or gcloud's own. Moved whole;
in its place stays the same file with a decoy where the secret was, so that a thief takes it for genuine. What holds no
secret that could be moved (workload identity, impersonation) is refused with the reason.
"""

import json

from agent_broker.enroll.cloud_files import CloudLoginError, below_home, place_attributes, require_consent
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import Decoy, FoundSecret, SetMember
from agent_broker.honeytoken.keys import rsa_private_key
from agent_broker.honeytoken.likeness import decoy_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.vault.record import ACCOUNT_ATTRIBUTE
from agent_broker.vault.secret import Secret

NAME = "google-adc"
"""The last part of the credential's id."""
DEFAULT_PATH = ".config/gcloud/application_default_credentials.json"

_OTHERS = "gcloud's client libraries, Terraform and others"
_INSTEAD = (
    "a service account's key in a file of its own, named as GOOGLE_APPLICATION_CREDENTIALS in the agent's settings "
    "(Claude: env of ~/.claude/settings.json, Gemini: ~/.gemini/.env)"
)
_USER: tuple[Pointer, ...] = (("refresh_token",),)
_SERVICE_ACCOUNT: tuple[Pointer, ...] = (("private_key",), ("private_key_id",))
_KINDS = {"authorized_user": ("google-adc", _USER), "service_account": ("google-service-account", _SERVICE_ACCOUNT)}
_NEEDED = {"authorized_user": ("client_id", "client_secret"), "service_account": ("client_email",)}
_REFUSED = {
    "external_account": "it gets its token from another system for each use, so there is nothing to move",
    "external_account_authorized_user": "it belongs to a workforce pool, whose refresh the broker does not know",
    "impersonated_service_account": "it impersonates a service account by another login",
}


def take_adc(survey: HomeSurvey, named: str, *, regions: str, project: str) -> Decoy:
    """Note the login, what becomes of its file, and its row of the plan; return the decoy that will lie there.

    Args:
        survey: what it is noted in.
        named: what GOOGLE_APPLICATION_CREDENTIALS says; empty: gcloud's own file.
        regions: where it is used, with a space between two.
        project: for which project; empty: the file's own.

    Raises:
        CloudLoginError: it can't be moved; its owner did not agree; there is none.
        MisuseError: the file can't be edited.
    """
    path = below_home(survey, named) if named else DEFAULT_PATH
    if survey.files.look(path) is None:
        raise CloudLoginError(
            f"there is no {survey.files.absolute(path)}: no login for Vertex AI was found",
            next_step="gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; then try again",
        )
    require_consent(survey, path, _OTHERS, _INSTEAD)
    file = DocumentFile.load(survey.files, path)
    kind, secret_members = kind_of(file)
    whole = {name: file.value((name,)) for name in file.members()}
    value = Secret(json.dumps(whole).encode())
    found = place_attributes(regions, project or _project_in(file))
    if quota := file.text(("quota_project_id",)):
        found[ACCOUNT_ATTRIBUTE] = quota
    survey.secrets.append(FoundSecret(NAME, kind, value, path, secret_members[0], "fixed", found))
    survey.needles.append(needle_of(file.text(secret_members[0]) or ""))
    edits = decoy_edits(file, secret_members)
    survey.change(file, list(edits), title_of(kind), "secret to the vault; a decoy of the same shape instead, watched")
    values = digests_of(str(edit.value) for edit in edits)
    return Decoy(path, kind, values, shared=path == DEFAULT_PATH)


def kind_of(file: DocumentFile) -> tuple[str, tuple[Pointer, ...]]:
    """Return the vault's kind of a login, and the members that are secret.

    Raises:
        CloudLoginError: it can't be moved; says why.
    """
    kind = file.text(("type",)) or ""
    if kind not in _KINDS:
        why = _REFUSED.get(kind, "it is of no kind that is known here")
        raise CloudLoginError(
            f"{file.name} can't be moved: {why}",
            next_step="use a service account's key, or gcloud auth application-default login; then try again",
        )
    name, members = _KINDS[kind]
    missing = [each for each in (*_NEEDED[kind], members[0][0]) if not file.text((each,))]
    if missing:
        raise CloudLoginError(f"{file.name} has no {missing[0]}", next_step="log in again, then try again")
    return name, members


def decoy_edits(file: DocumentFile, members: tuple[Pointer, ...]) -> tuple[SetMember, ...]:
    """Return what puts values of the same shape in the place of the secret ones."""
    edits: list[SetMember] = []
    for member in members:
        had = file.text(member)
        if had:
            edits.append(SetMember(member, rsa_private_key() if member == ("private_key",) else decoy_like(had)))
    return tuple(edits)


def _project_in(file: DocumentFile) -> str:
    return file.text(("project_id",)) or file.text(("quota_project_id",)) or ""


def needle_of(secret: str) -> Secret:
    """Return what a copy of a secret would hold; of a key, whatever way it is written down: a line from its middle."""
    lines = [line for line in secret.splitlines() if not line.startswith("-----")]
    return Secret(lines[len(lines) // 2].encode())


def title_of(kind: str) -> str:
    """Return what people call it."""
    return "login of a user at Google" if kind == "google-adc" else "service account's key"
