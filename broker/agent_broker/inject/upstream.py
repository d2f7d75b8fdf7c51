"""The one upstream that a credential is bound to: scheme, host, port and path prefix.

The law of this module:
1. A credential goes to its upstream and nowhere else. The client chooses the path below the prefix, never the
   scheme, host or port; a path that could climb out of the prefix, however encoded, is refused.
2. https is verified against the system's certificate authorities. Plain http is for a loopback host that the
   operator configured, and for nothing else.
3. Paths whose answer would hand a fresh secret to the agent are refused: the point is that it holds none.
"""

import ipaddress
import re
from typing import Final, NewType
from urllib.parse import unquote

from yarl import URL

from agent_broker.errors import MisuseError
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.inject.phantom import mentions_phantom
from agent_broker.vault.file import Credential

ANTHROPIC_BASE_URL: Final = "https://api.anthropic.com"

BASE_URL_ATTRIBUTE: Final = "base_url"
"""Attribute of a credential that belongs to another host (a gateway's token): set at enrolment, https only."""

_SECRET_GIVING_PATHS: Final = ("/api/oauth/claude_cli/create_api_key", "/v1/oauth/token")
_TARGET: Final = re.compile(r"(?P<path>/[\w.~!$&'()*+,;=:@%/-]*)(?P<query>\?[\w.~!$&'()*+,;=:@%/?-]*)?", re.ASCII)
"""Origin form, RFC 9112 section 3.2.1, with the characters of RFC 3986 and no others."""

_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
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

    def __init__(self, base_url: str, *, from_operator: bool) -> None:
        """Check a base URL.

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

    def url_for(self, target: Target) -> URL:
        """Return the upstream's URL for a request's target."""
        return URL(self.base_url + target, encoded=True)

    def __repr__(self) -> str:
        return f"Upstream({self.base_url})"


class Upstreams:
    """Which upstream a credential is bound to."""

    def __init__(self, operator_base_url: str = "") -> None:
        """Take the operator's ``[upstream.anthropic] base_url``; empty, or the provider's own: not configured.

        Raises:
            MisuseError: a base URL that no credential may be sent to.
        """
        configured = Upstream(operator_base_url or ANTHROPIC_BASE_URL, from_operator=True)
        self._default = Upstream(ANTHROPIC_BASE_URL, from_operator=False)
        self._operator = configured if configured.base_url != self._default.base_url else None
        self._own: dict[str, Upstream] = {}

    def bound_to(self, credential: Credential) -> Upstream:
        """Return the operator's upstream, or else the one recorded with the credential, or else the provider's own.

        Raises:
            MisuseError: the recorded base URL is not one that a credential may be sent to.
        """
        if self._operator:
            return self._operator
        own = credential.attributes.get(BASE_URL_ATTRIBUTE, "")
        if not own:
            return self._default
        if own not in self._own:
            self._own[own] = Upstream(own, from_operator=False)
        return self._own[own]


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
        if once_more.count("/") != decoded.count("/"):
            raise RequestRefusedError(400, "target", "the request's path holds an encoded slash")
        decoded = once_more
    else:
        raise RequestRefusedError(400, "target", "the request's path is encoded too many times")
    if decoded.casefold().rstrip("/") in _SECRET_GIVING_PATHS:
        raise RequestRefusedError(
            403,
            "secret-giving-path",
            "this request would give the agent a secret of its own",
            next_step="log in without the broker and enroll again: sudo agent-broker enroll claude",
        )


def _check_segments(path: str) -> None:
    segments = path.split("/")[1:]
    if any(segment in {".", ".."} or segment.startswith(("..;", ".;")) for segment in segments):
        raise RequestRefusedError(400, "target", "the request's path holds '.' or '..'")
    if "" in segments[:-1] or _UNSAFE.search(path):
        raise RequestRefusedError(400, "target", "the request's path holds an empty segment or a control character")
