"""How a refusal reads on the wire: the provider's own error shape, so that the agent shows the sentence.

Every answer that the broker makes up itself comes from here. It says what to do next and never holds a header's
value. ``x-should-retry: false`` tells the provider's client libraries that asking again at once is useless;
only a provider that does not answer is worth a retry.
"""

import json
from typing import Final

from aiohttp import web

from agent_broker.errors import AgentBrokerError, RefusedError, UnavailableError
from agent_broker.ids import CredentialId, parts_of

SERVER_NAME: Final = "agent-broker"

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
}  # https://docs.claude.com/en/api/errors; anything else: api_error


class RequestRefusedError(RefusedError):
    """The request itself is not one that the endpoint serves.

    Attributes:
        status: of the HTTP answer.
    """

    def __init__(self, status: int, rule: str, message: str, *, next_step: str = "") -> None:
        super().__init__(rule, message, next_step=next_step)
        self.status = status


class ProviderError(UnavailableError):
    """The provider can't be reached, or did not answer as HTTP.

    Attributes:
        status: of the HTTP answer: 502, or 504 if it was too slow.
    """

    def __init__(self, message: str, *, status: int = 502, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.status = status


class LoginEndedError(UnavailableError):
    """The provider gives no more tokens for a login: only a new one helps.

    Attributes:
        status: of the HTTP answer.
    """

    status = 401


def login_command(credential: CredentialId) -> str:
    """Return the command that renews a login, or an account's key."""
    agent, _, name = parts_of(credential)
    account, _, key = name.rpartition("/")
    return f"sudo agent-broker login {agent}" + (f" --as {account}" if account and key else "")


def answer_error(error: AgentBrokerError) -> web.Response:
    """Return the HTTP answer for an error; the connection ends with it, so a new one is attested anew."""
    response = answer_status(_status_of(error), error.explain(), retry=isinstance(error, ProviderError))
    response.force_close()
    return response


def answer_status(status: int, message: str, *, retry: bool = False) -> web.Response:
    """Return an answer in the provider's error shape."""
    body = {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": f"agent-broker: {message}"}}
    headers = {"Server": SERVER_NAME}
    if not retry:
        headers["x-should-retry"] = "false"
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers)


def _raw(status: str, message: str, *, retry: bool) -> bytes:
    """Return a whole answer for a connection that gets no handler."""
    kind = _TYPES.get(int(status[:3]), "api_error")
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"agent-broker: {message}"}})
    head = (
        f"HTTP/1.1 {status}",
        f"Server: {SERVER_NAME}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"x-should-retry: {str(retry).lower()}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", body)).encode()


NO_PLACE: Final = _raw("503 Service Unavailable", "too many connections at once; try again in a moment", retry=True)
FLOOD: Final = _raw(
    "429 Too Many Requests",
    "this process connects too often, or was refused too often; wait ten seconds, then ask once",
    retry=False,
)
"""The two for connections that are turned away before a byte of them was read."""


def _status_of(error: AgentBrokerError) -> int:
    match error:
        case RequestRefusedError() | ProviderError() | LoginEndedError():
            return error.status
        case RefusedError():
            return 403
        case UnavailableError():
            return 503
    return 500
