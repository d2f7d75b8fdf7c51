"""The one upstream that a credential is bound to: scheme, host, port and path prefix.

The law of this module:
1. A credential goes to its upstream and nowhere else. The client chooses the path below the prefix, never the
   scheme, host or port; a path that could climb out of the prefix, however encoded, is refused.
2. https is verified against the system's certificate authorities. Plain http is for a loopback host that the
   operator configured, and for nothing else.
3. Paths whose answer would hand a fresh secret to the agent are refused: the point is that it holds none. So are,
   for a login that opens more than models, all paths but those of the models (inject.kinds).
4. A path of the provider's other service for the same models is asked for under this one's name: whole paths, each of
   them listed in inject.kinds; the client's query stays.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, NewType
from urllib.parse import unquote

from yarl import URL

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.inject.cloud_upstream import BedrockUpstream, VertexUpstream
from agent_broker.inject.kinds import CLOUDS, KINDS, PROVIDERS, SECRET_GIVING_PATHS, Provider
from agent_broker.inject.phantom import mentions_phantom
from agent_broker.vault.file import Credential
from agent_broker.vault.record import BASE_URL_ATTRIBUTE

_TARGET: Final = re.compile(r"(?P<path>/[\w.~!$&'()*+,;=:@%/-]*)(?P<query>\?[\w.~!$&'()*+,;=:@%/?-]*)?", re.ASCII)
"""Origin form, RFC 9112 section 3.2.1, with the characters of RFC 3986 and no others."""

_ENCODES_SLASHES: Final = re.compile(r"/(model|inference-profiles)/[^/]+(/[a-z-]+)?\Z")
"""Bedrock's names of models may hold one (an ARN); what is behind it is looked at like any other segment."""
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_NO_OTHERS: Final[Mapping[str, str]] = {}
_MAX_DECODINGS: Final = 3  # enough for %25252e; a path that still changes after that is refused


Target = NewType("Target", str)
"""A request's target that check_target() has passed."""


