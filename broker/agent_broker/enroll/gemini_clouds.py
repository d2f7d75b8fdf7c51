"""Gemini CLI at Vertex AI: which credential it uses there, and how it is wired.

Gemini's own order (observed with 0.61): GOOGLE_API_KEY, else GOOGLE_CLOUD_PROJECT, GOOGLE_CLOUD_LOCATION and
application default credentials (enroll.google_adc), all of ``~/.gemini/.env`` or the environment.

Wiring: GOOGLE_VERTEX_BASE_URL is the broker's address and GOOGLE_API_KEY the phantom: with a key Gemini asks Google for
no token, and names no project in its requests. The broker puts the credential's project and location in.
"""

from agent_broker.enroll.cloud_files import CloudLoginError
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.google_adc import take_adc
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import Decoy, Edit, FoundSecret, SetMember, Wire
from agent_broker.vault.secret import Secret

VERTEX = "vertex-ai"
"""Gemini's own word for it."""

_API_KEY: Pointer = ("GOOGLE_API_KEY",)


def take_vertex(survey: HomeSurvey, env: DocumentFile) -> tuple[Decoy, ...]:
    """Note the credential that Gemini uses for Vertex AI; return the decoy for its place, if it was a file.

    Raises:
        CloudLoginError: there is none that can be moved.
        MisuseError: a file can't be edited.
    """
    key = env.text(_API_KEY)
    if key:
        value = Secret(key.encode())
        survey.secrets.append(FoundSecret("vertex-api-key", "vertex-api-key", value, env.path, _API_KEY, "text"))
        survey.needles.append(value)
        return ()
    location = env.text(("GOOGLE_CLOUD_LOCATION",))
    project = env.text(("GOOGLE_CLOUD_PROJECT",))
    if not location:
        raise CloudLoginError(
            f"{env.name} does not say where Gemini is to use Vertex AI",
            next_step="put GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION into that file, then try again",
        )
    named = env.text(("GOOGLE_APPLICATION_CREDENTIALS",)) or ""
    return (take_adc(survey, named, regions=location, project=project or ""),)


def vertex_edits(env: DocumentFile) -> list[Edit]:
    """Return how ``~/.gemini/.env`` is changed."""
    edits: list[Edit] = [
        SetMember(_API_KEY, Wire.PHANTOM),
        SetMember(("GOOGLE_VERTEX_BASE_URL",), Wire.INJECTION_URL),
    ]
    if env.text(("GOOGLE_GENAI_USE_VERTEXAI",)) != "true":
        edits.append(SetMember(("GOOGLE_GENAI_USE_VERTEXAI",), "true", follows=_API_KEY))
    return edits
