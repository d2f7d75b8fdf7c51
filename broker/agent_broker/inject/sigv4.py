"""Requests to AWS, signed with the vault's key: Signature Version 4 by botocore, the reference implementation.

The law of this module:
1. What a client sent of a signature (date, token, digest, Authorization) is dropped; the signature covers method, host,
   path, query, the type and the SHA-256 of the whole body, and every ``x-amz-`` header.
2. It is good for one region and one service (``bedrock`` for an agent), for the minutes that AWS allows.
3. The whole body is read first, since its digest is signed; MAX_BODY_BYTES at most, and only for a caller to whom the
   credential was given.

botocore is imported with the first request that needs it: it costs 55 ms and 6 MB once, and nothing without Bedrock.
"""

import logging
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from agent_broker.errors import IntegrityError
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.vault.secret import Secret

SERVICE: Final = "bedrock"
MAX_BODY_BYTES: Final = 25_000_000
"""What InvokeModel takes (Bedrock API reference, ``body``)."""

_SIGNATURE_HEADERS: Final = ("authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
_TOO_LARGE: Final = 413

logging.getLogger("botocore").setLevel(logging.WARNING)  # its debug lines hold the session token


class AwsKeys(Struct, frozen=True):
    """What the vault holds of a key pair, as JSON; the names are those of ``~/.aws/credentials``."""

    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str = ""
    """Of temporary keys."""

    def __repr__(self) -> str:
        return "<AwsKeys>"


async def whole_body(request: web.BaseRequest) -> bytes:
    """Return a request's body.

    Raises:
        RequestRefusedError: it is longer than MAX_BODY_BYTES.
    """
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestRefusedError(
                _TOO_LARGE, "body", f"the request is longer than {MAX_BODY_BYTES} bytes, the most that Bedrock takes"
            )
    return bytes(body)


def sign(  # noqa: PLR0913 - what a request is made of
    headers: CIMultiDict[str],
    method: str,
    url: URL,
    body: bytes,
    *,
    secret: Secret,
    region: str,
    service: str = SERVICE,
) -> None:
    """Put a signature into the headers of a request, as they will be sent.

    Raises:
        IntegrityError: what is stored is not a key pair.
    """
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - see the module
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    keys = _keys(secret)
    for name in _SIGNATURE_HEADERS:
        headers.popall(name, None)
    if "transfer-encoding" in headers:
        headers.popall("transfer-encoding")
    signed = {name: value for name, value in headers.items() if _is_signed(name)}
    request = AWSRequest(method, str(url), headers=signed, data=body)
    credentials = Credentials(keys.aws_access_key_id, keys.aws_secret_access_key, keys.aws_session_token or None)
    SigV4Auth(credentials, service, region).add_auth(request)
    for name, value in request.headers.items():
        headers[name] = value


def _is_signed(name: str) -> bool:
    lower = name.lower()
    return lower == "content-type" or lower.startswith("x-amz-")


def _keys(secret: Secret) -> AwsKeys:
    try:
        with secret.borrow() as stored:
            keys = msgspec.json.decode(stored, type=AwsKeys)
    except msgspec.DecodeError as error:
        raise _unreadable() from error
    if not all(map(_can_be_sent, (keys.aws_access_key_id, keys.aws_secret_access_key))):
        raise _unreadable()
    if keys.aws_session_token and not _can_be_sent(keys.aws_session_token):
        raise _unreadable()
    return keys


def _can_be_sent(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def _unreadable() -> IntegrityError:
    return IntegrityError(
        "the stored AWS key can't be read",
        next_step="store it again: sudo agent-broker unenroll AGENT, then enroll AGENT",
    )
