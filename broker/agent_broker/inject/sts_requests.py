"""One request to AWS's STS, made and read by botocore, the reference implementation; nothing is sent here.

Which action a stored pair allows: a role is assumed (AssumeRole); a user's own pair gets a session (GetSessionToken),
or a narrowed one (GetFederationToken), since GetSessionToken takes no session policy. Sessions last LIFETIME_S: with
less than 15 minutes left every use of an SDK asks again, and a role may forbid more than an hour.

The model of STS is that of botocore's own files; what lies in a home (``~/.aws/models``) is not looked at.
"""

import functools
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from agent_broker.errors import UnavailableError
from agent_broker.inject.sigv4 import sign
from agent_broker.vault.record import (
    EXTERNAL_ID_ATTRIBUTE,
    REGIONS_ATTRIBUTE,
    ROLE_ATTRIBUTE,
    ROLE_SESSION_ATTRIBUTE,
    Credential,
)
from agent_broker.vault.secret import Secret

if TYPE_CHECKING:
    from botocore.model import OperationModel

LIFETIME_S: Final = 3600
_NAME: Final = "agent-broker"
"""Of sessions, in AWS's logs, where the profile names none."""
_SERVICE: Final = "sts"
_GLOBAL_REGION: Final = "us-east-1"
_OK: Final = 200
_MAX_SAID_CHARS: Final = 200


class StsRequest(Struct, frozen=True):
    """What is posted, signed."""

    action: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes

    def __repr__(self) -> str:
        return f"<StsRequest {self.action}>"


class StsRefusal(Struct, frozen=True):
    """What STS said instead of a session."""

    code: str
    text: str
    """Its own words, printable and cut; no secret is in them."""


class StsSession(Struct, frozen=True):
    """A session as STS gave it."""

    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str
    expiration: str
    """As AWS writes it: ``2026-01-31T12:00:00Z``."""
    ends_s: float
    """The same, Unix time by STS's clock."""

    def __repr__(self) -> str:
        return "<StsSession>"

    def as_secret(self) -> Secret:
        """Return it in the form in which a pair is kept."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "ends_s"}
        return Secret(msgspec.json.encode(fields))


def session_request(credential: Credential, secret: Secret, narrowed: str, base_url: str) -> StsRequest:
    """Return the signed request for a session.

    Args:
        credential: whose attributes name the role and the region.
        secret: the stored pair.
        narrowed: a session policy (policy.narrowing); empty: none.
        base_url: where the operator has STS; empty: AWS's own, of the credential's region.

    Raises:
        IntegrityError: what is stored is no pair.
    """
    from botocore.serialize import create_serializer  # noqa: PLC0415 - a third of a second that only this needs

    action, parameters = _asked(credential.attributes, narrowed)
    region = (credential.attributes.get(REGIONS_ATTRIBUTE, "").split() or [_GLOBAL_REGION])[0]
    composed = create_serializer("query").serialize_to_request(parameters, _operation(action))
    body = URL.build(query=composed["body"]).raw_query_string.encode()
    headers = CIMultiDict({"Content-Type": composed["headers"]["Content-Type"]})
    url = URL(base_url or _own_url(credential.attributes, region))
    sign(headers, "POST", url, body, secret=secret, region=region, service=_SERVICE)
    return StsRequest(action, url, headers, body)


def read_answer(action: str, status: int, body: bytes) -> StsSession | StsRefusal:
    """Return what STS answered.

    Raises:
        UnavailableError: it is no answer of STS's.
    """
    from botocore.parsers import ResponseParserError, create_parser  # noqa: PLC0415

    try:
        answer = {"status_code": status, "headers": {}, "body": body}
        parsed = create_parser("query").parse(answer, _operation(action).output_shape)
        if status != _OK:
            error = parsed.get("Error", {})
            return StsRefusal(str(error.get("Code", status)), _printable(str(error.get("Message", ""))))
        given = parsed["Credentials"]
        ends = given["Expiration"]
        return StsSession(
            given["AccessKeyId"],
            given["SecretAccessKey"],
            given["SessionToken"],
            ends.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            ends.timestamp(),
        )
    except (ResponseParserError, KeyError, AttributeError, ValueError):
        # not as its cause: botocore's message quotes the answer, which may hold a session
        raise UnavailableError(f"STS answers {status}, and gives no session") from None


def _asked(attributes: dict[str, str], narrowed: str) -> tuple[str, dict[str, object]]:
    narrowing: dict[str, object] = {}
    if narrowed.startswith("{"):
        narrowing = {"Policy": narrowed}
    elif narrowed:
        narrowing = {"PolicyArns": [{"arn": arn} for arn in narrowed.split()]}
    common = {"DurationSeconds": LIFETIME_S, **narrowing}
    role = attributes.get(ROLE_ATTRIBUTE, "")
    if role:
        external = attributes.get(EXTERNAL_ID_ATTRIBUTE, "")
        named = {"RoleArn": role, "RoleSessionName": attributes.get(ROLE_SESSION_ATTRIBUTE, _NAME)}
        return "AssumeRole", {**common, **named, **({"ExternalId": external} if external else {})}
    if narrowed:
        return "GetFederationToken", {**common, "Name": _NAME}
    return "GetSessionToken", common


def _own_url(attributes: dict[str, str], region: str) -> str:
    if not attributes.get(REGIONS_ATTRIBUTE):
        return "https://sts.amazonaws.com"
    return f"https://sts.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


@functools.cache
def _operation(action: str) -> "OperationModel":
    import botocore  # noqa: PLC0415
    from botocore.loaders import Loader  # noqa: PLC0415
    from botocore.model import ServiceModel  # noqa: PLC0415

    own = str(Path(botocore.__file__).parent / "data")
    loader = Loader(extra_search_paths=[own], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model(_SERVICE, "service-2"), _SERVICE).operation_model(action)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_SAID_CHARS])
