"""What a settings file said before and says now: one line a change, secrets redacted.

A file is kept as what may be shown of it, and a keyed digest of each value, so that a changed secret is a change
though neither is kept. JSON (comments allowed, as the agents do) and TOML are compared by key, ``.env`` by variable,
YAML and what can't be parsed by line. Everything is bounded: a hostile file costs no more than a large one.
"""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator

from msgspec import Struct

from agent_broker.monitor.settings_text import (
    SECRET_LINE,
    is_secret_name,
    is_secret_option,
    redacted,
    shown_name,
    shown_text,
    shown_value,
)

MAX_FILE_BYTES = 4 << 20
MAX_LINES = 24
MAX_LINE_CHARS = 480
_MAX_LEAVES = 5_000
_MAX_DEPTH = 40
_MAX_COMMENTED_CHARS = 256 << 10
_MATCHED_CHARS = 64
_SEARCHED_CHARS = 1024  # more than is ever shown of a line
_MAX_SHOWN_NAMES = 12
_KEY = os.urandom(32)

_MATTERS = re.compile(
    r"^(hooks?|mcp.?servers|mcp|apiKeyHelper|aws(CredentialExport|AuthRefresh)|gcpAuthRefresh|proxyAuthHelper"
    r"|otelHeadersHelper|statusLine|fileSuggestion|env|permissions?|allow(ed)?.*|deny|additionalDirectories"
    r"|.*base.?url|.*api.?base|.*endpoint|.*proxy.*|model_providers?|notify|shell_environment_policy|sandbox.*|approval.*"
    r"|.*mcpjson.*|enableAllProjectMcpServers|hasTrustDialogAccepted|bypassPermissions.*|skipDangerous.*"
    r"|disable.*|.*api.?key.*|forceLogin.*|enabledPlugins|extraKnownMarketplaces|trust.*|security|tools?"
    r"|toolDiscoveryCommand|toolCallCommand|extensions|plugins|auth|selectedType|.*command.*|headers|oauthAccount)$",
    re.IGNORECASE,
)
"""Names of what decides which programs an agent runs, where it sends requests, and what it may do unasked."""


class Leaf(Struct, frozen=True):
    """One value of a file."""

    shown: str
    digest: bytes
    matters: bool


_LINE = "line"

Snapshot = dict[str, Leaf]
"""By the way to the value (``hooks.Stop[0].command``), escaped."""


def snapshot(data: bytes, form: str, *, hot: bool) -> Snapshot:
    """Return what is kept of a file; of a ``hot`` one only what matters.

    Args:
        data: its content, at most MAX_FILE_BYTES.
        form: ``json``, ``toml``, ``env`` or ``yaml``; one that can't be parsed as that is taken by line.
        hot: see registry.SettingsFile.
    """
    text = data.decode(errors="surrogateescape")
    found: Snapshot = {}
    for names, value, secret in _leaves(text, form):
        matters = any(_MATTERS.match(name[:_MATCHED_CHARS]) for name in names) or names[:1] == (_LINE,)
        if hot and not matters:
            continue
        if len(found) >= _MAX_LEAVES:
            found["(more than can be compared)"] = Leaf("", _digest(text), matters=True)
            break
        way = _way(names)
        if way in found:  # two keys that are shown alike
            way = f"{way} #{_digest(names).hex()}"
        found[way] = Leaf(shown_value(value, names, secret=secret), _digest((names, value)), matters)
    return found


def difference(before: Snapshot | None, after: Snapshot | None) -> tuple[tuple[str, ...], bool]:
    """Return one line a change, at most MAX_LINES, those that matter first; and whether one of all matters.

    None: there is, or was, no file.
    """
    if before is None and after is None:
        return (), False
    old, new = before or {}, after or {}
    changed = [way for way in {**old, **new} if _digest_of(old, way) != _digest_of(new, way)]
    changed.sort(key=lambda way: not (new.get(way) or old[way]).matters)
    lines = ["the file was made"] if before is None else ["the file was removed"] if after is None else []
    lines += [_line(way, old.get(way), new.get(way)) for way in changed[:MAX_LINES]]
    if len(changed) > MAX_LINES:
        lines.append(f"... and {len(changed) - MAX_LINES} more changes")
    return tuple(lines), any((new.get(way) or old[way]).matters for way in changed)