def check_target(target: str) -> Target:
    """Return the target of a request, path and query, if it stays below any prefix that is put before it.

    Raises:
        RequestRefusedError: not in origin form, a way out of the prefix, a phantom in it, or a path that would
            give the agent a secret.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        raise RequestRefusedError(400, "target", "the request's target is not a plain path on this endpoint")
    if mentions_phantom(unquote(target)):
        raise RequestRefusedError(400, "phantom-place", "a phantom token came in the URL")
    _check_path(match["path"])
    return Target(target)


class Upstream:
    """Where one provider's credentials go.

    Attributes:
        base_url: scheme, host, port and prefix, without a slash at the end.
    """

    def __init__(
        self,
        base_url: str,
        *,
        from_operator: bool,
        only_below: tuple[str, ...] = (),
        called_here: Mapping[str, str] = _NO_OTHERS,
    ) -> None:
        """Check a base URL; ``only_below``, ``called_here``: see inject.kinds.Provider.

        Raises:
            MisuseError: it is not one that a credential may be sent to.
        """
        url = _parse(base_url)
        if url.scheme == "http" and not (from_operator and _is_loopback(url.host or "")):
            raise MisuseError(
                f"{base_url}: plain http would show the credential to the network",
                next_step="use https; http is for a loopback upstream in config.toml only",
            )
        self.base_url = str(url).rstrip("/")
        self._only_below = only_below
        self._called_here = called_here

    def url_for(self, target: Target, method: str = "") -> URL:  # noqa: ARG002 - that of a cloud needs it
        """Return the upstream's URL for a request's target.

        Raises:
            RequestRefusedError: this credential is not for that path.
        """
        path, mark, query = target.partition("?")
        path = self._called_here.get(path, path)
        if self._only_below and not path.startswith(self._only_below):
            raise RequestRefusedError(403, "path", "the agent's login is used for its models alone, not for this path")
        return URL(f"{self.base_url}{path}{mark}{query}", encoded=True)

    def __repr__(self) -> str:
        return f"Upstream({self.base_url})"


class Upstreams:
    """Which upstream a credential is bound to."""

    def __init__(self, operators: Mapping[str, str] | None = None) -> None:
        """Take the operator's base URLs by provider (inject.kinds); one that is the provider's own is no choice.

        Raises:
            MisuseError: a base URL that no credential may be sent to.
        """
        chosen = {
            name: _upstream(url, PROVIDERS[name], from_operator=True) for name, url in (operators or {}).items() if url
        }
        self._operators = {name: each for name, each in chosen.items() if each.base_url != PROVIDERS[name].base_url}
        self._own: dict[tuple[str, str], Upstream] = {}

    def bound_to(self, credential: Credential) -> Upstream | VertexUpstream | BedrockUpstream:
        """Return the operator's upstream, or else the one recorded with the credential, or else the provider's own.

        Raises:
            MisuseError: the recorded base URL is not one that a credential may be sent to.
            IntegrityError: a kind of credential that can't be injected, or one of a cloud without its region.
        """
        kind = KINDS.get(credential.kind)
        if kind is None:
            raise IntegrityError(
                f"credentials of kind {credential.kind} can't be injected", next_step="agent-broker credentials"
            )
        if kind.provider in CLOUDS:
            operator = self._operators.get(kind.provider)
            base_url = operator.base_url if operator else ""
            if kind.provider == "bedrock":
                return BedrockUpstream(credential.attributes, base_url)
            is_api_key = kind.header != "Authorization"
            return VertexUpstream(credential.attributes, base_url, is_api_key=is_api_key)
        return self._operators.get(kind.provider) or self._recorded(credential, PROVIDERS[kind.provider])

    def _recorded(self, credential: Credential, provider: Provider) -> Upstream:
        own = credential.attributes.get(BASE_URL_ATTRIBUTE, ""), credential.kind
        if own not in self._own:
            self._own[own] = (
                Upstream(own[0], from_operator=False)
                if own[0]
                else _upstream(provider.base_url, provider, from_operator=False)
            )
        return self._own[own]


def _upstream(base_url: str, provider: Provider, *, from_operator: bool) -> Upstream:
    return Upstream(
        base_url, from_operator=from_operator, only_below=provider.only_below, called_here=provider.called_here
    )


def _parse(base_url: str) -> URL:
    try:
        url = URL(base_url)
    except ValueError as error:
        raise MisuseError(f"{base_url!r} is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise MisuseError(f"{base_url!r} is not an http or https URL with a host")
    if url.user or url.password or url.query_string or url.fragment:
        raise MisuseError("an upstream's URL holds scheme, host, port and path only", next_step="remove the rest")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_path(path: str) -> None:
    decoded = path
    for _ in range(_MAX_DECODINGS):
        _check_segments(decoded)
        once_more = unquote(decoded)
        if once_more == decoded:
            break
        if once_more.count("/") != decoded.count("/") and not _ENCODES_SLASHES.match(path):
            raise RequestRefusedError(400, "target", "the request's path holds an encoded slash")
        decoded = once_more
    else:
        raise RequestRefusedError(400, "target", "the request's path is encoded too many times")
    if any(f"{decoded.casefold().rstrip('/')}/".startswith(f"{path}/") for path in SECRET_GIVING_PATHS):
        raise RequestRefusedError(
            403,
            "secret-giving-path",
            "this request would give the agent a secret of its own",
            next_step="log in without the broker and enroll again: sudo agent-broker enroll AGENT",
        )


def _check_segments(path: str) -> None:
    segments = path.split("/")[1:]
    if any(segment in {".", ".."} or segment.startswith(("..;", ".;")) for segment in segments):
        raise RequestRefusedError(400, "target", "the request's path holds '.' or '..'")
    if "" in segments[:-1] or _UNSAFE.search(path):
        raise RequestRefusedError(400, "target", "the request's path holds an empty segment or a control character")
