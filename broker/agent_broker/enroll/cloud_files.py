"""What both clouds' files have in common: other programs read them too, so they are moved only if their owner agrees.

The law of this module: a file outside the agent's own folder is not even opened before its owner agreed
(``--profiles``, as for exported variables), and never if it holds a decoy of ours.
"""

from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.errors import MisuseError
from agent_broker.vault.record import PROJECT_ATTRIBUTE, PROJECT_SHAPE, REGION_SHAPE, REGIONS_ATTRIBUTE


class CloudLoginError(MisuseError):
    """An agent's login at a cloud can't be moved; says why, and what to do."""


def require_consent(survey: HomeSurvey, path: str, others: str, instead: str) -> None:
    """Make sure that a file may be changed that other programs use.

    Args:
        survey: whose.
        path: relative to the home.
        others: who else reads it, for people.
        instead: what gives the agent a login of its own, for people.

    Raises:
        CloudLoginError: its owner was not asked, or it holds a decoy.
    """
    name = survey.files.absolute(path)
    if survey.exports is not None and name in survey.exports.decoys:
        raise CloudLoginError(
            f"{name} holds a decoy: another enrolment moved what was in it",
            next_step=f"give this agent a login of its own: {instead}; or unenroll the other one first "
            "(agent-broker agents lists them)",
        )
    if survey.exports is None or not survey.exports.move:
        raise CloudLoginError(
            f"the agent's login lies in {name}, which {others} read too; once it is moved they find a decoy there",
            next_step=f"agree to that with --profiles; or give the agent a login of its own: {instead}",
        )
    survey.files.check_folder(path.rpartition("/")[0] or ".")


def below_home(survey: HomeSurvey, absolute: str) -> str:
    """Return a file's path relative to the home.

    Raises:
        CloudLoginError: it lies elsewhere, or its path has ``..`` in it.
    """
    home = f"{survey.owner.home.rstrip('/')}/"
    relative = absolute.removeprefix(home)
    if relative == absolute or not relative or any(part in {"", ".", ".."} for part in relative.split("/")):
        raise CloudLoginError(
            "GOOGLE_APPLICATION_CREDENTIALS names a file that is not in the user's home, or not by its plain path",
            next_step="move the file into the home, name it there by its absolute path, then try again",
        )
    return relative


def place_attributes(regions: str, project: str | None = None) -> dict[str, str]:
    """Return the attributes of a credential that is used in these regions, and for this project at Google.

    Raises:
        CloudLoginError: one of them has not the form of a region, or of a project.
    """
    if not all(REGION_SHAPE.fullmatch(each) for each in regions.split()):
        raise CloudLoginError(
            "what the agent's settings name as a region has not the form of one",
            next_step="name it as the cloud does (us-east-1, europe-west4, global), then try again",
        )
    if project is None:
        return {REGIONS_ATTRIBUTE: regions}
    if not PROJECT_SHAPE.fullmatch(project):
        raise CloudLoginError(
            "it is not known for which project the agent is to use Vertex AI",
            next_step="set ANTHROPIC_VERTEX_PROJECT_ID in Claude's settings (Gemini: GOOGLE_CLOUD_PROJECT in "
            "~/.gemini/.env), then try again",
        )
    return {REGIONS_ATTRIBUTE: regions, PROJECT_ATTRIBUTE: project}
