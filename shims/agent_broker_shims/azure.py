"""What programs of Azure's ask the Azure CLI: ``az account get-access-token``, answered in its place.

Read from azure-identity 1.27 (AzureCliCredential), which executes ``az`` with ``--output json --resource R`` and
perhaps ``--tenant``, and from azure-cli 2.6x (account get-access-token). Every other command is not ours: the person
is told to start the Azure CLI by its path. No sentence of ours says "az login", which would send the program on.

A token is asked for in the name of a tenant, or of the login that az would use itself (``default``).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "azure"
DEFAULT = "default"
_COMMAND = ("account", "get-access-token")
_VALUED = frozenset({"--output", "--resource", "--resource-type", "--scope", "--tenant"})
_SHORT = {"-o": "--output", "-t": "--tenant"}
_RESOURCES = {"arm": "https://management.core.windows.net/", "ms-graph": "https://graph.microsoft.com/"}
"""Of ``--resource-type``: those that programs ask for."""
_MANAGEMENT = "https://management.core.windows.net/"
"""What az gives a token for if nothing is named."""
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SCOPE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]{1,512}")
_NOT_OURS = Answer(
    2,
    stderr=b"agent-broker answers az account get-access-token alone; start the Azure CLI itself by its full path\n",
)


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return what a token is asked for, or where the Azure CLI is.

    Raises:
        NotThisProtocolError: an option that az has and this has not, or a resource that is none.
    """
    del stdin, environment
    if tuple(arguments[:2]) != _COMMAND:
        return _NOT_OURS
    given = list(_options(arguments[2:]))
    options = dict(given)
    if len(options) != len(given):
        raise NotThisProtocolError("an option is there twice")
    tenant = options.get("--tenant", DEFAULT)
    if not _TENANT.fullmatch(tenant) or options.get("--output", "json") != "json":
        raise NotThisProtocolError("a tenant's name, and JSON as the output")
    resource = options.get("--resource", _RESOURCES.get(options.get("--resource-type", ""), _MANAGEMENT))
    scope = options.get("--scope") or f"{resource}/.default"  # as azure.cli.core.auth.util.resource_to_scopes
    return Question(_destination(scope), name=tenant, scope=_wanted(scope))


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what az prints; ``password`` is the token, as the broker has it.

    Raises:
        NotThisProtocolError: it is none.
    """
    del username
    try:
        held = json.loads(password)
        token, ends_s = str(held["access_token"]), int(held["expires_on"])
        tenant = str(held["tenant"])
    except (ValueError, KeyError, TypeError) as error:
        raise NotThisProtocolError("what was minted is no token") from error
    del asked
    said = {"accessToken": token, "expires_on": ends_s, "tenant": tenant, "tokenType": "Bearer"}
    return json.dumps(said).encode() + b"\n"


def not_found(asked: Question) -> Answer:
    """Return what ends the client."""
    del asked
    return Answer(1, stderr=b"agent-broker keeps no login for this tenant; see: agent-broker credentials\n")


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        name = _SHORT.get(name, name)
        if name not in _VALUED:
            raise NotThisProtocolError("an option of az that is not known here")
        value = value if equals else next(words, "")
        if not value:
            raise NotThisProtocolError("an option without its value")
        yield name, value


def _wanted(scope: str) -> str:
    """Return a scope; an application's bare number is one, too."""
    if _GUID.fullmatch(scope.removesuffix("/.default")) or _SCOPE.fullmatch(scope):
        return scope
    raise NotThisProtocolError("a resource is a URL, or an application's number")


def _destination(scope: str) -> str:
    """Return for which server, or application, a token is."""
    resource = scope.removesuffix("/.default")
    if _GUID.fullmatch(resource):
        return f"api://{resource.lower()}"
    parts = urlsplit(_wanted(scope))
    return f"{parts.scheme}://{parts.netloc}"