def _line(way: str, old: Leaf | None, new: Leaf | None) -> str:
    if old is None and new is not None:
        line = f"{way}: added {new.shown}"
    elif new is None and old is not None:
        line = f"{way}: removed {old.shown}"
    else:
        line = f"{way}: {old.shown if old else ''} -> {new.shown if new else ''}"
    return line if len(line) <= MAX_LINE_CHARS else line[:MAX_LINE_CHARS] + "..."


def _digest_of(leaves: Snapshot, way: str) -> bytes:
    return leaves[way].digest if way in leaves else b""


def _digest(value: object) -> bytes:
    text = repr(value).encode(errors="surrogateescape")
    return hashlib.blake2b(text, key=_KEY, digest_size=16).digest()


def _way(names: tuple[str, ...]) -> str:
    shown = [shown_name(name) for name in names[:_MAX_SHOWN_NAMES]]
    way = "".join(name if name.startswith("[") else f".{name}" for name in shown).removeprefix(".")
    return way if len(names) <= _MAX_SHOWN_NAMES else f"{way}..."


_Found = tuple[tuple[str, ...], object, bool]
"""Keys, value, whether it stands where secrets stand."""


def _leaves(text: str, form: str) -> Iterator[_Found]:
    if form == "env":
        return _lines_of_env(text)
    if form == "yaml":
        return _lines_of_yaml(text)
    try:
        parsed = tomllib.loads(text) if form == "toml" else _parse_json(text)
    except (ValueError, RecursionError):
        return _lines(text)
    return _walk(parsed, (), secret=False)


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        if len(text) > _MAX_COMMENTED_CHARS:  # one substitution holds up every other thread
            raise
        return json.loads(_COMMENT.sub(lambda found: found[1] or " ", text))


_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*+")|//[^\n]*|/\*.*?\*/', re.DOTALL)


def _walk(value: object, names: tuple[str, ...], *, secret: bool) -> Iterator[_Found]:
    if isinstance(value, dict) and value and len(names) < _MAX_DEPTH:
        for name, each in value.items():
            yield from _walk(each, (*names, str(name)), secret=secret or is_secret_name(str(name)))
    elif isinstance(value, list) and value and len(names) < _MAX_DEPTH:
        behind_option = False
        for number, each in enumerate(value):
            yield from _walk(each, (*names, f"[{number}]"), secret=secret or behind_option)
            behind_option = isinstance(each, str) and is_secret_option(each)
    elif names or value not in ({}, []):
        yield names, value, secret or len(names) >= _MAX_DEPTH


def _lines_of_env(text: str) -> Iterator[_Found]:
    for number, line in enumerate(text.splitlines(), 1):
        name, assigned, value = line.removeprefix("export ").partition("=")
        if assigned and re.fullmatch(r"\s*[A-Za-z_][A-Za-z0-9_]*\s*", name):
            yield ("env", name.strip()), value.strip().strip("\"'"), True
        elif line.strip() and not line.lstrip().startswith("#"):
            yield ("env", f"line {number}"), line, True


def _lines_of_yaml(text: str) -> Iterator[_Found]:
    """Yield a line each, without a parser for what a hostile user wrote: names are shown, of values addresses only."""
    above = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, colon, value = stripped.partition(":")
        if colon and re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII):
            above = name
            yield (name,), value.strip().strip("\"'"), True
        else:
            yield (above or "yaml", f"line {number}"), stripped, True


def _lines(text: str) -> Iterator[_Found]:
    """Yield the lines of a file that no parser understands; each way is the line, so that moved lines are no change."""
    for line in dict.fromkeys(each.strip() for each in text.splitlines() if each.strip()):
        shown = redacted(len(line)) if SECRET_LINE.search(line[:_SEARCHED_CHARS]) else shown_text(line)
        yield (_LINE, _digest(line).hex()[:6]), shown, False
