"""Where the requests of a cloud's model service go: the host follows from the credential's region, never from a client.

The law of this module:
1. A credential of a cloud is bound to what its record says: for Vertex one project and its locations, for Bedrock one
   region. A request that names another project, location or region is refused; what names none gets the record's.
2. It is used for models alone: their paths are listed here, and whatever is not listed is refused. The same keys would
   open every other service of the account.
3. The host is made of the region's name, which has a region's form; an operator's base_url replaces it.

Paths as Claude Code 2.1.330 and Gemini CLI 0.61.0 were seen to send them.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from yarl import URL

from agent_broker.errors import IntegrityError
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.vault.record import PROJECT_ATTRIBUTE, PROJECT_SHAPE, REGION_SHAPE, REGIONS_ATTRIBUTE

_VERTEX: Final = re.compile(
    r"/(?P<version>v1|v1beta1)/(?:projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/)?"
    r"(?P<model>publishers/[a-z0-9-]+/models/[\w.@%~-]+:(?:rawPredict|streamRawPredict|generateContent"
    r"|streamGenerateContent|countTokens|computeTokens))(?P<query>\?.*)?",
    re.ASCII,
)
_MODEL: Final = re.compile(
    r"/model/(?P<id>[^/?]+)/(?:invoke|invoke-with-response-stream|converse|converse-stream|count-tokens)(?:\?.*)?"
)
_PROFILES: Final = re.compile(r"/inference-profiles(?:/(?P<id>[^/?]+))?(?:\?.*)?")
"""Which models the account has; only read."""
_ARN: Final = re.compile(r"arn:[a-z-]+:bedrock:(?P<region>[a-z0-9-]*):.*", re.IGNORECASE)
_MULTI_REGIONS: Final = frozenset({"us", "eu"})


class VertexUpstream:
    """The models of one project at Google, in some locations; of an API key those of its own project."""

    def __init__(self, attributes: Mapping[str, str], base_url: str, *, is_api_key: bool = False) -> None:
        """Take what the record says; ``base_url``: the operator's, or empty.

        Raises:
            IntegrityError: the record names no project, or no location.
        """
        self._is_api_key = is_api_key
        self._project = attributes.get(PROJECT_ATTRIBUTE, "")
        self._locations = ("global",) if is_api_key else _regions(attributes)
        self._base_url = base_url
        if not is_api_key and not PROJECT_SHAPE.fullmatch(self._project):
            raise _incomplete()

    def url_for(self, target: str, method: str) -> URL:
        """Return the URL for a request's target.

        Raises:
            RequestRefusedError: it is not one to a model of this project and these locations.
        """
        found = _VERTEX.fullmatch(target)
        if found is None or method != "POST" or (self._is_api_key and found["project"]):
            raise _not_a_model()
        if self._is_api_key:  # Vertex AI in express mode: the key says the project
            return URL((self._base_url or f"https://{_vertex_host('global')}") + target, encoded=True)
        project, location = found["project"] or self._project, found["location"] or self._locations[0]
        if project != self._project or location not in self._locations:
            raise RequestRefusedError(
                403,
                "path",
                f"the credential is used for project {self._project} in {', '.join(self._locations)} alone",
                next_step="after a change of project or region: unenroll the agent, then enroll it again",
            )
        path = f"/{found['version']}/projects/{project}/locations/{location}/{found['model']}{found['query'] or ''}"
        return URL((self._base_url or f"https://{_vertex_host(location)}") + path, encoded=True)


class BedrockUpstream:
    """The models of one region of AWS."""

    def __init__(self, attributes: Mapping[str, str], base_url: str) -> None:
        """Take what the record says; ``base_url``: the operator's, or empty.

        Raises:
            IntegrityError: the record names no region.
        """
        self.region = _regions(attributes)[0]
        self._base_url = base_url

    def url_for(self, target: str, method: str) -> URL:
        """Return the URL for a request's target.

        Raises:
            RequestRefusedError: it is not one to a model, or to a model in another region.
        """
        model = _MODEL.fullmatch(target) if method == "POST" else None
        profile = _PROFILES.fullmatch(target) if method == "GET" else None
        found = model or profile
        if found is None:
            raise _not_a_model()
        arn = _ARN.fullmatch(unquote(found["id"] or ""))
        if arn is not None and arn["region"] not in {"", self.region}:
            raise RequestRefusedError(
                403,
                "path",
                f"the credential is used in {self.region} alone, not for a model in another region",
                next_step="after a change of region: unenroll the agent, then enroll it again",
            )
        service = "bedrock-runtime" if model else "bedrock"
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return URL((self._base_url or f"https://{service}.{self.region}.{domain}") + target, encoded=True)


def _regions(attributes: Mapping[str, str]) -> tuple[str, ...]:
    regions = tuple(attributes.get(REGIONS_ATTRIBUTE, "").split())
    if not regions or not all(REGION_SHAPE.fullmatch(each) for each in regions):
        raise _incomplete()
    return regions


def _vertex_host(location: str) -> str:
    """As Google's own clients choose it."""
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _not_a_model() -> RequestRefusedError:
    return RequestRefusedError(
        403,
        "path",
        "the agent's credential is used for the models of its cloud alone, not for this path",
        next_step="start the agent by its own name: agent-broker run does not lead it to a cloud",
    )


def _incomplete() -> IntegrityError:
    return IntegrityError(
        "the stored credential does not say for which region and project it is",
        next_step="store it again: sudo agent-broker unenroll AGENT, then enroll AGENT",
    )
